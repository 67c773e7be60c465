// ---- epx: lanes from memory and back (needs simd.h) --------------------------------------------------
#ifndef EPX_SIMD_MEMORY_H
#define EPX_SIMD_MEMORY_H
namespace epx {

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
// n floats past the caches: whole lines are streamed, what lies before and behind them is copied.
inline void copy_past(float* to, const float* from, int64_t n) {
    const int64_t before = int64_t(-reinterpret_cast<uintptr_t>(to) % 64 / sizeof(float));
    int64_t i = before < n ? before : n;
    std::memcpy(to, from, i * sizeof(float));
    for (; i + 16 <= n; i += 16) stream(to + i, load<vf<16>>(from + i));
    std::memcpy(to + i, from + i, (n - i) * sizeof(float));
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

}  // namespace epx
#endif
