// ---- contractions: C[t][i][j] = finish(sum over k of A[t][i][k] * B[t][k][j]) ------------------
// A register tile of MR rows by NV vectors walks over k; tiles of one block of C share panels of A
// and B in the caches. `S` gives every size and stride as a constant, so that addresses are folded
// into the instructions and only the remainder tiles that this shape has are compiled:
//   N lanes, MR rows, NV vectors, BATCH M J K sizes, MC JC KC block sizes, PARTS pieces of K,
//   AI AK strides of A along i and k, BK BJ strides of B along k and j,
//   DOT what is multiplied (dot.h), PACK_A PACK_B copies wanted, AHEAD steps of k to fetch ahead,
//   STEPS of k written out, DYNAMIC shares, ACROSS: tiles of a block row by row,
//   NEXT fetch the operands of the next block while this one is worked on (short sums only),
//   TURNED, where given: rows of C are columns of the result, as finish_turned says.
// a(t), b(t): the first element of batch t. finish(tail, t, i, j, sum, n) takes one vector of
// sums: row i, columns j .. j + n - 1.
#if defined(__GNUC__) && !defined(__clang__)
// gcc warns of the remainder loops of pack_tile even where they never run.
#pragma GCC diagnostic ignored "-Waggressive-loop-optimizations"
#endif
namespace epx {

// KEPT, where a kernel says it: copies that were made before and are given. 1: of A, 2: of B.
template <class S, class = void> constexpr int kept = 0;
template <class S> constexpr int kept<S, std::void_t<decltype(S::KEPT)>> = S::KEPT;
template <class S, class = void> constexpr bool turned = false;
template <class S> constexpr bool turned<S, std::void_t<decltype(S::TURNED)>> = S::TURNED != 0;

// PAST, where a kernel says it: the copy of B that all threads share is written past the caches.
template <class S, class = void> constexpr bool past = false;
template <class S> constexpr bool past<S, std::void_t<decltype(S::PAST)>> = S::PAST != 0;

template <class S> struct Gemm {
  using D = Dot<S::DOT, S::N>;
  using V = typename D::V;
  static constexpr int N = S::N, MR = S::MR, NR = S::NV * S::N;
  static constexpr int64_t M = S::M, J = S::J;
  static constexpr int64_t K = ceil_div(S::K, D::each), KC = ceil_div(S::KC, D::each);  // words
  static constexpr int64_t tiles = ceil_div(M, MR), panels = ceil_div(J, NR);  // of the whole C
  static constexpr int64_t depths = ceil_div(K, KC);
  static constexpr int64_t rows = ceil_div(tiles, S::MC / MR), columns = ceil_div(panels, S::JC / NR);
  // Panels that are copied together: rows of B are read in long pieces, and every thread has some.
  static constexpr int64_t pieces = S::BATCH * depths * panels;
  static constexpr int64_t group = pieces >= 128 ? 8 : ceil_div(pieces, 16), groups = ceil_div(panels, group);
  // Strides of A and B as the register tile sees them.
  static constexpr int64_t ai = S::PACK_A ? 1 : S::AI, ak = S::PACK_A ? MR : S::AK;
  static constexpr int64_t bk = S::PACK_B ? NR : S::BK;
  // A panel of B: the row that sums begin with, where there is one, and KC rows of words.
  static constexpr int64_t begin = D::quads ? NR : 0, panel = begin + KC * NR;
  static constexpr int rest = int(S::K % D::each == 0 ? D::each : S::K % D::each);  // steps of the last word
  static constexpr int64_t a_tile = (KC + ceil_div(N, MR)) * MR;  // vectors may reach past the end
  // Floats of working memory: copies of A and B, partial sums, one block of C for each thread.
  static constexpr int64_t a_batch = depths * tiles * a_tile, b_batch = depths * panels * panel;
  // What only one block reads is copied by the thread that works on the block, one depth at a time.
  static constexpr bool own_a = S::PACK_A && columns == 1 && !(kept<S> & 1);
  static constexpr bool own_b = S::PACK_B && rows == 1 && !(kept<S> & 2);
  static constexpr int64_t a_floats = S::PACK_A && !own_a ? S::BATCH * a_batch : 0;
  static constexpr int64_t b_floats = S::PACK_B && !own_b ? S::BATCH * b_batch : 0;
  static constexpr int64_t own_a_floats = own_a ? S::MC / MR * a_tile : 0;
  static constexpr int64_t own_b_floats = own_b ? S::JC / NR * panel : 0;
  static constexpr int64_t block_sums = (S::MC / MR) * (S::JC / NR) * MR * NR;
  static constexpr int64_t block_floats = depths > 1 || turned<S> ? block_sums : 0;
  static constexpr int64_t blocks = S::BATCH * rows * columns;
  static constexpr int64_t part_floats = S::PARTS > 1 ? S::PARTS * blocks * block_floats : 0;
  // Panels of B come from the last cache, one after the other. While the tiles of one are worked on
  // they ask for all of the next, each for so many lines at a time.
  static constexpr bool far = KC * panels * NR > (1 << 16);  // a smaller B stays in the second cache
  static constexpr int64_t soon = S::PACK_B && !own_b && far && !S::ACROSS && !S::NEXT
                                      ? ceil_div(S::STEPS * NR, 16 * (S::MC / MR)) : 0;
};
// A copy is of words; what is not copied is read as floats where it lies.
template <class T> EPX const float* floats_at(const T* p) {
  if constexpr (std::is_same_v<T, float>) return p;
  else return nullptr;
}

// A word of a copy goes to its place, through the caches or past them: lines that other cores have read
// were seen to cost several times as much to write (docs/log.md, 2026-11-22).
template <bool PAST, class E, class P> EPX void lay(E* to, P words) {
  if constexpr (PAST && sizeof(P) == 64) stream(to, words);
  else store(to, words);
}

// Turn N vectors of N lanes about the diagonal.
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

// One panel of B, NR columns from j and `depth` words from word k: k-major, columns past the end zero.
template <class S, bool PAST = false, class T>
inline void turn_panel(float* into, const T* b, int64_t k, int64_t depth, int64_t j) {
  using G = Gemm<S>;
  using D = typename G::D;
  using W = Words<D, T>;
  using P = typename D::P;
  constexpr int N = S::N, NR = G::NR, each = D::each;
  const int64_t width = least(NR, G::J - j), whole_words = least(depth, S::K / each - k);
  const T* from = b + k * each * S::BK + j * S::BJ;
  auto* const to = reinterpret_cast<typename D::E*>(into + G::begin);
  int64_t p = 0;
  if constexpr (S::BK == 1 && N > 1 && !is_wide<P>) {
    for (; p + N <= whole_words; p += N) {
      EPX_UNROLL for (int v = 0; v < S::NV; ++v) {
        P r[N];
#pragma GCC unroll 16
        for (int l = 0; l < N; ++l)
          r[l] = v * N + l < width ? W::along(from + (v * N + l) * S::BJ + p * each) : P{};
        turn(r);
#pragma GCC unroll 16
        for (int l = 0; l < N; ++l) lay<PAST>(to + (p + l) * NR + v * N, r[l]);
      }
    }
  }
  for (; p < depth; ++p)
    for (int64_t c = 0; c < NR; ++c)
      store(to + p * NR + c, c < width ? W::one(from + p * each * S::BK + c * S::BJ, S::BK, p < whole_words ? each : G::rest)
                                       : typename D::E(0));
}

// What the sums of a packed panel begin with, where bytes are multiplied (dot.h).
template <class S> inline void begin_panel([[maybe_unused]] float* panel, [[maybe_unused]] int64_t depth) {
  using G = Gemm<S>;
  if constexpr (G::D::quads) {
    using V = typename G::V;
    V sums[S::NV] = {};
    for (int64_t p = 0; p < depth; ++p)
      EPX_UNROLL for (int v = 0; v < S::NV; ++v)
        sums[v] = add_quads(splat<V>(0x01010101), raw_load<V>(panel + (p + 1) * G::NR + v * S::N), sums[v]);
    EPX_UNROLL for (int v = 0; v < S::NV; ++v) raw_store(panel + v * S::N, sums[v] * -128);
  }
}

// Panels q0 .. q1 - 1 of B, `depth` words from word k. Rows that lie in one piece are read along.
template <class S, bool PAST = false, class T>
inline void pack_panels(float* into, const T* b, int64_t k, int64_t depth, int64_t q0, int64_t q1) {
  using G = Gemm<S>;
  using D = typename G::D;
  constexpr int N = S::N, NR = G::NR, each = D::each;
  constexpr bool added = PAST && D::quads && S::BJ == 1;  // what went past the caches is not read again
  [[maybe_unused]] typename G::V sums[added ? G::group * S::NV : 1] = {};
  if constexpr (S::BJ != 1) {
    for (int64_t q = q0; q < q1; ++q)
      turn_panel<S, PAST && !D::quads>(into + (q - q0) * G::panel, b, k, depth, q * NR);
  } else {
    const auto row = [&](int64_t p, int there) EPX_BODY {
      const T* const from = b + (k + p) * each * S::BK;
      auto* const to = reinterpret_cast<typename D::E*>(into + G::begin) + p * NR;
      for (int64_t q = q0; q < q1; ++q)
        EPX_UNROLL for (int v = 0; v < S::NV; ++v) {
          const int64_t j = q * NR + v * N;
          const auto words =
              Words<D, T>::across(from + j, S::BK, there, (q + 1) * NR <= G::J ? N : int(G::J - j));
          lay<PAST>(to + (q - q0) * G::panel + v * N, words);
          if constexpr (added) {
            auto& sum = sums[(q - q0) * S::NV + v];
            sum = add_quads(splat<typename G::V>(0x01010101), words, sum);
          }
        }
    };
    const int64_t whole_words = least(depth, S::K / each - k);
    for (int64_t p = 0; p < whole_words; ++p) row(p, each);
    for (int64_t p = whole_words; p < depth; ++p) row(p, G::rest);
  }
  for (int64_t q = q0; q < q1; ++q) {
    if constexpr (!added) begin_panel<S>(into + (q - q0) * G::panel, depth);
    else
      EPX_UNROLL for (int v = 0; v < S::NV; ++v)
        raw_store(into + (q - q0) * G::panel + v * N, sums[(q - q0) * S::NV + v] * -128);
  }
  if constexpr (PAST) fence();
}

template <class S, class T>
inline void pack_panel(float* into, const T* b, int64_t k, int64_t depth, int64_t j) {
  pack_panels<S>(into, b, k, depth, j / Gemm<S>::NR, j / Gemm<S>::NR + 1);
}

// One tile of A, MR rows from i and `depth` words from word k: k-major.
template <class S, class T>
inline void pack_tile(float* into, const T* a, int64_t i, int64_t k, int64_t depth) {
  using G = Gemm<S>;
  using D = typename G::D;
  using W = Words<D, T>;
  using P = typename D::P;
  constexpr int MR = G::MR, N = S::N, each = D::each;
  const int64_t height = least(MR, G::M - i), whole_words = least(depth, S::K / each - k);
  const T* from = a + i * S::AI + k * each * S::AK;
  auto* const to = reinterpret_cast<typename D::E*>(into);
  int64_t p = 0;
  if constexpr (S::AK == 1 && N > 1 && !is_wide<P>) {
    for (; p + N <= whole_words; p += N)
      EPX_UNROLL for (int g = 0; g < MR; g += N) {
        P r[N];
#pragma GCC unroll 16
        for (int l = 0; l < N; ++l) r[l] = g + l < height ? W::along(from + (g + l) * S::AI + p * each) : P{};
        turn(r);
#pragma GCC unroll 16
        for (int l = 0; l < N; ++l) {
          r[l] = D::left(r[l]);
          if (MR > N && g + N > MR) store_n(to + (p + l) * MR + g, r[l], MR - g);
          else store(to + (p + l) * MR + g, r[l]);  // the next step overwrites what is too much
        }
      }
  }
  if constexpr (S::AI == 1 && D::each == 1 && N > 1) {  // rows of k-major memory, as they are
    constexpr int64_t reach = ceil_div(MR, N) * N;
    for (; p < depth && i + reach <= G::M; ++p)
      EPX_UNROLL for (int g = 0; g < MR; g += N) {
        const P v = W::across(from + p * S::AK + g, S::AK, 1, N);
        if (MR > N && g + N > MR) store_n(to + p * MR + g, v, MR - g);
        else store(to + p * MR + g, v);  // the next step overwrites what is too much
      }
  }
  for (; p < depth; ++p)
    for (int64_t r = 0; r < height; ++r)
      store(to + p * MR + r,
            D::left(W::one(from + p * each * S::AK + r * S::AI, S::AK, p < whole_words ? each : G::rest)));
}

// The copy of A, tile by tile; every thread of a team calls it.
template <class S, class A> void pack_left(float* pa, const A& a) {
  using G = Gemm<S>;
  share<false>(S::BATCH * G::depths * G::tiles, [&](int64_t u) {
    const int64_t t = u / (G::depths * G::tiles), d = u / G::tiles % G::depths, r = u % G::tiles;
    float* to = pa + t * G::a_batch + (d * G::tiles + r) * G::a_tile;
    pack_tile<S>(to, a(t), r * G::MR, d * G::KC, least(G::KC, G::K - d * G::KC));
  });
}

// The copy of B, some panels at a time; every thread of a team calls it.
template <class S, class B> void pack_right(float* pb, const B& b) {
  using G = Gemm<S>;
  share<false>(S::BATCH * G::depths * G::groups, [&](int64_t u) {
    const int64_t t = u / (G::depths * G::groups), d = u / G::groups % G::depths, q = u % G::groups * G::group;
    float* to = pb + t * G::b_batch + (d * G::panels + q) * G::panel;
    pack_panels<S, past<S>>(to, b(t), d * G::KC, least(G::KC, G::K - d * G::KC), q, least(q + G::group, G::panels));
  });
}

}  // namespace epx
