// ---- attention: out[t][i] = sum over keys j of softmax(score(q[t][i] . k[j])) * v[j] --------------
// A block of MC rows of queries goes over the keys JC at a time: scores, a running maximum and sum
// of each row, and sums of values that are scaled down whenever the maximum grows (Milakov and
// Gimelshein 2018; Dao et al. 2022). Neither scores nor weights are ever written to memory.
//   M rows, J keys, D depth of the scores, E columns of the values; BATCH of them share KVB sets
//   of keys and values; QI QD, KJ KD, VJ VE strides; MR rows by NV vectors is the tile of scores,
//   MR by WV that of the values; PARTS pieces of the keys for the threads; PACK_Q PACK_V copies;
//   LINES: lanes run along the depth and keys are read as they lie (few rows); SKIPS: some blocks
//   of keys are masked away; SAFE: rows without keys are zero, not NaN; OWN: each thread copies the
//   keys and values that it needs, next to where it uses them; FAR: with LINES, how many keys and
//   values ahead are asked for.
// score(tail, t, i, j, sum, n) turns products into scores, live(i0, i1, j0, j1) is false where all of
// them are masked, finish(tail, t, i, e, value, n) takes the result.
namespace epx {

template <class S> struct Attend {
  static constexpr int64_t pitch = S::JC + 16;  // rows of scores must not share sets of the caches
  struct Scores { enum : int64_t {
    N = S::N, MR = S::MR, NV = S::NV, BATCH = 1, M = S::M, J = S::J, K = S::D, MC = S::MC, JC = S::JC,
    KC = S::D, PARTS = 1, AI = S::QI, AK = S::QD, BK = S::KD, BJ = S::KJ, PACK_A = S::PACK_Q, PACK_B = 1,
    AHEAD = 0, STEPS = S::STEPS, DYNAMIC = 0, DOT = FLOATS }; };
  struct Values { enum : int64_t {
    N = S::N, MR = S::MR, NV = S::WV, BATCH = 1, M = S::M, J = S::E, K = S::J, MC = S::MC,
    JC = (S::E + S::WV * S::N - 1) / (S::WV * S::N) * (S::WV * S::N), KC = S::J, PARTS = 1,
    AI = pitch, AK = 1, BK = S::VJ, BJ = S::VE, PACK_A = 0, PACK_B = S::PACK_V, AHEAD = S::FAR, STEPS = S::STEPS,
    DYNAMIC = 0, DOT = FLOATS }; };
  using G = Gemm<Scores>;
  using H = Gemm<Values>;
  using V = vf<S::N>;
  static constexpr int64_t panels = ceil_div(S::J, G::NR), wide = ceil_div(S::E, H::NR) * H::NR;
  static constexpr int64_t blocks = ceil_div(S::M, S::MC), depths = ceil_div(S::J, S::JC);
  static constexpr int64_t tiles = S::MC / S::MR;
  static constexpr int64_t piece = ceil_div(panels, S::PARTS) * G::NR;  // keys of one part
  static constexpr int64_t k_batch = panels * S::D * G::NR, v_batch = wide * S::J;
  static constexpr int64_t k_own = S::LINES ? 0 : k_batch, v_own = S::PACK_V ? v_batch : 0;
  static constexpr int64_t k_floats = S::OWN ? 0 : S::KVB * k_own, v_floats = S::OWN ? 0 : S::KVB * v_own;
  static constexpr int64_t part = S::MC * (wide + 2);  // sums of values, maxima, sums of weights
  static constexpr int64_t part_floats = S::PARTS > 1 ? S::BATCH * blocks * S::PARTS * part : 0;
};

// What one thread works on: scores, sums of values, and of each row its maximum, its sum and what
// its older sums are scaled by; of each tile the keys that matter.
template <class S> struct Rows {
  using A = Attend<S>;
  Scratch<float> scores, sums, most, total, scale, queries;
  Scratch<int64_t> low, high;
  Rows()
      : scores(S::MC * A::pitch), sums(S::MC * A::wide), most(S::MC + S::N), total(S::MC), scale(S::MC + S::N),
        queries(S::PACK_Q ? A::tiles * A::G::a_tile : 0), low(A::tiles), high(A::tiles) {}
};

template <class S, int R, int W, bool MASKED, class F>
__attribute__((noinline)) void score_tile(const float* q, const float* k, float* to, int64_t t, int64_t i,
                                          int64_t j, int n, const F& score) {
  using V = vf<S::N>;
  V c[R][W] = {};
  multiply<typename Attend<S>::Scores, R, W, false>(c, q, k, S::D, n);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
    EPX_UNROLL for (int w = 0; w < W; ++w) {
      float* at = to + r * Attend<S>::pitch + w * S::N;
      if constexpr (MASKED) {
        if (w == W - 1) {
          const V x = score(part{}, t, i + r, j + w * S::N, c[r][w], n);
          store(at, select(lane_mask<ints<V>>(n), x, splat<V>(-inf)));
          continue;
        }
      }
      store(at, score(whole{}, t, i + r, j + w * S::N, c[r][w], int(S::N)));
    }
}

template <class S, int R, int W, bool MASKED>
__attribute__((noinline)) void value_tile(const float* p, const float* v, float* sums, const float* scale,
                                          int64_t depth, int n) {
  using V = vf<S::N>;
  V c[R][W];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
    EPX_UNROLL for (int w = 0; w < W; ++w)
      c[r][w] = load<V>(sums + r * Attend<S>::wide + w * S::N) * splat<V>(scale[r]);
  multiply<typename Attend<S>::Values, R, W, MASKED && !S::PACK_V>(c, p, v, depth, n);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
    EPX_UNROLL for (int w = 0; w < W; ++w) store(sums + r * Attend<S>::wide + w * S::N, c[r][w]);
}

// The greatest of a row's scores and of what came before; looks past a NaN.
template <class S> EPX_BODY inline float greatest(const float* s, int64_t width, float before) {
  using V = vf<S::N>;
  constexpr int N = S::N;
  V best[2] = {splat<V>(-inf), splat<V>(-inf)};
  int64_t v = 0;
  for (; v + N < width; v += 2 * N)
    for (int u = 0; u < 2; ++u) best[u] = max_fast(load<V>(s + v + u * N), best[u]);
  if (v < width) best[0] = max_fast(load<V>(s + v), best[0]);
  return max_fast(before, fold(max_fast(best[0], best[1]), [](auto x, auto y) { return max_fast(x, y); }));
}
// Scores of R rows become weights relative to the rows' greatest so far, which are added to `total`: the
// rows' chains of instructions run side by side. A NaN makes its weight and the total NaN, and so the row.
template <class S, int R>
EPX_BODY inline void soften(float* s, int64_t width, const float* most, float* total, const float* scale) {
  using V = vf<S::N>;
  constexpr int N = S::N;
  V sum[R] = {}, base[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) base[r] = splat<V>(most[r] == -inf ? 0.0f : most[r]);  // none seen: weights are zero
  for (int64_t v = 0; v < width; v += N)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      float* const at = s + r * Attend<S>::pitch + v;
      const V w = exp_fast(load<V>(at) - base[r]);
      store(at, w);
      sum[r] = sum[r] + w;
    }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) total[r] = total[r] * scale[r] + hsum(sum[r]);
}

// Cut [low, high) down to the panels of keys that some row of [i0, i1) looks at.
template <class S, class L>
EPX_BODY inline void narrow(int64_t& low, int64_t& high, int64_t i0, int64_t i1, const L& live) {
  constexpr int64_t NR = Attend<S>::G::NR;
  while (low < high && !live(i0, i1, low, least(low + NR, high))) low += NR;
  while (low < high) {
    const int64_t last = (high - 1) / NR * NR;
    if (live(i0, i1, last, high)) break;
    high = last;
  }
  if (high < low) high = low;
}

// The scores of all `rows` rows become weights, tile by tile; `scale` undoes how the maxima grow.
template <class S> void soften_rows(Rows<S>& work, int64_t j, int64_t rows) {
  using V = vf<S::N>;
  constexpr int side = native_bytes == 64 ? 4 : 2;  // registers for as many rows
  float *const most = work.most.data, *const total = work.total.data, *const scale = work.scale.data;
  const auto row = [&](int64_t r) EPX_BODY {
    return work.scores.data + r * Attend<S>::pitch + work.low.data[r / S::MR] - j;
  };
  for (int64_t r = 0; r < rows; ++r) {
    scale[r] = most[r];
    most[r] = greatest<S>(row(r), work.high.data[r / S::MR] - work.low.data[r / S::MR], most[r]);
  }
  for (int64_t r = 0; r < rows; r += S::N) {
    const V now = load<V>(most + r);
    store(scale + r, exp(load<V>(scale + r) - select(now == splat<V>(-inf), V{}, now)));
  }
  for (int64_t r = 0; r < rows;) {
    const int64_t y = r / S::MR, end = least((y + 1) * S::MR, rows), width = work.high.data[y] - work.low.data[y];
    for (; r + side <= end; r += side) soften<S, side>(row(r), width, most + r, total + r, scale + r);
    for (; r < end; ++r) soften<S, 1>(row(r), width, most + r, total + r, scale + r);
  }
}

// The product of queries and keys as one of lines, for `dots`.
template <class S> struct KeyLines {
  enum : int64_t {
    N = S::N, K = S::D, AI = S::QI, BJ = S::KJ, JC = Attend<S>::pitch, AHEAD = S::FAR * S::KJ / S::N, DOT = FLOATS };
};

// Scores of keys [j, end), lanes along the depth: R queries and W keys at a time.
template <class S, class F>
void score_lines(const float* q, const float* k, float* s, int64_t t, int64_t i0, int64_t i1, int64_t j,
                 int64_t end, const F& score) {
  using V = vf<S::N>;
  constexpr int R = S::MR, last = int(S::M % R);
  const auto down = [&](int64_t x, auto keys) EPX_BODY {
    constexpr int W = decltype(keys)::value;
    int64_t i = i0;
    for (; i + R <= i1; i += R)
      dots<KeyLines<S>, R, W>(q + i * S::QI, k + x * S::KJ, s + (i - i0) * Attend<S>::pitch + x - j);
    if constexpr (last != 0)
      if (i < i1) dots<KeyLines<S>, last, W>(q + i * S::QI, k + x * S::KJ, s + (i - i0) * Attend<S>::pitch + x - j);
  };
  int64_t x = j;
  for (; x + 4 <= end; x += 4) down(x, std::integral_constant<int, 4>{});
  for (; x < end; ++x) down(x, std::integral_constant<int, 1>{});
  for (int64_t i = i0; i < i1; ++i) {
    float* row = s + (i - i0) * Attend<S>::pitch;
    for (x = j; x + S::N <= end; x += S::N)
      store(row + x - j, score(whole{}, t, i, x, load<V>(row + x - j), int(S::N)));
    if (x < end) {
      const int n = int(end - x);
      const V v = score(part{}, t, i, x, load_n<V>(row + x - j, n), n);
      store(row + x - j, select(lane_mask<ints<V>>(n), v, splat<V>(-inf)));
    }
  }
}

// Keys [j, end) for the rows [i0, i1) of batch t.
template <class S, class F, class L>
void attend_keys(Rows<S>& work, const float* q, const float* k, const float* v, const float* pk,
                 const float* pv, int64_t t, int64_t i0, int64_t i1, int64_t j, int64_t end, bool skips,
                 const F& score, const L& live) {
  using A = Attend<S>;
  using G = typename A::G;
  using H = typename A::H;
  const int64_t tiles = ceil_div(i1 - i0, S::MR);
  for (int64_t y = 0; y < tiles; ++y) {
    work.low.data[y] = j, work.high.data[y] = end;
    const int64_t i = i0 + y * S::MR;
    if (S::SKIPS && skips) narrow<S>(work.low.data[y], work.high.data[y], i, least(i + S::MR, i1), live);
  }
  if constexpr (S::LINES) {
    score_lines<S>(q, k, work.scores.data, t, i0, i1, j, end, score);
  } else {
    for (int64_t x = j; x < end; x += G::NR)
      for (int64_t y = 0; y < tiles; ++y) {
        if (x < work.low.data[y] || x >= work.high.data[y]) continue;
        const int64_t i = i0 + y * S::MR;
        const float* from = S::PACK_Q ? work.queries.data + y * G::a_tile : q + i * S::QI;
        float* to = work.scores.data + y * S::MR * A::pitch + x - j;
        sized<typename A::Scores>(i, x, [&](auto rows, auto vectors, auto masked, int n) EPX_BODY {
          score_tile<S, rows, vectors, masked>(from, pk + x * S::D, to, t, i, x, n, score);
        });
      }
  }
  soften_rows<S>(work, j, i1 - i0);
  for (int64_t e = 0; e < S::E; e += H::NR)
    for (int64_t y = 0; y < tiles; ++y) {
      const int64_t low = work.low.data[y], depth = work.high.data[y] - low;
      if (depth <= 0) continue;
      const int64_t i = i0 + y * S::MR;
      const float* from = S::PACK_V ? pv + e * S::J + low * H::NR : v + low * S::VJ + e;
      const float* p = work.scores.data + y * S::MR * A::pitch + low - j;
      sized<typename A::Values>(i, e, [&](auto rows, auto vectors, auto masked, int n) EPX_BODY {
        value_tile<S, rows, vectors, masked>(p, from, work.sums.data + y * S::MR * A::wide + e,
                                             work.scale.data + y * S::MR, depth, n);
      });
    }
}

// One row's result: its sums of values over its sum of weights.
template <class S, class F>
EPX_BODY inline void finish_row(const float* sums, float most, float total, int64_t t, int64_t i, const F& finish) {
  using V = vf<S::N>;
  const V by = splat<V>(S::SAFE && most == -inf ? 1.0f : total);
  int64_t e = 0;
  for (; e + S::N <= S::E; e += S::N) finish(whole{}, t, i, e, load<V>(sums + e) / by, int(S::N));
  if (e < S::E) finish(part{}, t, i, e, load<V>(sums + e) / by, int(S::E - e));
}
template <class S, class F> void join_parts(const float* parts, int64_t t, int64_t i0, int64_t rows, const F& finish) {
  using A = Attend<S>;
  using V = vf<S::N>;
  const Scratch<float> sums(A::wide);
  for (int64_t r = 0; r < rows; ++r) {
    float most = -inf, total = 0.0f;
    for (int64_t p = 0; p < S::PARTS; ++p) most = max_fast(most, parts[p * A::part + S::MC * A::wide + r]);
    const float base = most == -inf ? 0.0f : most;
    for (int64_t e = 0; e < A::wide; e += S::N) store(sums.data + e, V{});
    for (int64_t p = 0; p < S::PARTS; ++p) {
      const float* own = parts + p * A::part;
      const float scale = exp(own[S::MC * A::wide + r] - base);
      total += own[S::MC * (A::wide + 1) + r] * scale;
      for (int64_t e = 0; e < A::wide; e += S::N)
        store(sums.data + e, fma(load<V>(own + r * A::wide + e), splat<V>(scale), load<V>(sums.data + e)));
    }
    finish_row<S>(sums.data, most, total, t, i0 + r, finish);
  }
}

// Whether any of `rows` rows of `width` floats is infinite or NaN.
template <int N> inline bool odd_floats(const float* p, int64_t rows, int64_t pitch, int64_t step, int64_t width) {
  using V = vf<N>;
  V sum = {};
  float rest = 0.0f;
  for (int64_t r = 0; r < rows; ++r) {
    int64_t c = 0;
    if (step == 1)
      for (; c + N <= width; c += N) sum = fma(load<V>(p + r * pitch + c), splat<V>(0.0f), sum);
    for (; c < width; ++c) rest += p[r * pitch + c * step] * 0.0f;
  }
  rest += hsum(sum);
  return rest != rest;
}

// Whether a zero weight would not make some value vanish, so that no block may be skipped.
template <class S> inline bool odd_keys(const float* k, const float* v) {
  return odd_floats<S::N>(k, S::J, S::KJ, S::KD, S::D) || odd_floats<S::N>(v, S::J, S::VJ, S::VE, S::E);
}
// Copies of one panel of keys, and of one depth of the values.
template <class S> inline void copy_panel(float* to, const float* k, int64_t q) {
  constexpr int64_t NR = Attend<S>::G::NR;
  pack_panel<typename Attend<S>::Scores>(to + q * S::D * NR, k, 0, S::D, q * NR);
}
template <class S> inline void copy_depth(float* to, const float* v, int64_t depth) {
  constexpr int64_t NR = Attend<S>::H::NR;
  const int64_t j = depth * S::JC;
  for (int64_t e = 0; e < S::E; e += NR)
    pack_panel<typename Attend<S>::Values>(to + e * S::J + j * NR, v, j, least(S::JC, S::J - j), e);
}

// Copies of keys and values that all threads share.
template <class S, class K, class W>
void copy_keys(const K& k, const W& v, float* pk, float* pv, int* odd) {
  using A = Attend<S>;
  if constexpr (S::SKIPS) share<false>(S::KVB, [&](int64_t u) { odd[u] = odd_keys<S>(k(u), v(u)); });
  if constexpr (!S::LINES)
    share<false>(S::KVB * A::panels, [&](int64_t x) {
      copy_panel<S>(pk + x / A::panels * A::k_batch, k(x / A::panels), x % A::panels);
    });
  if constexpr (S::PACK_V)
    share<false>(S::KVB * A::depths, [&](int64_t x) {
      copy_depth<S>(pv + x / A::depths * A::v_batch, v(x / A::depths), x % A::depths);
    });
}

// Copies of the keys and values that one thread works on.
template <class S> struct Held {
  using A = Attend<S>;
  Scratch<float> k, v;
  int64_t u = -1;  // whose
  bool odd = false;
  Held() : k(S::OWN ? A::k_own : 0), v(S::OWN ? A::v_own : 0) {}
  void take(int64_t next, const float* keys, const float* values) {
    if (next == u) return;
    u = next;
    if constexpr (S::SKIPS) odd = odd_keys<S>(keys, values);
    if constexpr (!S::LINES)
      for (int64_t q = 0; q < A::panels; ++q) copy_panel<S>(k.data, keys, q);
    if constexpr (S::PACK_V)
      for (int64_t d = 0; d < A::depths; ++d) copy_depth<S>(v.data, values, d);
  }
};

// The whole attention; every thread of a team calls it. q(t), k(u), v(u): the first elements of a
// batch; of(t): which keys and values batch t has.
template <class S, class Q, class K, class W, class O, class F, class L, class E>
void attend(const Q& q, const K& k, const W& v, const O& of, float* pk, float* pv, float* parts, int* odd,
            const F& score, const L& live, const E& finish) {
  using A = Attend<S>;
  if constexpr (!S::OWN) copy_keys<S>(k, v, pk, pv, odd);
  Rows<S> work;
  Held<S> held;
  share<S::DYNAMIC>(S::BATCH * A::blocks * S::PARTS, [&](int64_t x) {
    const int64_t t = x / (A::blocks * S::PARTS), u = of(t), b = A::blocks - 1 - x / S::PARTS % A::blocks;
    const int64_t i0 = b * S::MC, i1 = least(i0 + S::MC, S::M);
    int64_t j = x % S::PARTS * A::piece, end = least(j + A::piece, S::J);
    if constexpr (S::OWN) held.take(u, k(u), v(u));
    const float* keys = S::OWN ? held.k.data : pk + u * A::k_batch;
    const float* values = S::OWN ? held.v.data : pv + u * A::v_batch;
    const bool skips = S::SKIPS && !(S::OWN ? held.odd : odd[u]);
    if (skips) narrow<S>(j, end, i0, i1, live);
    const int64_t rows = i1 - i0;
    for (int64_t e = 0; e < rows * A::wide; e += S::N) store(work.sums.data + e, vf<S::N>{});
    for (int64_t r = 0; r < rows; ++r) work.most.data[r] = -inf, work.total.data[r] = 0.0f;
    if constexpr (S::PACK_Q)
      for (int64_t y = 0; y * S::MR < rows; ++y)
        pack_tile<typename A::Scores>(work.queries.data + y * A::G::a_tile, q(t), i0 + y * S::MR, 0, S::D);
    for (; j < end; j += S::JC)
      attend_keys<S>(work, q(t), k(u), v(u), keys, values, t, i0, i1, j, least(j + S::JC, end), skips, score,
                     live);
    if constexpr (S::PARTS > 1) {
      float* to = parts + x * A::part;
      std::memcpy(to, work.sums.data, sizeof(float) * rows * A::wide);
      std::memcpy(to + S::MC * A::wide, work.most.data, sizeof(float) * rows);
      std::memcpy(to + S::MC * (A::wide + 1), work.total.data, sizeof(float) * rows);
    } else {
      for (int64_t r = 0; r < rows; ++r)
        finish_row<S>(work.sums.data + r * A::wide, work.most.data[r], work.total.data[r], t, i0 + r, finish);
    }
  });
  if constexpr (S::PARTS > 1)
    share<false>(S::BATCH * A::blocks, [&](int64_t x) {
      const int64_t t = x / A::blocks, b = A::blocks - 1 - x % A::blocks;
      join_parts<S>(parts + x * S::PARTS * A::part, t, b * S::MC, least(S::MC, S::M - b * S::MC), finish);
    });
}

}  // namespace epx
