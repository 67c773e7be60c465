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

// ---- memory ----------------------------------------------------------------------------------------
// load<V>(p) and store(p, v) convert between V's elements and what p points at: float, double,
// int8/16/32/64, uint8, bool, bf16, f16. No alignment is asked for. int64 is cut to its low half.
template <class T> constexpr bool is_half = std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

template <class V> EPX V from_bf16(rebind<V, uint16_t> h) {
    return bits_as<V>(convert<ints<V>>(h) << 16);
}
template <class V> EPX rebind<V, uint16_t> to_bf16(V v) {  // nearest even; NaN stays NaN
    auto u = bits(v);
    auto up = u + 0x7fff + ((u >> 16) & 1);
    return convert<rebind<V, uint16_t>>((select(v != v, u | 0x400000, up) >> 16) & 0xffff);
}
template <class V> EPX V from_f16(rebind<V, uint16_t> h) {
#if defined(__F16C__)
    if constexpr (lanes<V> == 8) return V(_mm256_cvtph_ps((__m128i)h));
#endif
#if defined(__AVX512F__)
    if constexpr (lanes<V> == 16) return V(_mm512_cvtph_ps((__m256i)h));
#endif
    auto i = convert<ints<V>>(h);
    auto m = (i & 0x7fff) << 13;  // rescaled by 2^112, which also makes subnormals right
    auto f = bits_as<V>(m) * 0x1p112f;
    auto big = bits_as<V>(m + (0x70 << 23) + (0x70 << 23));  // inf and NaN
    return bits_as<V>(bits(select(m >= (0x7c00 << 13), big, f)) | ((i & 0x8000) << 16));
}
template <class V> EPX rebind<V, uint16_t> to_f16(V v) {
#if defined(__F16C__)
    if constexpr (lanes<V> == 8) return (rebind<V, uint16_t>)_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
#endif
#if defined(__AVX512F__)
    if constexpr (lanes<V> == 16) return (rebind<V, uint16_t>)_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
#endif
    auto u = bits(v);
    auto a = u & 0x7fffffff;
    auto normal = (a - (112 << 23) + 0xfff + ((a >> 13) & 1)) >> 13;
    auto small = bits(bits_as<V>(a) + 0.5f) - 0x3f000000;  // 0.5 has the ulp of an f16 subnormal
    auto r = select(a < (113 << 23), small, normal);
    r = select(a >= 0x477ff000, splat<ints<V>>(0x7c00), r);
    r = select(a > 0x7f800000, splat<ints<V>>(0x7e00), r);
    return convert<rebind<V, uint16_t>>(r | ((u >> 16) & 0x8000));
}
template <class V, int... I> EPX V even_(V a, V b, std::integer_sequence<int, I...>) {
#if defined(EPX_SHUFFLE)
    return __builtin_shufflevector(a, b, (2 * I)...);
#else
    constexpr int L = lanes<V>;
    return V{(2 * I < L ? a[(2 * I) % L] : b[(2 * I) % L])...};
#endif
}
template <class V> EPX V even_lanes(V a, V b) {  // lanes 0, 2, ... of a then b
    return even_(a, b, std::make_integer_sequence<int, lanes<V>>{});
}
template <class V> EPX V raw_load(const void* p) { V v; std::memcpy(&v, p, sizeof v); return v; }
template <class V> EPX void raw_store(void* p, V v) { std::memcpy(p, &v, sizeof v); }

template <class V, class T> EPX V load(const T* p) {
    if constexpr (is_wide<V>) return {load<half<V>>(p), load<half<V>>(p + lanes<half<V>>)};
    else if constexpr (std::is_same_v<T, bf16>)
        return convert<V>(from_bf16<rebind<V, float>>(raw_load<rebind<V, uint16_t>>(p)));
    else if constexpr (std::is_same_v<T, f16>)
        return convert<V>(from_f16<rebind<V, float>>(raw_load<rebind<V, uint16_t>>(p)));
    else if constexpr (std::is_same_v<T, bool>) return load<V>((const uint8_t*)p);
    else if constexpr (std::is_same_v<T, int64_t> && std::is_same_v<elem<V>, int32_t> && !is_scalar<V>)
        return even_lanes(raw_load<V>(p), raw_load<V>(p + lanes<V> / 2));
    else if constexpr (is_wide<rebind<V, T>>) return convert<V>(load<rebind<V, T>>(p));
    else return convert<V>(raw_load<rebind<V, T>>(p));
}
template <class T, class V> EPX void store(T* p, V v) {
    if constexpr (is_wide<V>) {
        store(p, v.lo);
        store(p + lanes<half<V>>, v.hi);
    } else if constexpr (std::is_same_v<T, bf16>) raw_store(p, to_bf16(convert<rebind<V, float>>(v)));
    else if constexpr (std::is_same_v<T, f16>) raw_store(p, to_f16(convert<rebind<V, float>>(v)));
    else if constexpr (std::is_same_v<T, bool> && is_scalar<V>) *p = v != 0;
    else if constexpr (std::is_same_v<T, bool>)
        raw_store(p, convert<rebind<V, uint8_t>>((v != elem<V>(0)) & 1));
    else if constexpr (is_wide<rebind<V, T>>) store(p, convert<rebind<V, T>>(v));
    else raw_store(p, convert<rebind<V, T>>(v));
}
// Only the first n elements are touched (n may be <= 0 or above the lanes); the others read `fill`.
template <class V, class T> EPX V load_n(const T* p, int n, elem<V> fill = 0) {
    if constexpr (is_wide<V>)
        return {load_n<half<V>>(p, n, fill), load_n<half<V>>(p + lanes<half<V>>, n - lanes<half<V>>, fill)};
    else if constexpr (is_scalar<V>) return n > 0 ? load<V>(p) : fill;
    else {
        auto m = lane_mask<ints<V>>(n);
        constexpr bool same = std::is_same_v<T, elem<V>> && sizeof(T) == 4;
        (void)same;
#if defined(__AVX512F__)
        if constexpr (same && sizeof(V) == 64) {
            auto k = __mmask16(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
            return select(m, V(_mm512_maskz_loadu_epi32(k, p)), fill);
        } else
#endif
#if defined(__AVX2__)
        if constexpr (same && sizeof(V) == 32)
            return select(m, V(_mm256_maskload_epi32((const int*)p, (__m256i)m)), fill);
        else if constexpr (same && sizeof(V) == 16)
            return select(m, V(_mm_maskload_epi32((const int*)p, (__m128i)m)), fill);
        else
#endif
        {
            T part[lanes<V>] = {};
            if (n > 0) std::memcpy(part, p, sizeof(T) * size_t(n < lanes<V> ? n : lanes<V>));
            return select(m, load<V>(part), fill);
        }
    }
}
// Lane k is p[k] where lo <= k < hi, else fill; nothing else is touched.
template <class V, class T> EPX V load_between(const T* p, int lo, int hi, elem<V> fill) {
    if constexpr (is_wide<V>) {
        constexpr int H = lanes<half<V>>;
        return {load_between<half<V>>(p, lo, hi, fill), load_between<half<V>>(p + H, lo - H, hi - H, fill)};
    } else if constexpr (is_scalar<V>) {
        return lo <= 0 && hi > 0 ? load<V>(p) : fill;
    } else {
#if defined(__AVX512F__)
        if constexpr (std::is_same_v<T, elem<V>> && sizeof(T) == 4 && sizeof(V) == 64) {
            const __m512i at = (__m512i)iota<ints<V>>(), other = (__m512i)splat<V>(fill);
            const __mmask16 below = _mm512_cmplt_epi32_mask(at, _mm512_set1_epi32(hi));
            return V(_mm512_mask_loadu_epi32(other, _mm512_mask_cmpge_epi32_mask(below, at, _mm512_set1_epi32(lo)), p));
        } else
#endif
#if defined(__AVX2__)
        if constexpr (std::is_same_v<T, elem<V>> && sizeof(T) == 4 && (sizeof(V) == 32 || sizeof(V) == 16)) {
            const auto m = lane_mask<ints<V>>(hi) & ~lane_mask<ints<V>>(lo);
            if constexpr (sizeof(V) == 32)
                return select(m, V(_mm256_maskload_epi32((const int*)p, (__m256i)m)), fill);
            else return select(m, V(_mm_maskload_epi32((const int*)p, (__m128i)m)), fill);
        } else
#endif
            return build<V>([=](int k) { return lo <= k && k < hi ? load<elem<V>>(p + k) : fill; });
    }
}
#if defined(__AVX2__)
// Fewer lanes than V has, as halves: a masked store takes six times as long (18 cycles on Zen 3).
template <class T, class V> EPX void store_pieces(T* p, V v, int n) {
    __m128i x;
    if constexpr (sizeof(V) == 32) {
        x = _mm256_castsi256_si128((__m256i)v);
        if (n & 4) {
            _mm_storeu_si128((__m128i*)p, x);
            x = _mm256_extracti128_si256((__m256i)v, 1);
            p += 4;
        }
    } else {
        x = (__m128i)v;
    }
    if (n & 2) {
        _mm_storel_epi64((__m128i*)p, x);
        x = _mm_unpackhi_epi64(x, x);
        p += 2;
    }
    if (n & 1) _mm_store_ss((float*)p, _mm_castsi128_ps(x));
}
#endif
template <class T, class V> EPX void store_n(T* p, V v, int n) {
    if constexpr (is_wide<V>) {
        store_n(p, v.lo, n);
        store_n(p + lanes<half<V>>, v.hi, n - lanes<half<V>>);
    } else if constexpr (is_scalar<V>) {
        if (n > 0) store(p, v);
    } else {
        constexpr bool same = std::is_same_v<T, elem<V>> && sizeof(T) == 4;
        (void)same;
#if defined(__AVX512F__)
        if constexpr (same && sizeof(V) == 64)
            _mm512_mask_storeu_epi32(p, __mmask16(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1), (__m512i)v);
        else
#endif
#if defined(__AVX2__)
        if constexpr (same && (sizeof(V) == 32 || sizeof(V) == 16)) {
            if (n >= lanes<V>) store(p, v);
            else if (n > 0) store_pieces(p, v, n);
        } else
#endif
        {
            T part[lanes<V>];
            store(part, v);
            if (n > 0) std::memcpy(p, part, sizeof(T) * size_t(n < lanes<V> ? n : lanes<V>));
        }
    }
}
// Past the caches: p aligned to the native part of V; call fence() once after the last one.
template <class V> EPX void stream(elem<V>* p, V v) {
    if constexpr (is_wide<V>) {
        stream(p, v.lo);
        stream(p + lanes<half<V>>, v.hi);
    }
#if defined(__AVX512F__)
    else if constexpr (sizeof(V) == 64) _mm512_stream_si512((__m512i*)p, (__m512i)v);
#endif
#if defined(__AVX__)
    else if constexpr (sizeof(V) == 32) _mm256_stream_si256((__m256i*)p, (__m256i)v);
#endif
#if defined(__SSE2__)
    else if constexpr (sizeof(V) == 16) _mm_stream_si128((__m128i*)p, (__m128i)v);
#endif
    else store(p, v);
}
EPX void fence() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}
EPX void prefetch(const void* p) { __builtin_prefetch(p); }
template <class V, class T> EPX V load_strided(const T* p, int64_t stride) {  // stride in elements
    return build<V>([=](int i) { return load<elem<V>>(p + i * stride); });
}
template <class V> EPX void store_strided(elem<V>* p, int64_t stride, V v) {
    for (int i = 0; i < lanes<V>; ++i) p[i * stride] = lane(v, i);
}
template <class V, class T, class I> EPX V gather(const T* base, I index) {  // index in elements
    if constexpr (is_wide<V>) return {gather<half<V>>(base, index.lo), gather<half<V>>(base, index.hi)};
    else return build<V>([=](int i) { return load<elem<V>>(base + lane(index, i)); });
}

// ---- arithmetic ------------------------------------------------------------------------------------
#define EPX_LANEWISE(name, T, expr) \
    template <class V> EPX V name##_each(V x_) { \
        return build<V>([=](int i_) { T x = lane(x_, i_); return expr; }); }
EPX_LANEWISE(floor, auto, std::floor(x)) EPX_LANEWISE(ceil, auto, std::ceil(x))
EPX_LANEWISE(trunc, auto, std::trunc(x)) EPX_LANEWISE(round, auto, std::nearbyint(x))
EPX_LANEWISE(sqrt, auto, std::sqrt(x))
#define EPX_X86(name, i512, i256, i128) \
    template <class V> EPX V name(V x) { \
        if constexpr (is_wide<V>) return {name(x.lo), name(x.hi)}; \
        else if constexpr (!is_float<V>) return x; \
        EPX_IF512(i512) EPX_IF256(i256) EPX_IF128(i128) \
        else return name##_each(x); }
#define EPX_IS(n) (std::is_same_v<elem<V>, float> && lanes<V> == n)
#if defined(__AVX512F__)
#define EPX_IF512(e) else if constexpr (EPX_IS(16)) return V(e);
#else
#define EPX_IF512(e)
#endif
#if defined(__AVX2__) && defined(__FMA__)
#define EPX_IF256(e) else if constexpr (EPX_IS(8)) return V(e);
#define EPX_IF128(e) else if constexpr (EPX_IS(4)) return V(e);
#else
#define EPX_IF256(e)
#define EPX_IF128(e)
#endif
#define EPX_ROUND(name, mode) EPX_X86(name, _mm512_roundscale_ps(x, mode | 8), \
    _mm256_round_ps(x, mode | 8), _mm_round_ps(x, mode | 8))
EPX_ROUND(floor, 1) EPX_ROUND(ceil, 2) EPX_ROUND(trunc, 3)
EPX_ROUND(round, 0)  // half to even
EPX_X86(sqrt, _mm512_sqrt_ps(x), _mm256_sqrt_ps(x), _mm_sqrt_ps(x))

template <class V> EPX V fma(V a, V b, V c) {  // one rounding wherever the chip has it
    if constexpr (is_wide<V>) return {fma(a.lo, b.lo, c.lo), fma(a.hi, b.hi, c.hi)};
    EPX_IF512(_mm512_fmadd_ps(a, b, c))
    EPX_IF256(_mm256_fmadd_ps(a, b, c))
    EPX_IF128(_mm_fmadd_ps(a, b, c))
#if defined(__FMA__) || defined(__aarch64__)
    else if constexpr (std::is_same_v<V, float>) return __builtin_fmaf(a, b, c);
#endif
    else return a * b + c;
}
template <class V, class = std::enable_if_t<!is_scalar<V>>> EPX V fma(V a, V b, elem<V> c) {
    return fma(a, b, splat<V>(c));
}
template <class V> EPX V neg(V x) { return -x; }
template <class V> EPX V abs(V x) {
    if constexpr (is_float<V>) return bits_as<V>(bits(x) & std::numeric_limits<elem<ints<V>>>::max());
    else return select(x < elem<V>(0), -x, x);
}
// If either is NaN: the second (one instruction on x86). maximum/minimum: NaN wins, as in PyTorch.
#define EPX_MINMAX(name, op, x86) \
    template <class V> EPX V name(V a, V b) { \
        if constexpr (is_wide<V>) return {name(a.lo, b.lo), name(a.hi, b.hi)}; \
        EPX_IF512(_mm512_##x86##_ps(a, b)) EPX_IF256(_mm256_##x86##_ps(a, b)) EPX_IF128(_mm_##x86##_ps(a, b)) \
        else return select(a op b, a, b); }
EPX_MINMAX(max_fast, >, max) EPX_MINMAX(min_fast, <, min)
// Of a running one, b is the sum so far: what is looked at for NaN does not wait for it.
#if defined(__AVX512F__)
#define EPX_NAN_FIRST(x86) else if constexpr (EPX_IS(16)) \
    return V(_mm512_mask_##x86##_ps(a, _mm512_cmp_ps_mask(a, a, 7), a, b));
#else
#define EPX_NAN_FIRST(x86)
#endif
#define EPX_EXTREME(name, fast, x86) \
    template <class V> EPX V name(V a, V b) { \
        if constexpr (is_wide<V>) return {name(a.lo, b.lo), name(a.hi, b.hi)}; \
        EPX_NAN_FIRST(x86) \
        else if constexpr (is_float<V>) return select(a != a, a, fast(a, b)); \
        else return fast(a, b); }
EPX_EXTREME(maximum, max_fast, max) EPX_EXTREME(minimum, min_fast, min)
template <class V> EPX auto isnan(V x) { return x != x; }
template <class V> EPX auto isinf(V x) { return abs(x) == std::numeric_limits<elem<V>>::infinity(); }
template <class V> EPX V rsqrt(V x) { return elem<V>(1) / sqrt(x); }
template <class V> EPX V reciprocal(V x) { return elem<V>(1) / x; }
template <class V> EPX V sign(V x) {  // 0 for NaN, as in PyTorch
    auto zero = splat<V>(0);
    return select(x > zero, splat<V>(1), select(x < zero, splat<V>(-1), zero));
}
template <class V> EPX V copysign(V x, V s) {
    constexpr auto top = std::numeric_limits<elem<ints<V>>>::min();
    return bits_as<V>((bits(x) & ~top) | (bits(s) & top));
}

// ---- across lanes ------------------------------------------------------------------------------------
template <class V> EPX V permute(V v, ints<V> from) {  // native V: lane i = v[from[i]], constant `from`
#if defined(__clang__)
    return build<V>([=](int i) { return v[from[i]]; });
#else
    return __builtin_shuffle(v, from);
#endif
}
template <class V, class Op> EPX elem<V> fold(V v, Op op) {  // a tree over the lanes
    if constexpr (is_scalar<V>) return v;
    else if constexpr (lanes<V> == 2) return op(lane(v, 0), lane(v, 1));
    else return fold(op(low(v), high(v)), op);
}
template <class V> EPX elem<V> hsum(V v) { return fold(v, [](auto a, auto b) { return a + b; }); }
template <class V> EPX elem<V> hprod(V v) { return fold(v, [](auto a, auto b) { return a * b; }); }
template <class V> EPX elem<V> hmax(V v) { return fold(v, [](auto a, auto b) { return maximum(a, b); }); }
template <class V> EPX elem<V> hmin(V v) { return fold(v, [](auto a, auto b) { return minimum(a, b); }); }

template <class V> EPX V last(V v) {  // the last lane in every lane
    if constexpr (is_scalar<V>) return v;
    else if constexpr (is_wide<V>) { auto h = last(v.hi); return {h, h}; }
    else return permute(v, splat<ints<V>>(lanes<V> - 1));
}
template <class V> EPX V reverse(V v) {
    if constexpr (is_scalar<V>) return v;
    else if constexpr (is_wide<V>) return {reverse(v.hi), reverse(v.lo)};
    else return permute(v, build<ints<V>>([](int i) { return lanes<V> - 1 - i; }));
}
// Inclusive scan in log2(lanes) steps: at distance d, lanes with bit d take the last lane before
// their block of d (Sklansky's tree: its shuffles stay inside 128-bit halves but for the last).
template <int D, class V, class Op> EPX V scan_step(V v, elem<V> identity, Op op) {
    using VI = ints<V>;
    auto taken = permute(v, build<VI>([](int i) { return (i & D) ? (i & ~(D - 1)) - 1 : i; }));
    auto with = build<VI>([](int i) { return (i & D) ? -1 : 0; });
    return op(select(with, taken, identity), v);
}
template <class V, class Op> EPX V scan(V v, elem<V> identity, Op op) {
    if constexpr (is_wide<V>) {
        auto lo = scan(v.lo, identity, op);
        return {lo, op(last(lo), scan(v.hi, identity, op))};
    } else {
        if constexpr (lanes<V> > 1) v = scan_step<1>(v, identity, op);
        if constexpr (lanes<V> > 2) v = scan_step<2>(v, identity, op);
        if constexpr (lanes<V> > 4) v = scan_step<4>(v, identity, op);
        if constexpr (lanes<V> > 8) v = scan_step<8>(v, identity, op);
        return v;
    }
}
template <class V> constexpr elem<V> lowest =
    is_float<V> ? elem<V>(-inf) : std::numeric_limits<elem<V>>::lowest();
template <class V> constexpr elem<V> highest =
    is_float<V> ? elem<V>(inf) : std::numeric_limits<elem<V>>::max();
template <class V> EPX V scan_add(V v) { return scan(v, 0, [](auto a, auto b) { return a + b; }); }
template <class V> EPX V scan_mul(V v) { return scan(v, 1, [](auto a, auto b) { return a * b; }); }
template <class V> EPX V scan_max(V v) {
    return scan(v, lowest<V>, [](auto a, auto b) { return maximum(a, b); });
}
template <class V> EPX V scan_min(V v) {
    return scan(v, highest<V>, [](auto a, auto b) { return minimum(a, b); });
}

}  // namespace epx
#endif
