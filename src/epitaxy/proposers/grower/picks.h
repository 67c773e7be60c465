// ---- top-k along rows --------------------------------------------------------------------------
// Where values are equal, PyTorch's order is that of the standard library's algorithms on (value,
// place) pairs; such rows, and rows with NaN (which counts as the largest), go the same way. All
// others have one answer: a short list, into which the few values above its last are inserted.
#include <algorithm>
#include <utility>
namespace epx {

using Pick = std::pair<float, int64_t>;

template <bool LARGEST, bool SORTED>
inline void pick_alike(const float* x, int64_t n, int64_t k, Pick* queue) {
  for (int64_t j = 0; j < n; ++j) queue[j] = {x[j], j};
  const auto before = [](const Pick& a, const Pick& b) {
    const bool an = a.first != a.first, bn = b.first != b.first;
    return LARGEST ? (an && !bn) || a.first > b.first : (!an && bn) || a.first < b.first;
  };
  if (k * 64 <= n) {
    std::partial_sort(queue, queue + k, queue + n, before);
  } else {
    std::nth_element(queue, queue + k - 1, queue + n, before);
    if (SORTED) std::sort(queue, queue + k - 1, before);
  }
}

// The k first of x by value in queue; false where some are equal, or NaN is among them.
template <int N, bool LARGEST> inline bool pick_apart(const float* x, int64_t n, int64_t k, Pick* queue) {
  using V = vf<N>;
  const float worst = LARGEST ? -INFINITY : INFINITY;
  for (int64_t q = 0; q < k; ++q) queue[q] = {worst, -1};
  bool clear = true;
  const auto one = [&](float v, int64_t j) {
    if (v != v || v == queue[k - 1].first) clear = false;
    if (!(LARGEST ? v > queue[k - 1].first : v < queue[k - 1].first)) return;
    int64_t q = k - 1;
    for (; q > 0 && (LARGEST ? v > queue[q - 1].first : v < queue[q - 1].first); --q) queue[q] = queue[q - 1];
    if (q > 0 && v == queue[q - 1].first) clear = false;
    queue[q] = {v, j};
  };
  int64_t j = 0;
  for (; j + N <= n && clear; j += N) {
    const V v = load<V>(x + j), last = splat<V>(queue[k - 1].first);
    if (all(LARGEST ? v < last : v > last)) continue;  // NaN is neither
    for (int l = 0; l < N; ++l) one(x[j + l], j + l);
  }
  for (; j < n && clear; ++j) one(x[j], j);
  return clear;
}

// The k largest (smallest) of each row of n, and where they are.
template <int N, bool LARGEST, bool SORTED>
inline void pick_row(const float* x, int64_t n, int64_t k, float* values, int64_t* places, Pick* queue) {
  if (!SORTED || n < 4 * N || !pick_apart<N, LARGEST>(x, n, k, queue)) pick_alike<LARGEST, SORTED>(x, n, k, queue);
  for (int64_t q = 0; q < k; ++q) values[q] = queue[q].first, places[q] = queue[q].second;
}

}  // namespace epx
