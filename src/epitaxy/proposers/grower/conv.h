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
  share<false>(S::BATCH * G::depths * G::tiles, [&](int64_t u) {
    const int64_t t = u / (G::depths * G::tiles), d = u / G::tiles % G::depths, r = u % G::tiles;
    float* to = pa + t * G::a_batch + (d * G::tiles + r) * G::a_tile;
    pack_tile<S>(to, a(t), r * G::MR, d * G::KC, least(G::KC, G::K - d * G::KC));
  });
  const auto pixels = [&](auto, int64_t t, int64_t i, int64_t j, typename G::V sum, int) EPX_BODY {
    const int64_t v = j / G::N;
    at_pixels<S>(v / S::XV, v % S::XV * G::N, [&](auto tail, int64_t row, int64_t x, int n) EPX_BODY {
      finish(tail, t, i, row, x, sum, n);
    });
  };
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

}  // namespace epx
