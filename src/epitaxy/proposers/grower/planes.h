// ---- windows that weigh the pixels of a plane of their own: depthwise convolutions ---------------
// A task copies a block of lines of one plane, padding included, and works out several rows of results
// together, so that a loaded vector meets all rows of taps that it belongs to. `S` gives N lanes, Y rows
// of X pixels in the result, H lines of W pixels in the plane, DOWN elements apart, of which the first
// that are met lie TOP lines and LEFT pixels from its beginning (both 0 or less), KY rows of KX taps, GAP
// pixels from tap to tap, PITCH elements of a line of the copy, LINES rows of results in a block, ROWS
// of them together, NEXT elements to the next plane, which is asked for meanwhile (0: it is not).
namespace epx {

template <class S> constexpr int64_t plane_floats = (S::LINES + S::KY - 1) * S::PITCH;

// R rows of results from `row` on: finish(tail, row, x, sum, n).
template <class S, int R, class F>
__attribute__((noinline)) void weigh_rows(const float* lines, const float* taps, int64_t row, const F& finish) {
  using V = vf<S::N>;
  constexpr bool few = S::KY * S::KX <= 9;  // these stay in registers
  const F done = finish;
  V held[few ? S::KY * S::KX : 1];
  if constexpr (few) {
#pragma GCC unroll 16
    for (int k = 0; k < S::KY * S::KX; ++k) held[k] = splat<V>(taps[k]);
  }
  along<S::N>(S::X, [&](auto tail, int64_t x, int n) EPX_BODY {
    V sum[R] = {};
#pragma GCC unroll 32
    for (int u = 0; u < R + S::KY - 1; ++u) {
#pragma GCC unroll 16
      for (int k = 0; k < S::KX; ++k) {
        V v = raw_load<V>(lines + u * S::PITCH + x + k * S::GAP);
        keep_here(v);  // not read again for each row
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
          if (r <= u && u - r < S::KY) {
            const int tap = (u - r) * S::KX + k;
            sum[r] = fma(few ? held[few ? tap : 0] : splat<V>(taps[tap]), v, sum[r]);
          }
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) done(tail, row + r, x, sum[r], n);
  });
}

// The rows of block `block` of the plane at `from`; `copy` holds plane_floats<S>.
template <class S, class F>
EPX_BODY inline void weigh_plane(float* copy, const float* from, const float* taps, int64_t block, const F& finish) {
  constexpr int64_t lo = -S::LEFT, hi = S::W - S::LEFT < S::PITCH ? S::W - S::LEFT : S::PITCH;
  const int64_t first = block * S::LINES, rows = least(S::LINES, S::Y - first);
  for (int64_t u = 0; u < rows + S::KY - 1; ++u) {
    const int64_t line = first + u + S::TOP;
    const bool there = within(line, S::H);
    lay_row<S::N, S::PITCH>(copy + u * S::PITCH, from + line * S::DOWN + S::LEFT, there ? lo : 0, there ? hi : 0);
  }
  int64_t r = 0;
  for (; r + S::ROWS <= rows; r += S::ROWS) {
    const float* const soon = from + S::NEXT + (first + r) * S::DOWN;
    if constexpr (S::NEXT != 0)
      for (int64_t k = 0; k < S::ROWS * S::DOWN; k += 16) prefetch(soon + k);
    weigh_rows<S, S::ROWS>(copy + r * S::PITCH, taps, first + r, finish);
  }
  for (; r < rows; ++r) weigh_rows<S, 1>(copy + r * S::PITCH, taps, first + r, finish);
}

}  // namespace epx
