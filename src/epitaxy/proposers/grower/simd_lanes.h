// ---- epx: arithmetic on lanes and across them (needs simd.h) -----------------------------------------
#ifndef EPX_SIMD_LANES_H
#define EPX_SIMD_LANES_H
namespace epx {

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

// ---- two vectors -------------------------------------------------------------------------------
template <class V> EPX V pick_two(V a, V b, ints<V> from) {  // lane l: from[l] < N ? a : b
#if !defined(__clang__)
  if constexpr (!is_wide<V>) return __builtin_shuffle(a, b, from);
#endif
  return build<V>([=](int l) { return from[l] < lanes<V> ? lane(a, from[l]) : lane(b, from[l] - lanes<V>); });
}
// a0 b0 a1 b1 .. of the first (HALF 0) or second halves of two vectors.
template <int HALF, class V> EPX V woven(V a, V b) {
  constexpr int N = lanes<V>;
  return pick_two(a, b, build<ints<V>>([](int l) { return l / 2 + HALF * N / 2 + l % 2 * N; }));
}
// a0 b0 a1 b1 .. of both in x and y, and back.
template <class V> EPX void weave(V a, V b, V& x, V& y) {
  if constexpr (is_wide<V>) {
    weave(a.lo, b.lo, x.lo, x.hi);
    weave(a.hi, b.hi, y.lo, y.hi);
  } else {
    x = woven<0>(a, b);
    y = woven<1>(a, b);
  }
}
template <class V> EPX void unweave(V x, V y, V& a, V& b) {
  if constexpr (is_wide<V>) {
    unweave(x.lo, x.hi, a.lo, b.lo);
    unweave(y.lo, y.hi, a.hi, b.hi);
  } else {
    a = pick_two(x, y, build<ints<V>>([](int l) { return 2 * l; }));
    b = pick_two(x, y, build<ints<V>>([](int l) { return 2 * l + 1; }));
  }
}

}  // namespace epx
#endif
