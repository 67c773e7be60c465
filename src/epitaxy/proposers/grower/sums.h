// ---- rows added where data says: which rows belong where, in order ----------------------------------
namespace epx {

// first[t] .. first[t + 1] of `slot` are the rows of place t, in ascending order.
struct Sorted {
  static constexpr int64_t BLOCKS = 4;  // of rows, which threads count and put in order side by side
  const int64_t rows, places;
  Scratch<int32_t> place, first, slot, count;  // of each row: where it goes
  Sorted(int64_t rows, int64_t places)
      : rows(rows), places(places), place(rows), first(places + 1), slot(rows), count(BLOCKS * places) {}
  // By all threads of the team, when every row's place is known.
  void sort() {
    const int64_t each = ceil_div(rows, BLOCKS);
    share<false>(BLOCKS, [&](int64_t b) {
      int32_t* const own = count.data + b * places;
      std::memset(own, 0, size_t(places) * sizeof *own);
      for (int64_t p = b * each; p < least(b * each + each, rows); ++p) ++own[place.data[p]];
    });
#pragma omp single
    {
      int32_t before = 0;
      for (int64_t t = 0; t < places; ++t) {
        first.data[t] = before;
        for (int64_t b = 0; b < BLOCKS; ++b) {
          const int32_t here = count.data[b * places + t];
          count.data[b * places + t] = before;
          before += here;
        }
      }
      first.data[places] = before;
    }
    share<false>(BLOCKS, [&](int64_t b) {
      int32_t* const next = count.data + b * places;
      for (int64_t p = b * each; p < least(b * each + each, rows); ++p)
        slot.data[next[place.data[p]]++] = int32_t(p);
    });
  }
};

}  // namespace epx
