// ---- what contractions multiply: words of 4 bytes --------------------------------------------------
// A word is a float, or a pair of 16-bit numbers (two steps along k at once) where the chip multiplies
// and adds pairs: integers everywhere, bfloat16 on AVX512-BF16; or four signed bytes, where it has VNNI.
// That multiplies unsigned by signed bytes: 128 is added to all of the left ones, and taken off again
// by sums that begin with -128 times those of the right. Narrow types are converted here.
namespace epx {

enum : int { FLOATS, INTEGERS, BRAINS, BYTES };  // what a contraction works with: S::DOT

#if defined(__AVX512BF16__)
constexpr bool bf16_pairs = true;
#else
constexpr bool bf16_pairs = false;  // they are widened to floats
#endif

#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
constexpr bool byte_quads = true;
#else
constexpr bool byte_quads = false;  // they are widened to pairs
#endif

// Sums c and words a, b of N lanes: c + a * b, or c + a.first * b.first + a.second * b.second (...).
template <int DOT, int N> struct Dot {
  static constexpr bool whole = DOT == INTEGERS || DOT == BYTES;
  static constexpr bool quads = DOT == BYTES && byte_quads && N % 4 == 0 && N >= 4;
  static constexpr bool pairs = !quads && (whole || (DOT == BRAINS && bf16_pairs));
  static constexpr int each = quads ? 4 : pairs ? 2 : 1;  // steps along k in a word
  using V = std::conditional_t<whole, vi<N>, vf<N>>;           // sums
  using P = std::conditional_t<quads || pairs, vi<N>, vf<N>>;  // words
  using E = elem<P>;
  // Words of the left operand as they are multiplied.
  template <class X> static EPX X left(X x) {
    if constexpr (quads) return x ^ int32_t(0x80808080);
    else return x;
  }
};
// c + the four products of unsigned bytes of a and signed ones of b.
template <class V> EPX V add_quads(V a, V b, V c) {
  if constexpr (is_wide<V>) return {add_quads(a.lo, b.lo, c.lo), add_quads(a.hi, b.hi, c.hi)};
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
  else if constexpr (sizeof(V) == 64) return V(_mm512_dpbusd_epi32((__m512i)c, (__m512i)a, (__m512i)b));
  else if constexpr (sizeof(V) == 32) return V(_mm256_dpbusd_epi32((__m256i)c, (__m256i)a, (__m256i)b));
  else return V(_mm_dpbusd_epi32((__m128i)c, (__m128i)a, (__m128i)b));
#else
  else return c;  // not used
#endif
}
template <class V> EPX V add_pairs(V a, V b, V c) {
  if constexpr (is_wide<V>) return {add_pairs(a.lo, b.lo, c.lo), add_pairs(a.hi, b.hi, c.hi)};
#if defined(__AVX512VNNI__)
  else if constexpr (sizeof(V) == 64) return V(_mm512_dpwssd_epi32((__m512i)c, (__m512i)a, (__m512i)b));
#elif defined(__AVX512BW__)
  else if constexpr (sizeof(V) == 64) return c + V(_mm512_madd_epi16((__m512i)a, (__m512i)b));
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
  else if constexpr (sizeof(V) == 32) return V(_mm256_dpwssd_epi32((__m256i)c, (__m256i)a, (__m256i)b));
#elif defined(__AVX2__)
  else if constexpr (sizeof(V) == 32) return c + V(_mm256_madd_epi16((__m256i)a, (__m256i)b));
#endif
#if defined(__SSE2__)
  else if constexpr (sizeof(V) == 16) return c + V(_mm_madd_epi16((__m128i)a, (__m128i)b));
#endif
  else return c + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
}
template <int DOT, class P, class V> EPX V dot(P a, P b, V c) {
  if constexpr (Dot<DOT, lanes<V>>::quads) return add_quads(a, b, c);
  else if constexpr (Dot<DOT, lanes<V>>::whole) return add_pairs(a, b, c);
#if defined(__AVX512BF16__)
  else if constexpr (DOT == BRAINS && is_wide<V>) return {dot<DOT>(a.lo, b.lo, c.lo), dot<DOT>(a.hi, b.hi, c.hi)};
  else if constexpr (DOT == BRAINS && sizeof(V) == 64)
    return V(_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b));
#if defined(__AVX512VL__)
  else if constexpr (DOT == BRAINS && sizeof(V) == 32)
    return V(_mm256_dpbf16_ps((__m256)c, (__m256bh)a, (__m256bh)b));
  else if constexpr (DOT == BRAINS && sizeof(V) == 16)
    return V(_mm_dpbf16_ps((__m128)c, (__m128bh)a, (__m128bh)b));
#endif
#endif
  else return fma(a, b, c);
}

// Words made from memory of type T. `step` is the stride along k; of a word at the end of k only the
// first `there` steps may exist.
template <class D, class T> struct Words {
  using P = typename D::P;
  using E = typename D::E;
  static constexpr bool floats = D::each == 1;
  static constexpr int shift = floats ? 0 : 32 / D::each, mask = D::quads ? 0xff : 0xffff;
  static EPX int32_t bits_of(const T* p) {
    if constexpr (std::is_same_v<T, bf16>) return p->bits;
    else return int32_t(*p) & mask;
  }
  static EPX E one(const T* p, int64_t step, int there) {
    if constexpr (floats) return load<float>(p);
    else {
      uint32_t word = 0;
      EPX_UNROLL for (int u = 0; u < D::each; ++u)
        if (u < there) word |= uint32_t(bits_of(p + u * step)) << (u * shift);
      return int32_t(word);
    }
  }
  // Neighbours that lie one after the other, each at one step along k.
  static EPX P across(const T* p, int64_t step, int there, int n) {
    const auto row = [&](const T* q) EPX_BODY { return n >= lanes<P> ? lane_bits(q) : lane_bits_n(q, n); };
    if constexpr (floats) return row(p);
    else {
      P words = row(p) & mask;
      EPX_UNROLL for (int u = 1; u < D::each; ++u)
        if (u < there) words = words | ((row(p + u * step) & mask) << (u * shift));
      return words;
    }
  }
  // One neighbour, at as many steps along k as a vector has lanes, which lie one after the other.
  static EPX P along(const T* p) {
    if constexpr (floats) return load<P>(p);
    else if constexpr (D::quads || std::is_same_v<T, bf16>) return raw_load<P>(p);
    else return bits_as<P>(convert<vec<int16_t, 2 * lanes<P>>>(raw_load<vec<T, 2 * lanes<P>>>(p)));
  }

 private:
  static EPX auto lane_bits(const T* p) {
    if constexpr (std::is_same_v<T, bf16> && !floats) return load<P>(&p->bits);
    else return load<P>(p);
  }
  static EPX auto lane_bits_n(const T* p, int n) {
    if constexpr (std::is_same_v<T, bf16> && !floats) return load_n<P>(&p->bits, n);
    else return load_n<P>(p, n);
  }
};

}  // namespace epx
