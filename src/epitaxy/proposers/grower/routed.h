// ---- rows that go to experts: how many go where is known at run time only -------------------------
// Routed rows lie one expert after the other, so that each expert's part is a plain matrix. A task is
// a panel of columns of one expert: its weights are copied once and serve all rows of the expert.
// What is made of a row is added where it belongs by whoever owns that place, expert after expert.
namespace epx {

struct Routing {
  const int64_t experts, places;
  int64_t rows = 0;
  Scratch<int32_t> row, place, expert;  // of each routed row: where it is from, where it goes, by whom
  Scratch<int32_t> from;                // of each expert: its first routed row
  Scratch<int32_t> first, slot;         // of each place: the routed rows that are added there, in order
  Routing(int64_t experts, int64_t each, int64_t places)
      : experts(experts), places(places), row(experts * each), place(experts * each), expert(experts * each),
        from(experts + 1), first(places + 1), slot(experts * each) {
    from.data[0] = 0;
  }
  void add(int64_t e, int64_t at, int64_t to) {
    row.data[rows] = int32_t(at), place.data[rows] = int32_t(to), expert.data[rows] = int32_t(e);
    ++rows;
  }
  void close(int64_t e) { from.data[e + 1] = int32_t(rows); }
  void finish() {
    for (int64_t t = 0; t <= places; ++t) first.data[t] = 0;
    for (int64_t p = 0; p < rows; ++p) ++first.data[place.data[p] + 1];
    for (int64_t t = 0; t < places; ++t) first.data[t + 1] += first.data[t];
    for (int64_t p = 0; p < rows; ++p) slot.data[first.data[place.data[p]]++] = int32_t(p);
    for (int64_t t = places; t > 0; --t) first.data[t] = first.data[t - 1];
    first.data[0] = 0;
  }
};

// The sums of R rows with one panel of weights.
template <class S, int R>
__attribute__((noinline)) void rows_tile(const float* a, const float* panel, float* to) {
  using V = vf<S::N>;
  V c[R][S::NV] = {};
  multiply<S, R, int(S::NV), false>(c, a, panel, S::K, S::N);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
    EPX_UNROLL for (int v = 0; v < S::NV; ++v) store(to + (r * S::NV + v) * S::N, c[r][v]);
}
template <class S, int R = S::MR> inline void rows_of(int64_t rows, const float* a, const float* panel, float* to) {
  if (rows >= R) rows_tile<S, R>(a, panel, to);
  else if constexpr (R > 1) rows_of<S, R - 1>(rows, a, panel, to);
}

// finish(tail, p, j, n, r, v) for what `rows` tile rows make from routed row p and column j on.
template <int N, int NV, class F>
EPX_BODY inline void finish_rows(int64_t rows, int64_t width, int64_t p, int64_t j, const F& finish) {
  for (int r = 0; r < rows; ++r)
    EPX_UNROLL for (int v = 0; v < NV; ++v) {
      const int64_t at = j + v * N;
      if (at + N <= width) finish(whole{}, p + r, at, N, r, v);
      else if (at < width) finish(part{}, p + r, at, int(width - at), r, v);
    }
}

}  // namespace epx
