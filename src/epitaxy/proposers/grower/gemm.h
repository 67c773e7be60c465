// ---- contractions from copies: register tiles, blocks, the whole product (needs pack.h) ------------
namespace epx {

// The register tile: R rows by NV vectors, `depth` steps of k. MASKED: the last vector has n lanes.
// SOON lines from `soon` are asked for every few steps.
template <class S, int R, int W, bool MASKED, int64_t SOON = 0>
EPX_BODY inline void multiply(typename Gemm<S>::V (&c)[R][W], const float* a, const float* b, int64_t depth, int n,
                              [[maybe_unused]] const float* soon = nullptr) {
  using G = Gemm<S>;
  using P = typename G::D::P;
  auto step = [&](const float* ap, const float* bp) EPX_BODY {
    P bv[W];
    EPX_UNROLL for (int v = 0; v < W; ++v) {
      if constexpr (MASKED) bv[v] = v == W - 1 ? load_n<P>(bp + v * G::N, n) : load<P>(bp + v * G::N);
      else bv[v] = raw_load<P>(bp + v * G::N);
    }
    if constexpr (S::AHEAD > 0)
      EPX_UNROLL for (int v = 0; v < W; ++v) prefetch(bp + S::AHEAD * G::bk + v * G::N);
    EPX_UNROLL for (int v = 0; v < W; ++v) keep_here(bv[v]);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      const P av = splat<P>(raw_load<elem<P>>(ap + r * G::ai));
      EPX_UNROLL for (int v = 0; v < W; ++v) c[r][v] = dot<S::DOT>(av, bv[v], c[r][v]);
    }
  };
  int64_t p = 0;
  for (; p + S::STEPS <= depth; p += S::STEPS, a += S::STEPS * G::ak, b += S::STEPS * G::bk) {
    if constexpr (SOON > 0) {
      EPX_UNROLL for (int64_t l = 0; l < SOON; ++l) __builtin_prefetch(soon + l * 16, 0, 2);
      soon += SOON * 16;
    }
    EPX_UNROLL for (int u = 0; u < S::STEPS; ++u) step(a + u * G::ak, b + u * G::bk);
  }
  for (; p < depth; ++p, a += G::ak, b += G::bk) step(a, b);
}

template <class S, int R, int W, bool MASKED, class F>
EPX_BODY inline void finish_tile(const typename Gemm<S>::V (&c)[R][W], int64_t t, int64_t i, int64_t j, int n, const F& finish) {
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
    EPX_UNROLL for (int v = 0; v < W; ++v) {
      if constexpr (MASKED) {
        if (v == W - 1) {
          finish(part{}, t, i + r, j + v * S::N, c[r][v], n);
          continue;
        }
      }
      finish(whole{}, t, i + r, j + v * S::N, c[r][v], int(S::N));
    }
}
// The same where `finish` is long (S::APART): in a function of its own, from memory. Its many values
// and constants would otherwise push the sums out of their registers in the loop before it.
template <class S, class = void> constexpr bool apart = false;
template <class S> constexpr bool apart<S, std::void_t<decltype(S::APART)>> = S::APART != 0;

template <class S, int R, int W, bool MASKED, class V, class F>
__attribute__((noinline)) void finish_apart(const V (&c)[R][W], int64_t t, int64_t i, int64_t j, int n, const F& finish) {
  for (int v = 0; v < W; ++v)  // where a column lies is worked out once for all rows
    for (int r = 0; r < R; ++r) {
      if (MASKED && v == W - 1) finish(part{}, t, i + r, j + v * S::N, c[r][v], n);
      else finish(whole{}, t, i + r, j + v * S::N, c[r][v], int(S::N));
    }
}
template <class S, int R, int W, bool MASKED, class V, class F>
EPX_BODY inline void hand_over(const V (&c)[R][W], int64_t t, int64_t i, int64_t j, int n, const F& finish) {
  if constexpr (apart<S>) {
    V sums[R][W];
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
      EPX_UNROLL for (int v = 0; v < W; ++v) sums[r][v] = c[r][v];
    finish_apart<S, R, W, MASKED>(sums, t, i, j, n, finish);
  } else {
    finish_tile<S, R, W, MASKED>(c, t, i, j, n, finish);
  }
}
// One tile of C over one depth of k: add it to the sums in `hold`, or finish them. A function of its
// own: compilers keep the sums in registers only when the loop is all that they see. What was held is
// added after the loop, so that all ways to it agree on the registers.
template <class S, int R, int W, bool MASKED, int64_t SOON = 0, class F>
__attribute__((noinline)) void tile(const float* a, const float* b, int64_t depth, float* hold, bool first, bool last,
                          int64_t t, int64_t i, int64_t j, int n, const F& finish, const float* soon = nullptr) {
  using G = Gemm<S>;
  using V = typename G::V;
  const F done = finish;  // its pointers in registers: stores of floats might change them
  V c[R][W] = {};
  if constexpr (G::begin > 0) {
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
      EPX_UNROLL for (int v = 0; v < W; ++v) c[r][v] = raw_load<V>(b + v * G::N);
  }
  multiply<S, R, W, MASKED && !S::PACK_B, SOON>(c, a, b + G::begin, depth, n, soon);
  if (G::depths > 1 && !first) {
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
      EPX_UNROLL for (int v = 0; v < W; ++v) c[r][v] = c[r][v] + raw_load<V>(hold + (r * S::NV + v) * G::N);
  }
  if constexpr (!turned<S>)
    if (G::depths == 1 || last) return hand_over<S, R, W, MASKED>(c, t, i, j, n, done);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
    EPX_UNROLL for (int v = 0; v < W; ++v) raw_store(hold + (r * S::NV + v) * G::N, c[r][v]);
}
// One tile of C from its parts, each of which lies as far from the next as all blocks together.
template <class S, int R, int W, bool MASKED, class F>
EPX_BODY inline void add_parts(const float* held, int64_t t, int64_t i, int64_t j, int n, const F& finish) {
  using G = Gemm<S>;
  typename G::V c[R][W] = {};
  for (int64_t piece = 0; piece < S::PARTS; ++piece, held += G::blocks * G::block_floats) {
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
      EPX_UNROLL for (int v = 0; v < W; ++v)
        c[r][v] = c[r][v] + raw_load<typename G::V>(held + (r * S::NV + v) * G::N);
  }
  finish_tile<S, R, W, MASKED>(c, t, i, j, n, finish);
}

// body(rows, vectors, masked, n) for the tile at (i, j): only the sizes that occur are compiled.
template <class S, class F> EPX_BODY inline void sized(int64_t i, int64_t j, const F& body) {
  using G = Gemm<S>;
  constexpr int rest_rows = int(G::M % G::MR), rest_columns = int(G::J % G::NR);
  constexpr int W = int(ceil_div(rest_columns, G::N)), n = rest_columns - (W - 1) * G::N;
  const auto across = [&](auto rows) EPX_BODY {
    if (rest_columns == 0 || (G::J >= G::NR && j + G::NR <= G::J)) {
      if constexpr (G::J >= G::NR) body(rows, std::integral_constant<int, S::NV>{}, whole{}, G::N);
    } else if constexpr (rest_columns != 0) {
      body(rows, std::integral_constant<int, W>{}, std::integral_constant<bool, (n < G::N)>{}, n);
    }
  };
  if (rest_rows == 0 || (G::M >= G::MR && i + G::MR <= G::M)) {
    if constexpr (G::M >= G::MR) across(std::integral_constant<int, G::MR>{});
  } else if constexpr (rest_rows != 0) {
    across(std::integral_constant<int, rest_rows>{});
  }
}

// body(r, q, held) for the tiles of one block of C: tile rows r, panels q, their place in `hold`.
template <class S, class F>
EPX_BODY inline void block(int64_t row, int64_t column, float* hold, const F& body) {
  using G = Gemm<S>;
  constexpr int64_t high = S::MC / G::MR, wide = S::JC / G::NR;
  const int64_t i0 = row * high, i1 = least(i0 + high, G::tiles);
  const int64_t j0 = column * wide, j1 = least(j0 + wide, G::panels);
  const auto at = [&](int64_t r, int64_t q) EPX_BODY {
    body(r, q, hold + ((q - j0) * high + (r - i0)) * G::MR * G::NR);
  };
  if constexpr (S::ACROSS) {
    for (int64_t r = i0; r < i1; ++r)
      for (int64_t q = j0; q < j1; ++q) at(r, q);
  } else {
    for (int64_t q = j0; q < j1; ++q)
      for (int64_t r = i0; r < i1; ++r) at(r, q);
  }
}

// One block of C from its sums in `hold`, square by square: finish(tail, t, j, i, sum, n) takes rows
// i .. i + n - 1 of column j.
template <class S, class F>
__attribute__((noinline)) void finish_turned(const float* hold, int64_t t, int64_t row, int64_t column, const F& finish) {
  using G = Gemm<S>;
  using V = typename G::V;
  constexpr int N = S::N;
  const F done = finish;
  const int64_t i0 = row * S::MC, i1 = least(i0 + S::MC, G::M);
  const int64_t j0 = column * S::JC, j1 = least(j0 + S::JC, G::J);
  for (int64_t j = j0; j < j1; j += N) {
    const float* const from = hold + (j - j0) / G::NR * S::MC * G::NR + (j - j0) % G::NR;
    for (int64_t i = i0; i < i1; i += N) {
      V sums[N];
#pragma GCC unroll 16
      for (int l = 0; l < N; ++l) sums[l] = raw_load<V>(from + (least(i + l, i1 - 1) - i0) * G::NR);
      turn(sums);
      const int n = int(least(N, i1 - i)), high = int(least(N, j1 - j));
      for (int k = 0; k < high; ++k) {
        if (n == N) done(whole{}, t, j + k, i, sums[k], n);
        else done(part{}, t, j + k, i, sums[k], n);
      }
    }
  }
}

// Fetch a part of `rows` rows of `width` elements into the second cache.
template <class T>
EPX_BODY inline void fetch_rows(const T* p, int64_t rows, int64_t stride, int64_t width, int64_t part, int64_t parts) {
  constexpr int64_t line = 64 / sizeof(T);
  for (int64_t i = rows * part / parts; i < rows * (part + 1) / parts; ++i)
    for (int64_t x = 0; x < width; x += line) __builtin_prefetch(p + i * stride + x, 0, 2);
}
// With each tile of a block ask for a part of the memory that block u will read first.
template <class S, class A, class B> EPX_BODY inline void fetch_block(const A& a, const B& b, int64_t u, int64_t part) {
  using G = Gemm<S>;
  constexpr int64_t parts = (S::MC / G::MR) * (S::JC / G::NR);
  const int64_t c = u % G::columns, r = u / G::columns % G::rows, t = u / (G::columns * G::rows);
  const int64_t i = r * S::MC, high = least(S::MC, S::M - i), j = c * S::JC, wide = least(S::JC, S::J - j);
  if constexpr (!S::PACK_A || G::own_a) {
    const auto* const p = a(t) + i * S::AI;
    if constexpr (S::AK == 1) fetch_rows(p, high, S::AI, S::K, part, parts);
    else if constexpr (S::AI == 1) fetch_rows(p, S::K, S::AK, high, part, parts);
  }
  if constexpr (!S::PACK_B || G::own_b) {
    const auto* const p = b(t) + j * S::BJ;
    if constexpr (S::BJ == 1) fetch_rows(p, S::K, S::BK, wide, part, parts);
    else if constexpr (S::BK == 1) fetch_rows(p, wide, S::BJ, S::K, part, parts);
  }
}

// Ask for the lines of a tile's results, which lie from place(t, i, j) on for row i, to write to: they
// would else be waited for once the sums are there. What follows a row is asked for in vain, at worst.
struct Nowhere {};
template <class S, class P> EPX_BODY inline void ask_for_results(int64_t t, int64_t i, int64_t j, const P& place) {
  using G = Gemm<S>;
  for (int64_t r = i; r < least(i + G::MR, G::M); ++r) {
    const auto* const to = place(t, r, j);
    for (int64_t k = 0; k < least(G::NR, G::J - j); k += 16) __builtin_prefetch(to + k, 1);
  }
}

// The whole contraction; every thread of a team calls it. `pa`, `pb`, `parts`: see Gemm. `live(i0,
// i1, j0, j1)` is false for tiles whose sums nobody looks at (masked results): they stay zero. `place`,
// where given: see ask_for_results.
template <class S, class A, class B, class L, class F, class P = Nowhere>
void contract(const A& a, const B& b, float* pa, float* pb, float* parts, const L& live, const F& finish,
              [[maybe_unused]] const P& place = {}) {
  using G = Gemm<S>;
  if constexpr (S::PACK_B && !G::own_b && !(kept<S> & 2)) pack_right<S>(pb, b);
  if constexpr (S::PACK_A && !G::own_a && !(kept<S> & 1)) pack_left<S>(pa, a);
  constexpr bool split = S::PARTS > 1, next = S::NEXT && G::depths == 1;
  constexpr int64_t high = S::MC / G::MR, wide = S::JC / G::NR;
  constexpr int64_t a_step = S::PACK_A ? G::a_tile : G::MR * S::AI, b_step = S::PACK_B ? G::panel : G::NR;
  const Scratch<float> own(G::own_a_floats + G::own_b_floats + (split ? 0 : G::block_floats));
  float* const own_b = own.data + G::own_a_floats;
  share<S::DYNAMIC && !next, split>(G::blocks * S::PARTS, [&](int64_t u) {
    const int64_t piece = u / G::blocks, c = u % G::columns, r = u / G::columns % G::rows;
    const int64_t t = u / (G::columns * G::rows) % S::BATCH;
    const int64_t d0 = piece * G::depths / S::PARTS, d1 = (piece + 1) * G::depths / S::PARTS;
    float* hold = split ? parts + u * G::block_floats : own_b + G::own_b_floats;
    for (int64_t d = d0; d < d1; ++d) {
      const int64_t k = d * G::KC, depth = least(G::KC, G::K - k);
      const float* ad = floats_at(a(t) + k * S::AK);  // tile 0 and panel 0 of this depth
      const float* bd = floats_at(b(t) + k * S::BK);
      if constexpr (G::own_a) {
        for (int64_t y = r * high; y < least((r + 1) * high, G::tiles); ++y)
          pack_tile<S>(own.data + (y - r * high) * a_step, a(t), y * G::MR, k, depth);
        ad = own.data - r * high * a_step;
      } else if constexpr (S::PACK_A) {
        ad = pa + t * G::a_batch + d * G::tiles * a_step;
      }
      if constexpr (G::own_b) {
        pack_panels<S>(own_b, b(t), k, depth, c * wide, least((c + 1) * wide, G::panels));
        bd = own_b - c * wide * b_step;
      } else if constexpr (S::PACK_B) {
        bd = pb + t * G::b_batch + d * G::panels * b_step;
      }
      block<S>(r, c, hold, [&](int64_t y, int64_t x, float* held) EPX_BODY {
        const float *ap = ad + y * a_step, *bp = bd + x * b_step;
        const int64_t i = y * G::MR, j = x * G::NR;
        const bool used = live(i, least(i + G::MR, G::M), j, least(j + G::NR, G::J));
        if constexpr (next)
          if (u + 1 < G::blocks) fetch_block<S>(a, b, u + 1, (x - c * wide) * high + (y - r * high));
        if constexpr (!std::is_same_v<P, Nowhere>)
          if (d + 1 == d1) ask_for_results<S>(t, i, j, place);
        const float* const soon = bp + b_step + (y - r * high) * (G::KC / S::STEPS) * G::soon * 16;
        sized<S>(i, j, [&](auto rows, auto vectors, auto masked, int n) EPX_BODY {
          tile<S, rows, vectors, masked, G::soon>(ap, bp, used ? depth : 0, held, d == d0, !split && d + 1 == d1, t, i, j,
                                                  n, finish, soon);
        });
      });
    }
    if constexpr (turned<S>) finish_turned<S>(hold, t, r, c, finish);
  });
  if constexpr (split)  // the implied barrier: every part is there
    share<false, false>(G::blocks, [&](int64_t u) {
      const int64_t c = u % G::columns, r = u / G::columns % G::rows, t = u / (G::columns * G::rows);
      block<S>(r, c, parts + u * G::block_floats, [&](int64_t y, int64_t x, float* held) EPX_BODY {
        sized<S>(y * G::MR, x * G::NR, [&](auto rows, auto vectors, auto masked, int n) EPX_BODY {
          add_parts<S, rows, vectors, masked>(held, t, y * G::MR, x * G::NR, n, finish);
        });
      });
    });
}

}  // namespace epx
