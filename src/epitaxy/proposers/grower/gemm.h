// ---- contractions: C[t][i][j] = finish(sum over k of A[t][i][k] * B[t][k][j]) ------------------
// A register tile of MR rows by NV vectors walks over k; tiles of one block of C share panels of A
// and B in the caches. `S` gives every size and stride as a constant, so that addresses are folded
// into the instructions and only the remainder tiles that this shape has are compiled:
//   N lanes, MR rows, NV vectors, BATCH M J K sizes, MC JC KC block sizes, PARTS pieces of K,
//   AI AK strides of A along i and k, BK BJ strides of B along k and j,
//   PACK_A PACK_B copies wanted, AHEAD steps of k to fetch ahead, STEPS of k written out, DYNAMIC shares.
// a(t), b(t): the first element of batch t. finish(tail, t, i, j, sum, n) takes one vector of
// sums: row i, columns j .. j + n - 1.
#if defined(__GNUC__) && !defined(__clang__)
// gcc warns of the remainder loops of pack_tile even where they never run.
#pragma GCC diagnostic ignored "-Waggressive-loop-optimizations"
#endif
namespace epx {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class S> struct Gemm {
  static constexpr int N = S::N, MR = S::MR, NR = S::NV * S::N;
  static constexpr int64_t M = S::M, J = S::J, K = S::K, KC = S::KC;
  static constexpr int64_t tiles = ceil_div(M, MR), panels = ceil_div(J, NR);  // of the whole C
  static constexpr int64_t depths = ceil_div(K, KC);
  static constexpr int64_t rows = ceil_div(tiles, S::MC / MR), columns = ceil_div(panels, S::JC / NR);
  // Strides of A and B as the register tile sees them.
  static constexpr int64_t ai = S::PACK_A ? 1 : S::AI, ak = S::PACK_A ? MR : S::AK;
  static constexpr int64_t bk = S::PACK_B ? NR : S::BK;
  static constexpr int64_t a_tile = (KC + ceil_div(N, MR)) * MR;  // vectors may reach past the end
  // Floats of working memory: copies of A and B, partial sums, one block of C for each thread.
  static constexpr int64_t a_batch = depths * tiles * a_tile, b_batch = depths * KC * panels * NR;
  // What only one block reads is copied by the thread that works on the block, one depth at a time.
  static constexpr bool own_a = S::PACK_A && columns == 1, own_b = S::PACK_B && rows == 1;
  static constexpr int64_t a_floats = S::PACK_A && !own_a ? S::BATCH * a_batch : 0;
  static constexpr int64_t b_floats = S::PACK_B && !own_b ? S::BATCH * b_batch : 0;
  static constexpr int64_t own_a_floats = own_a ? S::MC / MR * a_tile : 0;
  static constexpr int64_t own_b_floats = own_b ? S::JC * KC : 0;
  static constexpr int64_t block_floats = depths > 1 ? (S::MC / MR) * (S::JC / NR) * MR * NR : 0;
  static constexpr int64_t blocks = S::BATCH * rows * columns;
  static constexpr int64_t part_floats = S::PARTS > 1 ? S::PARTS * blocks * block_floats : 0;
  using V = vf<N>;
};

// Turn N vectors of N lanes about the diagonal.
template <class V> EPX V pick_two(V a, V b, ints<V> from) {  // lane l: from[l] < N ? a : b
#if defined(__clang__)
  return build<V>([=](int l) { return from[l] < lanes<V> ? a[from[l]] : b[from[l] - lanes<V>]; });
#else
  return __builtin_shuffle(a, b, from);
#endif
}
template <int D, class V, int N> EPX_BODY inline void turn_step(V (&r)[N]) {
  if constexpr (D >= 1) {
    using I = ints<V>;
    const auto low = build<I>([](int l) { return (l & D) ? N + l - D : l; });
    const auto high = build<I>([](int l) { return (l & D) ? N + l : l + D; });
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) {
      if (i & D) continue;
      const V x = r[i], y = r[i + D];
      r[i] = pick_two(x, y, low);
      r[i + D] = pick_two(x, y, high);
    }
    turn_step<D / 2>(r);
  }
}
template <class V, int N> EPX_BODY inline void turn(V (&r)[N]) { turn_step<N / 2>(r); }

// One panel of B, NR columns from j and `depth` steps from k: k-major, columns past the end zero.
template <class S> inline void pack_panel(float* to, const float* b, int64_t k, int64_t depth, int64_t j) {
  using G = Gemm<S>;
  using V = typename G::V;
  constexpr int N = G::N, NR = G::NR;
  const int64_t width = least(NR, G::J - j);
  const float* from = b + k * S::BK + j * S::BJ;
  if constexpr (S::BJ == 1) {
    if (width == NR) {
      for (int64_t p = 0; p < depth; ++p)
        EPX_UNROLL for (int v = 0; v < S::NV; ++v)
          store(to + p * NR + v * N, load<V>(from + p * S::BK + v * N));
    } else {
      for (int64_t p = 0; p < depth; ++p)
        EPX_UNROLL for (int v = 0; v < S::NV; ++v)
          store(to + p * NR + v * N, load_n<V>(from + p * S::BK + v * N, int(width - v * N)));
    }
  } else {
    int64_t p = 0;
    if constexpr (S::BK == 1 && N > 1 && !is_wide<V>) {
      for (; p + N <= depth; p += N) {
        EPX_UNROLL for (int v = 0; v < S::NV; ++v) {
          V r[N];
#pragma GCC unroll 16
          for (int l = 0; l < N; ++l)
            r[l] = v * N + l < width ? load<V>(from + (v * N + l) * S::BJ + p) : V{};
          turn(r);
#pragma GCC unroll 16
          for (int l = 0; l < N; ++l) store(to + (p + l) * NR + v * N, r[l]);
        }
      }
    }
    for (; p < depth; ++p)
      for (int64_t c = 0; c < NR; ++c) to[p * NR + c] = c < width ? from[p * S::BK + c * S::BJ] : 0.0f;
  }
}

// One tile of A, MR rows from i and `depth` steps from k: k-major.
template <class S> inline void pack_tile(float* to, const float* a, int64_t i, int64_t k, int64_t depth) {
  using G = Gemm<S>;
  using V = typename G::V;
  constexpr int MR = G::MR, N = G::N;
  const int64_t height = least(MR, G::M - i);
  const float* from = a + i * S::AI + k * S::AK;
  int64_t p = 0;
  if constexpr (S::AK == 1 && N > 1 && !is_wide<V>) {
    for (; p + N <= depth; p += N)
      EPX_UNROLL for (int g = 0; g < MR; g += N) {
        V r[N];
#pragma GCC unroll 16
        for (int l = 0; l < N; ++l) r[l] = g + l < height ? load<V>(from + (g + l) * S::AI + p) : V{};
        turn(r);
#pragma GCC unroll 16
        for (int l = 0; l < N; ++l) {
          if (MR > N && g + N > MR) store_n(to + (p + l) * MR + g, r[l], MR - g);
          else store(to + (p + l) * MR + g, r[l]);  // the next step overwrites what is too much
        }
      }
  }
  for (; p < depth; ++p)
    for (int64_t r = 0; r < height; ++r) to[p * MR + r] = from[p * S::AK + r * S::AI];
}

// The register tile: R rows by NV vectors, `depth` steps of k. MASKED: the last vector has n lanes.
template <class S, int R, int W, bool MASKED>
EPX_BODY inline void multiply(vf<S::N> (&c)[R][W], const float* a, const float* b, int64_t depth, int n) {
  using G = Gemm<S>;
  using V = typename G::V;
  auto step = [&](const float* ap, const float* bp) EPX_BODY {
    V bv[W];
    EPX_UNROLL for (int v = 0; v < W; ++v)
      bv[v] = MASKED && v == W - 1 ? load_n<V>(bp + v * G::N, n) : load<V>(bp + v * G::N);
    if constexpr (S::AHEAD > 0)
      EPX_UNROLL for (int v = 0; v < W; ++v) prefetch(bp + S::AHEAD * G::bk + v * G::N);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      const V av = splat<V>(ap[r * G::ai]);
      EPX_UNROLL for (int v = 0; v < W; ++v) c[r][v] = fma(av, bv[v], c[r][v]);
    }
  };
  int64_t p = 0;
  for (; p + S::STEPS <= depth; p += S::STEPS, a += S::STEPS * G::ak, b += S::STEPS * G::bk) {
    EPX_UNROLL for (int u = 0; u < S::STEPS; ++u) step(a + u * G::ak, b + u * G::bk);
  }
  for (; p < depth; ++p, a += G::ak, b += G::bk) step(a, b);
}

template <class S, int R, int W, bool MASKED, class F>
EPX_BODY inline void finish_tile(const vf<S::N> (&c)[R][W], int64_t t, int64_t i, int64_t j, int n, const F& finish) {
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
// One tile of C over one depth of k: continue the sums in `hold`, or finish them. A function of its
// own: compilers keep the sums in registers only when the loop is all that they see.
template <class S, int R, int W, bool MASKED, class F>
__attribute__((noinline)) void tile(const float* a, const float* b, int64_t depth, float* hold, bool first, bool last,
                          int64_t t, int64_t i, int64_t j, int n, const F& finish) {
  using G = Gemm<S>;
  using V = typename G::V;
  V c[R][W];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
    EPX_UNROLL for (int v = 0; v < W; ++v)
      c[r][v] = first ? V{} : load<V>(hold + (r * S::NV + v) * G::N);
  multiply<S, R, W, MASKED && !S::PACK_B>(c, a, b, depth, n);
  if (!last) {
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
      EPX_UNROLL for (int v = 0; v < W; ++v) store(hold + (r * S::NV + v) * G::N, c[r][v]);
  } else {
    finish_tile<S, R, W, MASKED>(c, t, i, j, n, finish);
  }
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
        c[r][v] = c[r][v] + load<typename G::V>(held + (r * S::NV + v) * G::N);
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
  for (int64_t q = j0; q < j1; ++q)
    for (int64_t r = i0; r < i1; ++r) body(r, q, hold + ((q - j0) * high + (r - i0)) * G::MR * G::NR);
}

// body(0) .. body(count - 1), shared among the threads of the team that calls it.
template <bool DYNAMIC, class F> inline void share(int64_t count, const F& body) {
  if constexpr (DYNAMIC) {
#pragma omp for schedule(dynamic)
    for (int64_t u = 0; u < count; ++u) body(u);
  } else {
#pragma omp for schedule(static)
    for (int64_t u = 0; u < count; ++u) body(u);
  }
}

// The whole contraction; every thread of a team calls it. `pa`, `pb`, `parts`: see Gemm. `live(i0,
// i1, j0, j1)` is false for tiles whose sums nobody looks at (masked results): they stay zero.
template <class S, class A, class B, class L, class F>
void contract(const A& a, const B& b, float* pa, float* pb, float* parts, const L& live, const F& finish) {
  using G = Gemm<S>;
  if constexpr (S::PACK_B && !G::own_b)
    share<false>(S::BATCH * G::depths * G::panels, [&](int64_t u) {
      const int64_t t = u / (G::depths * G::panels), d = u / G::panels % G::depths, q = u % G::panels;
      float* to = pb + t * G::b_batch + (d * G::panels + q) * G::KC * G::NR;
      pack_panel<S>(to, b(t), d * G::KC, least(G::KC, G::K - d * G::KC), q * G::NR);
    });
  if constexpr (S::PACK_A && !G::own_a)
    share<false>(S::BATCH * G::depths * G::tiles, [&](int64_t u) {
      const int64_t t = u / (G::depths * G::tiles), d = u / G::tiles % G::depths, r = u % G::tiles;
      float* to = pa + t * G::a_batch + (d * G::tiles + r) * G::a_tile;
      pack_tile<S>(to, a(t), r * G::MR, d * G::KC, least(G::KC, G::K - d * G::KC));
    });
  constexpr bool split = S::PARTS > 1;
  constexpr int64_t high = S::MC / G::MR, wide = S::JC / G::NR;
  constexpr int64_t a_step = S::PACK_A ? G::a_tile : G::MR * S::AI, b_step = S::PACK_B ? G::KC * G::NR : G::NR;
  const Scratch<float> own(G::own_a_floats + G::own_b_floats + (split ? 0 : G::block_floats));
  float* const own_b = own.data + G::own_a_floats;
  share<S::DYNAMIC>(G::blocks * S::PARTS, [&](int64_t u) {
    const int64_t piece = u / G::blocks, c = u % G::columns, r = u / G::columns % G::rows;
    const int64_t t = u / (G::columns * G::rows) % S::BATCH;
    const int64_t d0 = piece * G::depths / S::PARTS, d1 = (piece + 1) * G::depths / S::PARTS;
    float* hold = split ? parts + u * G::block_floats : own_b + G::own_b_floats;
    for (int64_t d = d0; d < d1; ++d) {
      const int64_t k = d * G::KC, depth = least(G::KC, G::K - k);
      const float* ad = a(t) + k * S::AK;  // tile 0 and panel 0 of this depth
      const float* bd = b(t) + k * S::BK;
      if constexpr (G::own_a) {
        for (int64_t y = r * high; y < least((r + 1) * high, G::tiles); ++y)
          pack_tile<S>(own.data + (y - r * high) * a_step, a(t), y * G::MR, k, depth);
        ad = own.data - r * high * a_step;
      } else if constexpr (S::PACK_A) {
        ad = pa + t * G::a_batch + d * G::tiles * a_step;
      }
      if constexpr (G::own_b) {
        for (int64_t x = c * wide; x < least((c + 1) * wide, G::panels); ++x)
          pack_panel<S>(own_b + (x - c * wide) * b_step, b(t), k, depth, x * G::NR);
        bd = own_b - c * wide * b_step;
      } else if constexpr (S::PACK_B) {
        bd = pb + t * G::b_batch + d * G::panels * b_step;
      }
      block<S>(r, c, hold, [&](int64_t y, int64_t x, float* held) EPX_BODY {
        const float *ap = ad + y * a_step, *bp = bd + x * b_step;
        const int64_t i = y * G::MR, j = x * G::NR;
        const bool used = live(i, least(i + G::MR, G::M), j, least(j + G::NR, G::J));
        sized<S>(i, j, [&](auto rows, auto vectors, auto masked, int n) EPX_BODY {
          tile<S, rows, vectors, masked>(ap, bp, used ? depth : 0, held, d == d0, !split && d + 1 == d1, t, i, j, n, finish);
        });
      });
    }
  });
  if constexpr (split)  // the implied barrier: every part is there
    share<false>(G::blocks, [&](int64_t u) {
      const int64_t c = u % G::columns, r = u / G::columns % G::rows, t = u / (G::columns * G::rows);
      block<S>(r, c, parts + u * G::block_floats, [&](int64_t y, int64_t x, float* held) EPX_BODY {
        sized<S>(y * G::MR, x * G::NR, [&](auto rows, auto vectors, auto masked, int n) EPX_BODY {
          add_parts<S, rows, vectors, masked>(held, t, y * G::MR, x * G::NR, n, finish);
        });
      });
    });
}

// ---- thin products: few rows, where the right operand is read once from memory ------------------
// Finish one block of sums, JC columns from j in rows of JC.
template <class S, class F>
inline void finish_block(const float* sums, int64_t t, int64_t j, const F& finish) {
  constexpr int N = S::N;
  const int64_t width = least(S::JC, S::J - j);
  for (int64_t i = 0; i < S::M; ++i) {
    const float* row = sums + i * S::JC;
    int64_t v = 0;
    for (; v + N <= width; v += N) finish(whole{}, t, i, j + v, load<vf<N>>(row + v), N);
    if (v < width) finish(part{}, t, i, j + v, load<vf<N>>(row + v), int(width - v));
  }
}

// R rows of A times W rows of B (columns of the result): lanes run along k in both.
template <class S, int R, int W> __attribute__((noinline)) void dots(const float* a, const float* b, float* sums) {
  using V = vf<S::N>;
  V c[R][W] = {};
  const auto step = [&](int64_t p, auto tail) EPX_BODY {
    constexpr int n = int(S::K % S::N);
    V av[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) av[r] = get<V>(tail, a + r * S::AI + p, n);
#pragma GCC unroll 16
    for (int w = 0; w < W; ++w) {
      const V bv = get<V>(tail, b + w * S::BJ + p, n);
      if constexpr (S::AHEAD > 0 && !decltype(tail)::value) prefetch(b + w * S::BJ + p + S::AHEAD * S::N);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) c[r][w] = fma(av[r], bv, c[r][w]);
    }
  };
  int64_t p = 0;
  for (; p + S::N <= S::K; p += S::N) step(p, whole{});
  if constexpr (S::K % S::N != 0) step(p, part{});
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int w = 0; w < W; ++w) sums[r * S::JC + w] = hsum(c[r][w]);
}
template <class S, class A, class B, class F> void contract_lines(const A& a, const B& b, const F& finish) {
  constexpr int R = S::MR, W = S::NV, last_r = int(S::M % R), last_w = int(S::J % W);
  constexpr int64_t columns = ceil_div(S::J, S::JC);
  const Scratch<float> sums(S::M * S::JC);
  const auto down = [&](const float* ap, const float* bp, float* to, auto across) EPX_BODY {
    constexpr int w = decltype(across)::value;
    for (int64_t i = 0; i + R <= S::M; i += R) dots<S, R, w>(ap + i * S::AI, bp, to + i * S::JC);
    constexpr int64_t i = S::M - last_r;
    if constexpr (last_r != 0) dots<S, last_r, w>(ap + i * S::AI, bp, to + i * S::JC);
  };
  share<S::DYNAMIC>(S::BATCH * columns, [&](int64_t u) {
    const int64_t t = u / columns, j0 = u % columns * S::JC, j1 = least(j0 + S::JC, S::J);
    int64_t j = j0;
    for (; j + W <= j1; j += W)
      down(a(t), b(t) + j * S::BJ, sums.data + (j - j0), std::integral_constant<int, W>{});
    if constexpr (last_w != 0)
      if (j < j1) down(a(t), b(t) + j * S::BJ, sums.data + (j - j0), std::integral_constant<int, last_w>{});
    finish_block<S>(sums.data, t, j0, finish);
  });
}

// A few rows of A times a row-major B: rows of B go by once, JC columns at a time; sums wait in L1.
template <class S, int U> EPX_BODY inline void add_rows(const float* a, const float* b, float* sums, int64_t width) {
  using V = vf<S::N>;
  constexpr int M = int(S::M);
  V av[M][U];
#pragma GCC unroll 16
  for (int r = 0; r < M; ++r)
#pragma GCC unroll 16
    for (int u = 0; u < U; ++u) av[r][u] = splat<V>(a[r * S::AI + u * S::AK]);
  const auto step = [&](int64_t v, auto tail, int n) EPX_BODY {
    V bv[U];
#pragma GCC unroll 16
    for (int u = 0; u < U; ++u) {
      bv[u] = get<V>(tail, b + u * S::BK + v, n);
      if constexpr (S::AHEAD > 0) prefetch(b + u * S::BK + v + S::AHEAD * S::BK);
    }
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) {
      V sum = load<V>(sums + r * S::JC + v);
#pragma GCC unroll 16
      for (int u = 0; u < U; ++u) sum = fma(av[r][u], bv[u], sum);
      store(sums + r * S::JC + v, sum);
    }
  };
  int64_t v = 0;
  for (; v + S::N <= width; v += S::N) step(v, whole{}, S::N);
  if (v < width) step(v, part{}, int(width - v));
}
template <class S, class A, class B, class F> void contract_rows(const A& a, const B& b, const F& finish) {
  constexpr int U = S::M >= 8 ? 1 : int(8 / S::M);
  constexpr int64_t columns = ceil_div(S::J, S::JC);
  const Scratch<float> sums(S::M * S::JC);
  share<S::DYNAMIC>(S::BATCH * columns, [&](int64_t u) {
    const int64_t t = u / columns, j = u % columns * S::JC, width = least(S::JC, S::J - j);
    for (int64_t v = 0; v < S::M * S::JC; v += S::N) store(sums.data + v, vf<S::N>{});
    const float *ap = a(t), *bp = b(t) + j;
    int64_t k = 0;
    for (; k + U <= S::K; k += U) add_rows<S, U>(ap + k * S::AK, bp + k * S::BK, sums.data, width);
    for (; k < S::K; ++k) add_rows<S, 1>(ap + k * S::AK, bp + k * S::BK, sums.data, width);
    finish_block<S>(sums.data, t, j, finish);
  });
}

}  // namespace epx
