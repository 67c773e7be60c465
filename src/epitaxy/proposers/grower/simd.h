// ---- epx: vectors of any width, and scalars, under one set of names ---------------------------
// vf<N>, vi<N>, vd<N>: float, int32, double in N lanes (N a power of two; N = 1 is the scalar).
// Up to the native register they are compiler vectors; above it a `wide` pair of halves (compilers
// keep over-wide vectors in memory). Comparisons give masks (lanes 0 or -1; bool for a scalar).
// Meant for -O3 -march=native -ffp-contract=fast and no -ffast-math: NaN and inf keep their meaning.
#ifndef EPX_SIMD_H
#define EPX_SIMD_H
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#if defined(__AVX2__) && !defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
// Only what is used: gcc takes 0.6 s to read the whole of immintrin.h.
#define _IMMINTRIN_H_INCLUDED
#include <smmintrin.h>
#include <avxintrin.h>
#include <avx2intrin.h>
#include <fmaintrin.h>
#include <f16cintrin.h>
#elif defined(__x86_64__)
#include <immintrin.h>
#endif
#define EPX inline __attribute__((always_inline))

namespace epx {

// ---- types -------------------------------------------------------------------------------------
#if defined(__AVX512F__)
constexpr int native_bytes = 64;
#elif defined(__AVX2__)
constexpr int native_bytes = 32;
#else
constexpr int native_bytes = 16;
#endif
struct bf16 { uint16_t bits; };  // storage formats: load and store convert
struct f16 { uint16_t bits; };
constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

template <class H> struct wide;
template <class T, int N, bool Fits = (sizeof(T) * N <= native_bytes)> struct vec_ {
    typedef T type __attribute__((vector_size(sizeof(T) * N)));
};
template <class T, int N> struct vec_<T, N, false> { using type = wide<typename vec_<T, N / 2>::type>; };
template <class T> struct vec_<T, 1, true> { using type = T; };
template <class T, int N> using vec = typename vec_<T, N>::type;
template <int N> using vf = vec<float, N>;
template <int N> using vi = vec<int32_t, N>;
template <int N> using vd = vec<double, N>;

template <class V, class = void> struct elem_ {
    using type = std::remove_cv_t<std::remove_reference_t<decltype(std::declval<V&>()[0])>>;
};
template <class T> struct elem_<T, std::enable_if_t<std::is_arithmetic_v<T>>> { using type = T; };
template <class H> struct elem_<wide<H>, void> : elem_<H> {};
template <class V> using elem = typename elem_<V>::type;
template <class V> constexpr int lanes = int(sizeof(V) / sizeof(elem<V>));
template <class V, class T> using rebind = vec<T, lanes<V>>;  // the same lanes, other elements
template <class V> using ints = rebind<V, std::conditional_t<sizeof(elem<V>) == 8, int64_t, int32_t>>;
template <class V> constexpr bool is_wide = false;
template <class H> constexpr bool is_wide<wide<H>> = true;
template <class V> constexpr bool is_scalar = std::is_arithmetic_v<V>;
template <class V> constexpr bool is_float = std::is_floating_point_v<elem<V>>;

template <class H> struct wide {
    H lo, hi;
    EPX elem<H> operator[](int i) const {
        return i < lanes<H> ? lane_(lo, i) : lane_(hi, i - lanes<H>);
    }
    template <class A> static EPX elem<H> lane_(const A& a, int i) {
        if constexpr (is_scalar<A>) return a; else return a[i];
    }
    EPX wide operator-() const { return {-lo, -hi}; }
    EPX wide operator~() const { return {~lo, ~hi}; }
    EPX auto operator!() const { return wide<decltype(!lo)>{!lo, !hi}; }
};
#define EPX_OP(op) \
    template <class H> EPX auto operator op(wide<H> a, wide<H> b) { \
        return wide<decltype(a.lo op b.lo)>{a.lo op b.lo, a.hi op b.hi}; } \
    template <class H> EPX auto operator op(wide<H> a, elem<H> b) { \
        return wide<decltype(a.lo op b)>{a.lo op b, a.hi op b}; } \
    template <class H> EPX auto operator op(elem<H> a, wide<H> b) { \
        return wide<decltype(a op b.lo)>{a op b.lo, a op b.hi}; }
#define EPX_ARITH(op) EPX_OP(op) \
    template <class H, class B> EPX wide<H>& operator op##=(wide<H>& a, B b) { return a = a op b; }
EPX_ARITH(+) EPX_ARITH(-) EPX_ARITH(*) EPX_ARITH(/) EPX_ARITH(%) EPX_ARITH(&) EPX_ARITH(|)
EPX_ARITH(^) EPX_ARITH(<<) EPX_ARITH(>>)
EPX_OP(<) EPX_OP(<=) EPX_OP(>) EPX_OP(>=) EPX_OP(==) EPX_OP(!=)

// ---- lanes: build, splat, bit casts, halves, conversions -----------------------------------------
template <class V, class F, size_t... I> EPX V build_(F f, std::index_sequence<I...>) {
    return V{elem<V>(f(int(I)))...};
}
template <class V, class F> EPX V build(F f) {  // lane i = f(i)
    if constexpr (is_scalar<V>) {
        return V(f(0));
    } else if constexpr (is_wide<V>) {
        using H = decltype(V::lo);
        return {build<H>(f), build<H>([&](int i) { return f(i + lanes<H>); })};
    } else {
        return build_<V>(f, std::make_index_sequence<lanes<V>>{});
    }
}
template <class V> EPX elem<V> lane(V v, int i) { if constexpr (is_scalar<V>) return v; else return v[i]; }
template <class V> EPX V splat(elem<V> x) { return build<V>([=](int) { return x; }); }
template <class V> EPX V iota() { return build<V>([](int i) { return i; }); }

template <class To, class V> EPX To bits_as(V v) {  // the same bits, as another type of that size
    if constexpr (is_wide<V>) {
        using H = decltype(To::lo);
        return {bits_as<H>(v.lo), bits_as<H>(v.hi)};
    } else {
        static_assert(sizeof(To) == sizeof(V), "bits_as keeps the size");
        To to;
        std::memcpy(&to, &v, sizeof to);
        return to;
    }
}
template <class V> EPX ints<V> bits(V v) { return bits_as<ints<V>>(v); }

#if defined(__clang__) || __GNUC__ >= 12
#define EPX_SHUFFLE  // __builtin_shufflevector: halves of a value need no way through memory
#endif
template <class V> using half = vec<elem<V>, lanes<V> / 2>;
template <class V, int... I> EPX half<V> part_(V v, int from, std::integer_sequence<int, I...>) {
#if defined(EPX_SHUFFLE)
    return from ? __builtin_shufflevector(v, v, (lanes<V> / 2 + I)...) : __builtin_shufflevector(v, v, I...);
#else
    half<V> h;
    std::memcpy(&h, (const char*)&v + from * sizeof h, sizeof h);
    return h;
#endif
}
template <class V> EPX half<V> low(V v) {
    if constexpr (is_wide<V>) return v.lo;
    else if constexpr (lanes<V> == 2) return v[0];
    else return part_(v, 0, std::make_integer_sequence<int, lanes<V> / 2>{});
}
template <class V> EPX half<V> high(V v) {
    if constexpr (is_wide<V>) return v.hi;
    else if constexpr (lanes<V> == 2) return v[1];
    else return part_(v, 1, std::make_integer_sequence<int, lanes<V> / 2>{});
}
template <class V, class H, int... I> EPX V join_(H lo, H hi, std::integer_sequence<int, I...>) {
#if defined(EPX_SHUFFLE)
    return __builtin_shufflevector(lo, hi, I...);
#else
    return V{(I < lanes<H> ? lo[I % lanes<H>] : hi[I % lanes<H>])...};
#endif
}
template <class V> EPX V concat(half<V> lo, half<V> hi) {
    if constexpr (is_wide<V>) return {lo, hi};
    else if constexpr (lanes<V> > 2) return join_<V>(lo, hi, std::make_integer_sequence<int, lanes<V>>{});
    else {
        V v;
        std::memcpy(&v, &lo, sizeof lo);
        std::memcpy((char*)&v + sizeof lo, &hi, sizeof hi);
        return v;
    }
}
template <class To, class V> EPX To convert(V v) {  // lane-wise conversion; float -> int truncates
    if constexpr (std::is_same_v<To, V>) return v;
    else if constexpr (is_scalar<To>) return To(v);
    else if constexpr (is_wide<To> || is_wide<V>)
        return concat<To>(convert<half<To>>(low(v)), convert<half<To>>(high(v)));
#if defined(__AVX2__)  // bytes: gcc 12 takes them one by one
    else if constexpr (lanes<V> == 8 && sizeof(elem<V>) == 1 && sizeof(To) == 32) {
        const __m128i bytes = _mm_cvtsi64_si128(bits_as<int64_t>(v));
        vi<8> wide = std::is_signed_v<elem<V>> ? vi<8>(_mm256_cvtepi8_epi32(bytes))
                                               : vi<8>(_mm256_cvtepu8_epi32(bytes));
#if defined(__AVX512VL__)
        asm("" : "+v"(wide));  // gcc 12 cannot assemble this extension once it has merged it with a mask
#endif
        return convert<To>(wide);
    }
#endif
#if defined(__AVX512F__)
    else if constexpr (lanes<V> == 16 && sizeof(elem<V>) == 1 && sizeof(To) == 64) {
        vi<16> wide = std::is_signed_v<elem<V>> ? vi<16>(_mm512_cvtepi8_epi32((__m128i)v))
                                                : vi<16>(_mm512_cvtepu8_epi32((__m128i)v));
        asm("" : "+v"(wide));
        return convert<To>(wide);
    } else if constexpr (sizeof(V) == 64 && lanes<V> == 16 && sizeof(elem<To>) == 1)
        return To(_mm512_cvtepi32_epi8((__m512i)convert<vi<16>>(v)));
    else if constexpr (sizeof(V) == 64 && std::is_same_v<elem<V>, float> && sizeof(elem<To>) == 2)
        return convert<To>(convert<vi<16>>(v));
#endif
#if defined(__AVX512VL__)
    else if constexpr (sizeof(V) == 32 && lanes<V> == 8 && sizeof(elem<To>) == 1)
        return bits_as<To>(int64_t(_mm_cvtsi128_si64(_mm256_cvtepi32_epi8((__m256i)convert<vi<8>>(v)))));
#endif
#if defined(__AVX512F__)
    else if constexpr (lanes<V> == 8 && std::is_same_v<elem<V>, float> && std::is_same_v<elem<To>, double>)
        return To(_mm512_cvtps_pd((__m256)v));  // gcc makes it of quarters
    else if constexpr (lanes<V> == 8 && std::is_same_v<elem<V>, double> && std::is_same_v<elem<To>, float>)
        return To(_mm512_cvtpd_ps((__m512d)v));
#endif
    else if constexpr (sizeof(elem<V>) < 4 && is_float<To>)  // by int32: compilers do each step well
        return __builtin_convertvector(__builtin_convertvector(v, ints<rebind<V, float>>), To);
    else return __builtin_convertvector(v, To);
}

// ---- masks ---------------------------------------------------------------------------------------
template <class M, class A, class B> EPX auto select(M m, A a, B b) {  // m ? a : b, by lane
    using V = std::conditional_t<is_scalar<A>, B, A>;
    if constexpr (!std::is_same_v<A, V>) return select(m, splat<V>(a), b);
    else if constexpr (!std::is_same_v<B, V>) return select(m, a, splat<V>(b));
    else if constexpr (is_scalar<M>) return m ? a : b;
    else if constexpr (is_wide<V>) return V{select(m.lo, a.lo, b.lo), select(m.hi, a.hi, b.hi)};
    else return V(m ? a : b);
}
template <class M> EPX auto mask_not(M m) { if constexpr (is_scalar<M>) return !m; else return ~m; }
template <class VI> EPX auto lane_mask(int n) { return iota<VI>() < elem<VI>(n); }  // lanes < n
template <class M> EPX bool any(M m) {
    if constexpr (is_scalar<M>) return bool(m);
    else if constexpr (is_wide<M>) return any(m.lo | m.hi);
#if defined(__AVX512F__)
    else if constexpr (sizeof(M) == 64) return _mm512_test_epi32_mask((__m512i)m, (__m512i)m) != 0;
#endif
#if defined(__AVX__)
    else if constexpr (sizeof(M) == 32) return !_mm256_testz_si256((__m256i)m, (__m256i)m);
#endif
#if defined(__SSE4_1__)
    else if constexpr (sizeof(M) == 16) return !_mm_testz_si128((__m128i)m, (__m128i)m);
#endif
    else return any(low(m) | high(m));
}
template <class M> EPX bool all(M m) { return !any(mask_not(m)); }

}  // namespace epx
#endif
