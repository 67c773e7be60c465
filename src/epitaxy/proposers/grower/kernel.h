// ---- loops and guarded access around the vector functions above ----------------------------
#include <type_traits>
#include <cstdlib>
namespace epx {

#define EPX_BODY __attribute__((always_inline))
#define EPX_UNROLL _Pragma("GCC unroll 8")
using whole = std::integral_constant<bool, false>;  // all lanes of a vector are in use
using part = std::integral_constant<bool, true>;    // only the first n lanes are
using inner = std::integral_constant<bool, true>;   // no guard can fail here
using edge = std::integral_constant<bool, false>;   // guards have to be looked at

// Memory for one call or one thread, 64-byte aligned, at least one element.
template <class T> struct Scratch {
  T* data;
  explicit Scratch(int64_t n)
      : data(static_cast<T*>(std::aligned_alloc(64, (size_t(n) * sizeof(T) + 127) / 64 * 64))) {
    if (!data) std::abort();
  }
  ~Scratch() { std::free(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};
// Floats that fill whole cache lines.
constexpr int64_t lines_of(int64_t floats) { return (floats + 15) / 16 * 16; }
// Words of a weight, mixed: copies of it that are kept were made of the same ones, or are stale. There
// are STRIPES sets of words, and each call looks at another.
constexpr int STRIPES = 16;
inline int64_t sampled(const void* weight, int64_t bytes, int stripe) {
  constexpr int64_t looks = 32, all = looks * STRIPES;
  uint64_t mixed = uint64_t(bytes);
  for (int64_t i = stripe; i < all && bytes >= 4; i += STRIPES) {
    uint32_t word;
    std::memcpy(&word, static_cast<const char*>(weight) + (bytes / 4 - 1) * i / (all - 1) * 4, 4);
    mixed = (mixed ^ word) * 0x9E3779B97F4A7C15u;
    mixed ^= mixed >> 29;
  }
  return int64_t(mixed);
}
inline void note(float* kept, int which, const void* weight, int64_t bytes) {
  for (int stripe = 0; stripe < STRIPES; ++stripe) {
    const int64_t is = sampled(weight, bytes, stripe);
    std::memcpy(kept + 2 * (which * STRIPES + stripe), &is, sizeof is);
  }
}
// In no order: in turn, each of 16 weights would have the same set in every call.
inline int next_stripe() {
  static thread_local uint32_t calls = 0;
  uint32_t mixed = ++calls * 0x9E3779B1u;
  mixed = (mixed ^ mixed >> 15) * 0x85EBCA6Bu;
  return int((mixed >> 16) % STRIPES);
}
inline bool changed(const float* kept, int which, const void* weight, int64_t bytes) {
  const int stripe = next_stripe();
  int64_t was;
  std::memcpy(&was, kept + 2 * (which * STRIPES + stripe), sizeof was);
  return was != sampled(weight, bytes, stripe);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t least(int64_t a, int64_t b) { return b < a ? b : a; }
inline bool within(int64_t i, int64_t size) { return uint64_t(i) < uint64_t(size); }

// body(0) .. body(count - 1), shared among the threads of the team that calls it. Who is done waits
// for the others unless it is told not to: the team's end is a barrier of its own.
template <bool DYNAMIC, bool WAIT = true, class F> inline void share(int64_t count, const F& body) {
  if constexpr (DYNAMIC) {
#pragma omp for schedule(dynamic) nowait
    for (int64_t u = 0; u < count; ++u) body(u);
  } else {
#pragma omp for schedule(static) nowait
    for (int64_t u = 0; u < count; ++u) body(u);
  }
  if constexpr (WAIT) {
#pragma omp barrier
  }
}

// Of a vector that holds rows of G elements: what each row adds up to, in all of its lanes, and so on.
template <int D, class V> EPX_BODY inline V partner(V v) {  // lane i = v[i ^ D]
  if constexpr (is_wide<V>) {
    if constexpr (D == lanes<V> / 2) return {v.hi, v.lo};
    else return {partner<D>(v.lo), partner<D>(v.hi)};
  } else {
    return permute(v, build<ints<V>>([](int i) { return i ^ D; }));
  }
}
template <int G, class V, class Op> EPX_BODY inline V segment(V v, Op op) {
  if constexpr (G > 1) v = op(v, partner<1>(v));
  if constexpr (G > 2) v = op(v, partner<2>(v));
  if constexpr (G > 4) v = op(v, partner<4>(v));
  if constexpr (G > 8) v = op(v, partner<8>(v));
  if constexpr (G > 16) v = op(v, partner<16>(v));
  static_assert(G <= 32);
  return v;
}
template <int G, class V> EPX V segment_sum(V v) { return segment<G>(v, [](V a, V b) { return a + b; }); }
template <int G, class V> EPX V segment_prod(V v) { return segment<G>(v, [](V a, V b) { return a * b; }); }
template <int G, class V> EPX V segment_max(V v) { return segment<G>(v, [](V a, V b) { return maximum(a, b); }); }
template <int G, class V> EPX V segment_min(V v) { return segment<G>(v, [](V a, V b) { return minimum(a, b); }); }

// Read lanes 0..n-1 (part) or all lanes (whole) from contiguous, strided or guarded places.
template <class V, bool P, class T>
EPX_BODY inline V get(std::integral_constant<bool, P>, const T* p, int n) {
  if constexpr (P) return load_n<V>(p, n, 0);
  else return load<V>(p);
}
template <class V> EPX_BODY inline V every_second(V a, V b) {  // a0 a2 .. b1 b3 ..
  constexpr int N = lanes<V>;
  if constexpr (is_wide<V> || is_scalar<V>) {
    return build<V>([=](int k) { return 2 * k < N ? lane(a, 2 * k) : lane(b, 2 * k - N + 1); });
  } else {
#if defined(__clang__)
    return build<V>([=](int k) { return 2 * k < N ? a[2 * k] : b[2 * k - N + 1]; });
#else
    const auto from = build<ints<V>>([](int k) { return 2 * k < N ? 2 * k : 2 * k + 1; });
    return __builtin_shuffle(a, b, from);
#endif
  }
}
template <class V, bool P, class T>
EPX_BODY inline V get_strided(std::integral_constant<bool, P>, const T* p, int64_t step, int n) {
  if constexpr (!P && !is_wide<V>) {  // every second element: two loads that end at the last lane
    if (step == 2) return every_second(load<V>(p), load<V>(p + lanes<V> - 1));
  }
  return build<V>([=](int k) { return !P || k < n ? load<elem<V>>(p + k * step) : elem<V>(0); });
}
// to[r * apart + k] = p[k * step + r] for r < rows and k < n: a square of a matrix, turned. Whole ones
// change every other lane of rows that are 1, 2, 4 .. apart.
template <int D, class V, int... I>
EPX_BODY inline void swap_lanes(V& a, V& b, std::integer_sequence<int, I...>) {
  constexpr int N = sizeof...(I);
#if defined(EPX_SHUFFLE)
  const V low = __builtin_shufflevector(a, b, (I & D ? N + (I ^ D) : I)...);
  b = __builtin_shufflevector(a, b, (I & D ? N + I : I ^ D)...);
#else
  const V low = {(I & D ? b[I ^ D] : a[I])...}, high = {(I & D ? b[I] : a[I ^ D])...};
  b = high;
#endif
  a = low;
}
template <int D, int N, class V> EPX_BODY inline void swap_rows(V (&v)[N]) {
  if constexpr (D < N) {
#pragma GCC unroll 16
    for (int k = 0; k < N; ++k)
      if (!(k & D)) swap_lanes<D>(v[k], v[k | D], std::make_integer_sequence<int, N>{});
    swap_rows<2 * D>(v);
  }
}
template <int N> inline void turn(float* to, const float* p, int64_t step, int64_t rows, int n, int64_t apart = N) {
  constexpr int M = N * 4 < native_bytes ? N : native_bytes / 4;  // lanes of one register
  if (rows < N || n < N) {
    for (int k = 0; k < n; ++k)
      for (int64_t r = 0; r < rows; ++r) to[r * apart + k] = p[k * step + r];
    return;
  }
  for (int r = 0; r < N; r += M)
    for (int k = 0; k < N; k += M) {
      vf<M> v[M];
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) v[j] = load<vf<M>>(p + (k + j) * step + r);
      swap_rows<1>(v);
#pragma GCC unroll 16
      for (int j = 0; j < M; ++j) store(to + (r + j) * apart + k, v[j]);
    }
}
// Lane k is p[k * step] where 0 <= g + k * gstep < size, else fill.
template <class V, bool P, class T, class F>
EPX_BODY inline V get_guarded(std::integral_constant<bool, P> tail, const T* p, int64_t step,
                              int64_t g, int64_t gstep, int64_t size, F fill, int n) {
  const int64_t last = g + ((P ? n : lanes<V>) - 1) * gstep;
  if (within(g, size) && within(last, size))
    return step == 1 ? get<V>(tail, p, n) : get_strided<V>(tail, p, step, n);
  if (step == 1 && gstep == 1) {
    const int lo = int(least(lanes<V>, g < 0 ? -g : 0));
    const int64_t hi = size - g < 0 ? 0 : size - g;
    return load_between<V>(p, lo, int(least(P ? n : lanes<V>, hi)), elem<V>(fill));
  }
  return build<V>([=](int k) {
    return (!P || k < n) && within(g + k * gstep, size) ? load<elem<V>>(p + k * step) : elem<V>(fill);
  });
}
// Lane k is p[index[k]].
template <class V, bool P, class T, class I>
EPX_BODY inline V pick(std::integral_constant<bool, P>, const T* p, I index, int n) {
  return build<V>([=](int k) {
    return !P || k < n ? load<elem<V>>(p + lane(index, k)) : elem<V>(0);
  });
}

// Write lanes, through the caches or (aligned, whole vectors of float) past them.
template <bool P, class T, class V>
EPX_BODY inline void put(std::integral_constant<bool, P>, T* p, V v, int n) {
  if constexpr (P) store_n(p, v, n);
  else store(p, v);
}
template <bool P, class T, class V>
EPX_BODY inline void put_stream(std::integral_constant<bool, P> tail, T* p, V v, int n) {
  if constexpr (!P && std::is_same<T, float>::value) {
    constexpr size_t native = sizeof(V) < size_t(native_bytes) ? sizeof(V) : size_t(native_bytes);
    if (reinterpret_cast<uintptr_t>(p) % native == 0) return stream(p, v);
  }
  put(tail, p, v, n);
}
template <bool P, class T, class V>
EPX_BODY inline void put_strided(std::integral_constant<bool, P>, T* p, V v, int64_t step, int n) {
  for (int k = 0; k < (P ? n : lanes<V>); ++k) store(p + k * step, lane(v, k));
}

// n pairs at p: first and second ones.
template <bool P, class T, class V>
EPX_BODY inline void get_pairs(std::integral_constant<bool, P>, const T* p, V& a, V& b, int n) {
  constexpr int N = lanes<V>;
  if constexpr (P) {
    const V x = load_n<V>(p, 2 * n < N ? 2 * n : N, 0);
    unweave(x, 2 * n > N ? load_n<V>(p + N, 2 * n - N, 0) : V{}, a, b);
  } else {
    unweave(load<V>(p), load<V>(p + N), a, b);
  }
}
template <bool PAST, bool P, class T, class V>
EPX_BODY inline void put_pairs(std::integral_constant<bool, P> tail, T* p, V a, V b, int n) {
  constexpr int N = lanes<V>;
  V x, y;
  weave(a, b, x, y);
  if constexpr (P) {
    store_n(p, x, 2 * n < N ? 2 * n : N);
    if (2 * n > N) store_n(p + N, y, 2 * n - N);
  } else if constexpr (PAST) {
    put_stream(tail, p, x, N);
    put_stream(tail, p + N, y, N);
  } else {
    store(p, x);
    store(p + N, y);
  }
}

// The new accumulator, unchanged in unused lanes.
template <bool P, class V>
EPX_BODY inline V keep(std::integral_constant<bool, P>, V fresh, V old, int n) {
  if constexpr (P) return select(lane_mask<ints<V>>(n), fresh, old);
  else return fresh;
}

// body(tail, i, u, n) for i in [lo, hi) by vectors of N lanes, U of them together.
template <int N, int U, class F>
EPX_BODY inline void sweep(int64_t lo, int64_t hi, F body) {
  int64_t i = lo;
  for (; i + U * N <= hi; i += U * N) {
    EPX_UNROLL for (int u = 0; u < U; ++u) body(whole{}, i + u * N, u, N);
  }
  for (; i + N <= hi; i += N) body(whole{}, i, 0, N);
  if (i < hi) body(part{}, i, 0, int(hi - i));
}
// The same from the end to the start.
template <int N, int U, class F>
EPX_BODY inline void sweep_back(int64_t lo, int64_t hi, F body) {
  int64_t i = lo + (hi - lo) / N * N;
  if (i < hi) body(part{}, i, 0, int(hi - i));
  for (; i - U * N >= lo; i -= U * N) {
    EPX_UNROLL for (int u = 0; u < U; ++u) body(whole{}, i - (u + 1) * N, u, N);
  }
  for (; i - N >= lo; i -= N) body(whole{}, i - N, 0, N);
}

// Tell the compiler that v is made here, so that it stays in its register: gcc would rather load it
// again for each multiplication as soon as several steps are written out.
template <class V> EPX_BODY inline void keep_here([[maybe_unused]] V& v) {
#if defined(__x86_64__)
  if constexpr (!is_wide<V> && sizeof(V) >= 16) asm("" : "+v"(v));
#elif defined(__aarch64__)
  if constexpr (!is_wide<V> && sizeof(V) >= 16) asm("" : "+w"(v));
#endif
}
// to[k] = from[k] for lo <= k < hi, zero before and after, LENGTH in all: vectors that may overlap, but
// are no longer than that.
template <int M, int LENGTH> EPX_BODY inline void lay_row(float* to, const float* from, int64_t lo, int64_t hi) {
  constexpr int N = M <= LENGTH ? M : 16;
  static_assert(N <= LENGTH, "a row is shorter than a vector");
  using V = vf<N>;
  if (lo >= hi) lo = hi = LENGTH;
  for (int64_t k = 0; k < lo; k += N) raw_store(to + least(k, LENGTH - N), V{});
  for (int64_t k = hi; k < LENGTH; k += N) raw_store(to + least(k, LENGTH - N), V{});
  int64_t k = lo;
  for (; k + N <= hi; k += N) raw_store(to + k, raw_load<V>(from + k));
  if (k < hi && hi - lo >= N) raw_store(to + hi - N, raw_load<V>(from + hi - N));
  else for (; k < hi; ++k) to[k] = from[k];
}

// body(tail, j, n) for vectors of N lanes over [0, size).
template <int N, class F> EPX_BODY inline void along(int64_t size, const F& body) {
  int64_t j = 0;
  for (; j + N <= size; j += N) body(whole{}, j, N);
  if (j < size) body(part{}, j, int(size - j));
}

template <int U, class V> EPX_BODY inline void fill(V (&acc)[U], V value) {
  for (auto& a : acc) a = value;
}
template <int U, class V> EPX_BODY inline V flush(V (&acc)[U]) {
  V total = acc[0];
  acc[0] = V{};
  for (int u = 1; u < U; ++u) total = total + acc[u], acc[u] = V{};
  return total;
}
template <int U, class V, class F> EPX_BODY inline V join(const V (&acc)[U], F combine) {
  V total = acc[0];
  for (int u = 1; u < U; ++u) total = combine(total, acc[u]);
  return total;
}
// Kahan's compensated step: sum += x, the rounding error kept in c; an infinite sum has none.
template <class V> EPX_BODY inline V compensated(V sum, V x, V& c) {
  const V y = x - c, t = sum + y, error = (t - sum) - y;
  c = select(error == error, error, splat<V>(0));
  return t;
}
template <class V> EPX_BODY inline void settle(V& whole, V& part, V& c) {
  whole = compensated(whole, part, c);
  part = splat<V>(0);
}

// Position of the largest (smallest) of all lanes of all accumulators; first on ties; NaN wins.
template <bool LARGEST, int U, class V, class I>
inline int64_t position(const V (&best)[U], const I (&at)[U]) {
  const auto ahead = [](auto a, auto b) { return LARGEST ? maximum(a, b) : minimum(a, b); };
  const auto first = [](auto a, auto b) { return select(b < a, b, a); };
  const auto b = fold(join(best, ahead), ahead);
  I where = splat<I>(std::numeric_limits<elem<I>>::max());
  for (int u = 0; u < U; ++u) {
    const auto here = b != b ? best[u] != best[u] : best[u] == splat<V>(b);
    where = first(where, select(here, at[u], where));
  }
  return fold(where, first);
}
// Where x replaces best: it is ahead, or NaN while best is not. (Not x <= best: either is NaN.)
template <bool LARGEST, class V> EPX_BODY inline auto better(V x, V best) {
  return (LARGEST ? ~(x <= best) : ~(x >= best)) & (best == best);
}
// Whether any of n integers is too large to be worked with in 32-bit lanes.
inline bool beyond(const int64_t* p, int64_t n) {
  bool bad = false;
#pragma omp parallel for reduction(|| : bad) if (n > 65536)
  for (int64_t block = 0; block < n; block += 4096) {
    int64_t large = 0;
    for (int64_t i = block; i < least(block + 4096, n); ++i)
      large |= int64_t(uint64_t(p[i]) + (uint64_t(1) << 30)) & ~((int64_t(1) << 31) - 1);
    bad = bad || large != 0;
  }
  return bad;
}
// Whether any of n integers lies outside low .. high - 1.
inline bool outside(const int64_t* p, int64_t n, int64_t low, int64_t high) {
  bool bad = false;
#pragma omp parallel for reduction(|| : bad) if (n > 65536)
  for (int64_t block = 0; block < n; block += 4096) {
    bool here = false;
    for (int64_t i = block; i < least(block + 4096, n); ++i)
      here |= uint64_t(p[i]) - uint64_t(low) >= uint64_t(high - low);
    bad = bad || here;
  }
  return bad;
}
template <class I> EPX_BODY inline I splat_int(int64_t x) { return splat<I>(int32_t(x)); }
template <class I> EPX_BODY inline I splat_mask(bool x) { return splat<I>(-int32_t(x)); }
template <class V, class I> EPX_BODY inline V to_float(I x) { return convert<V>(x); }
template <class I, class V> EPX_BODY inline I to_int(V x) { return convert<I>(x); }
template <class T> EPX_BODY inline T int_maximum(T a, T b) { return select(a > b, a, b); }
template <class T> EPX_BODY inline T int_minimum(T a, T b) { return select(a < b, a, b); }
template <class T> EPX_BODY inline T int_abs(T a) { return select(a < 0, -a, a); }
template <class I> inline int64_t int_sum(I v) {
  int64_t s = 0;
  for (int k = 0; k < lanes<I>; ++k) s += lane(v, k);
  return s;
}

}  // namespace epx
