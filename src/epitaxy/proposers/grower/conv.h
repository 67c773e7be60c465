// ---- convolutions: a contraction whose right operand is read from an image as it is packed --------
// Columns are vectors of N neighbouring pixels of one row: `XV` vectors cover a row of `X` pixels, so
// that no vector crosses into the next one. fetch(tail, t, k, row, x, n) is the right operand at step
// k for pixels x .. x + n - 1 of a row, zero outside the image; finish(tail, t, i, row, x, sum, n)
// takes the sums of row i of the left operand for the same pixels.
namespace epx {

template <class S, class F> EPX_BODY inline void at_pixels(int64_t row, int64_t x, const F& body) {
  if (S::X % S::N == 0 || x + S::N <= S::X) body(whole{}, row, x, int(S::N));
  else body(part{}, row, x, int(S::X - x));
}

// finish(tail, t, i, row, x, sum, n) as a register tile calls it, with columns instead of pixels.
template <class S, class F> EPX_BODY inline auto by_pixel(const F& finish) {
  return [&finish](auto, int64_t t, int64_t i, int64_t j, typename Gemm<S>::V sum, int) EPX_BODY {
    const int64_t v = j / S::N;
    at_pixels<S>(v / S::XV, v % S::XV * S::N, [&](auto tail, int64_t row, int64_t x, int n) EPX_BODY {
      finish(tail, t, i, row, x, sum, n);
    });
  };
}

// The panels q0 .. q1 - 1 of the right operand of batch t, `depth` steps from k.
template <class S, class F>
inline void pack_pixels(float* to, int64_t t, int64_t k, int64_t depth, int64_t q0, int64_t q1, const F& fetch) {
  using G = Gemm<S>;
  const int64_t first = q0 * S::NV, last = least(q1 * S::NV, G::J / G::N);
  for (int64_t p = 0; p < depth; ++p) {
    int64_t row = first / S::XV, xv = first % S::XV;
    float* out = to + p * G::NR;
    for (int64_t v = first; v < last; out += G::KC * G::NR)
      for (int64_t w = 0; w < S::NV && v < last; ++w, ++v) {
        at_pixels<S>(row, xv * G::N, [&](auto tail, int64_t y, int64_t x, int n) EPX_BODY {
          store(out + w * G::N, fetch(tail, t, k + p, y, x, n));
        });
        if (++xv == S::XV) xv = 0, ++row;
      }
  }
}

// The whole convolution; every thread of a team calls it. `pa` holds the left operand's copy.
template <class S, class A, class B, class F>
void convolve(const A& a, const B& fetch, float* pa, const F& finish) {
  using G = Gemm<S>;
  if constexpr (!(kept<S> & 1)) pack_left<S>(pa, a);
  const auto pixels = by_pixel<S>(finish);
  const Scratch<float> held(G::block_floats), panels(S::JC * G::KC);
  share<S::DYNAMIC>(G::blocks, [&](int64_t u) {
    const int64_t c = u % G::columns, r = u / G::columns % G::rows, t = u / (G::columns * G::rows);
    const int64_t q0 = c * (S::JC / G::NR), q1 = least(q0 + S::JC / G::NR, G::panels);
    for (int64_t d = 0; d < G::depths; ++d) {
      const int64_t k = d * G::KC, depth = least(G::KC, G::K - k);
      const float* ad = pa + t * G::a_batch + d * G::tiles * G::a_tile;
      pack_pixels<S>(panels.data, t, k, depth, q0, q1, fetch);
      block<S>(r, c, held.data, [&](int64_t y, int64_t q, float* hold) EPX_BODY {
        const float* bp = panels.data + (q - q0) * G::KC * G::NR;
        sized<S>(y * G::MR, q * G::NR, [&](auto rows, auto vectors, auto masked, int n) EPX_BODY {
          tile<S, rows, vectors, masked>(ad + y * G::a_tile, bp, depth, hold, d == 0, d + 1 == G::depths,
                                         t, y * G::MR, q * G::NR, n, pixels);
        });
      });
    }
  });
}

// to[k] = from[k] for lo <= k < hi, zero before and after.
inline void lay(float* to, const float* from, int64_t lo, int64_t hi, int64_t length) {
  for (int64_t k = 0; k < lo; ++k) to[k] = 0.0f;
  if (lo < hi) std::memcpy(to + lo, from + lo, size_t(hi - lo) * sizeof(float));
  for (int64_t k = hi; k < length; ++k) to[k] = 0.0f;
}

// The same for every PHASES-th element of `from`, phase after phase, `length` elements of each.
template <int PHASES> inline void lay_phases(float* to, const float* from, int64_t lo, int64_t hi, int64_t length) {
  for (int64_t f = 0; f < PHASES; ++f, to += length) {
    const int64_t k0 = least(length, ceil_div(lo > f ? lo - f : 0, PHASES));
    const int64_t k1 = least(length, hi > f ? ceil_div(hi - f, PHASES) : 0);
    for (int64_t k = 0; k < k0; ++k) to[k] = 0.0f;
    for (int64_t k = k0; k < k1; ++k) to[k] = from[k * PHASES + f];
    for (int64_t k = k0 > k1 ? k0 : k1; k < length; ++k) to[k] = 0.0f;
  }
}

// The register tile, its W vectors of pixels read where they lie: b[v] + offsets[step].
template <class S, int R, int W>
EPX_BODY inline void multiply_at(vf<S::N> (&c)[R][W], const float* a, const float* const (&b)[W],
                                 const int32_t* offsets, int64_t depth) {
  using V = vf<S::N>;
  for (int64_t p = 0; p < depth; ++p, a += S::MR) {
    const int64_t at = offsets[p];
    V bv[W];
    EPX_UNROLL for (int v = 0; v < W; ++v) bv[v] = load<V>(b[v] + at);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      const V av = splat<V>(a[r]);
      EPX_UNROLL for (int v = 0; v < W; ++v) c[r][v] = fma(av, bv[v], c[r][v]);
    }
  }
}

// One register tile over one depth of k, from pixels b: continue the sums in `hold`, or finish them.
// A function of its own, so that sums and pointers stay in registers.
template <class S, int R, int W, bool MASKED, class F>
__attribute__((noinline)) void tile_at(const float* a, const float* const (&b)[W], const int32_t* offsets,
                                       int64_t depth, float* hold, bool first, bool last,
                                       int64_t t, int64_t i, int64_t j, int n, const F& finish) {
  using V = vf<S::N>;
  V c[R][W];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
    EPX_UNROLL for (int v = 0; v < W; ++v) c[r][v] = first ? V{} : load<V>(hold + (r * S::NV + v) * S::N);
  multiply_at<S, R, W>(c, a, b, offsets, depth);
  if (last) return hand_over<S, R, W, MASKED>(c, t, i, j, n, finish);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
    EPX_UNROLL for (int v = 0; v < W; ++v) store(hold + (r * S::NV + v) * S::N, c[r][v]);
}

// S::TURNS, where a kernel says it: all batches of a block in turn, not one batch after the other.
template <class S, class = void> constexpr bool turns = false;
template <class S> constexpr bool turns<S, std::void_t<decltype(S::TURNS)>> = S::TURNS != 0;

// Batches of a stride's phases may lack taps: there(t, k) tells whether batch t has the UNIT steps that
// begin with k. body(k, end, first, last) for every stretch of steps that it has, of RUN steps at most.
struct Always {
  constexpr bool operator()(int64_t, int64_t) const { return true; }
};
template <class S, class T, class F> EPX_BODY inline void stretches(int64_t t, const T& there, const F& body) {
  const auto from = [&](int64_t k) EPX_BODY {
    while (k < Gemm<S>::K && !there(t, k)) k += S::UNIT;
    return k;
  };
  const int64_t begin = from(0);
  if (begin >= Gemm<S>::K) body(0, 0, true, true);  // nothing: its sums are zero
  for (int64_t k = begin, then; k < Gemm<S>::K; k = then) {
    int64_t end = least(k + S::UNIT, Gemm<S>::K);
    while (end < Gemm<S>::K && end + S::UNIT <= k + S::RUN && there(t, end)) end += S::UNIT;
    then = from(end);
    body(k, end, k == begin, then >= Gemm<S>::K);
  }
}
// Where the panels of the left operand lie from step k on.
template <class S> EPX_BODY inline int64_t panels_at(int64_t k) {
  return k / Gemm<S>::KC * Gemm<S>::tiles * Gemm<S>::a_tile + k % Gemm<S>::KC * S::MR;
}

// The whole convolution from an image that no step leaves; every thread of a team calls it.
// pixel(t, row, x): where a vector of pixels begins; offsets: how far each step lies from there.
template <class S, class A, class P, class F, class T = Always>
void convolve_direct(const A& a, const P& pixel, const int32_t* offsets, float* pa, const F& finish,
                     const T& there = {}) {
  using G = Gemm<S>;
  if constexpr (!(kept<S> & 1)) pack_left<S>(pa, a);
  const auto pixels = by_pixel<S>(finish);
  const Scratch<float> held(S::UNIT < G::K ? G::block_sums : 0);
  constexpr int64_t each = G::columns * G::rows, next = turns<S> ? S::BATCH : 1;
  share<S::DYNAMIC>(G::blocks, [&](int64_t u) {
    const int64_t v = u / next % each, c = v % G::columns, r = v / G::columns;
    const int64_t t = turns<S> ? u % S::BATCH : u / each;
    stretches<S>(t, there, [&](int64_t k, int64_t end, bool first, bool last) EPX_BODY {
      const float* ad = pa + t * G::a_batch + panels_at<S>(k);
      block<S>(r, c, held.data, [&](int64_t y, int64_t q, float* hold) EPX_BODY {
        const int64_t i = y * G::MR, j = q * G::NR;
        sized<S>(i, j, [&](auto rows, auto vectors, auto masked, int n) EPX_BODY {
          constexpr int R = rows, W = vectors;
          const float* b[W];
          EPX_UNROLL for (int v = 0; v < W; ++v) {
            const int64_t at = q * S::NV + v;
            b[v] = pixel(t, at / S::XV, at % S::XV * G::N);
          }
          tile_at<S, R, W, masked>(ad + y * G::a_tile, b, offsets + k, end - k, hold, first, last, t, i, j, n,
                                   pixels);
        });
      });
    });
  });
}

}  // namespace epx
