// ---- thin products: few rows, where the right operand is read once from memory ------------------
// Operands of any type are converted as they are read. See pack.h for the names in S.
namespace epx {

template <class S> using sums_of = typename Dot<S::DOT, S::N>::V;

// Finish one block of sums, JC columns from j in rows of JC.
template <class S, class F>
inline void finish_block(const elem<sums_of<S>>* sums, int64_t t, int64_t j, const F& finish) {
  constexpr int N = S::N;
  const int64_t width = least(S::JC, S::J - j);
  for (int64_t i = 0; i < S::M; ++i) {
    const auto* row = sums + i * S::JC;
    int64_t v = 0;
    for (; v + N <= width; v += N) finish(whole{}, t, i, j + v, load<sums_of<S>>(row + v), N);
    if (v < width) finish(part{}, t, i, j + v, load<sums_of<S>>(row + v), int(width - v));
  }
}

// R rows of A times W rows of B (columns of the result): lanes run along k in both.
template <class S, int R, int W, class T, class U>
__attribute__((noinline)) void dots(const T* a, const U* b, elem<sums_of<S>>* sums) {
  using V = sums_of<S>;
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
  const Scratch<elem<sums_of<S>>> sums(S::M * S::JC);
  const auto down = [&](const auto* ap, const auto* bp, auto* to, auto across) EPX_BODY {
    constexpr int w = decltype(across)::value;
    for (int64_t i = 0; i + R <= S::M; i += R) dots<S, R, w>(ap + i * S::AI, bp, to + i * S::JC);
    constexpr int64_t i = S::M - last_r;
    if constexpr (last_r != 0) dots<S, last_r, w>(ap + i * S::AI, bp, to + i * S::JC);
  };
  share<S::DYNAMIC, false>(S::BATCH * columns, [&](int64_t u) {
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
template <class S, int U, class T, class B>
EPX_BODY inline void add_rows(const T* a, const B* b, elem<sums_of<S>>* sums, int64_t width) {
  using V = sums_of<S>;
  constexpr int M = int(S::M);
  V av[M][U];
#pragma GCC unroll 16
  for (int r = 0; r < M; ++r)
#pragma GCC unroll 16
    for (int u = 0; u < U; ++u) av[r][u] = splat<V>(load<elem<V>>(a + r * S::AI + u * S::AK));
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
  constexpr int U = S::M > 2 ? 4 : int(8 / S::M);
  constexpr int64_t columns = ceil_div(S::J, S::JC);
  const Scratch<elem<sums_of<S>>> sums(S::M * S::JC);
  share<S::DYNAMIC, false>(S::BATCH * columns, [&](int64_t u) {
    const int64_t t = u / columns, j = u % columns * S::JC, width = least(S::JC, S::J - j);
    for (int64_t v = 0; v < S::M * S::JC; v += S::N) store(sums.data + v, sums_of<S>{});
    const auto *ap = a(t);
    const auto *bp = b(t) + j;
    int64_t k = 0;
    for (; k + U <= S::K; k += U) add_rows<S, U>(ap + k * S::AK, bp + k * S::BK, sums.data, width);
    if constexpr (S::K % U != 0)
      for (; k < S::K; ++k) add_rows<S, 1>(ap + k * S::AK, bp + k * S::BK, sums.data, width);
    finish_block<S>(sums.data, t, j, finish);
  });
}

}  // namespace epx
