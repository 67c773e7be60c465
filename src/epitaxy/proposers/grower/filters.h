// ---- convolutions with lanes along the filters: each pixel is broadcast --------------------------
// Weights lie as [tile of filters][k][MR], pixels in a thread's own padded copy of the piece of the
// image that its block of results reads. No vector is read across a border of cache lines, and pixels
// may lie any number of elements apart. Sums wait as [pixel][MR] and are turned about as they are
// handed on. Beside what Gemm<S> asks for (a tile has MR = NV * N filters), `S` gives
//   ROWS of X pixels in the result, RB rows of XB pixels in a block, FB tiles of filters in a piece of
//   work, PX pixels in a register tile, STEP elements from pixel to pixel and DOWN from row to row of
//   the copy, PATCH its elements, GROUP steps of k that are written out, at(u) where step u of these
//   lies, TALL whole rows in a register tile (1: tiles are parts of one row), PHASES 2 where the pixels
//   of two batches, phases of a stride, lie between each other: both are worked on together, and
//   vectors of both handed on at twice the place in the row (1: every batch by itself), LAID copies of
//   the image for these: 1 where both read the same.
// lay(to, t, row, x): copy what the block at (row, x) reads; soon(q, t, row, x): ask for the q-th of ASKS
// parts of that; place(t, i, row, x): where results lie, asked for first where ASK says so; offsets:
// where each group begins in the copy; there(t, row, k): as conv.h says, for a row of pixels.
// meets(u, x), where `S` has it: whether step u of a group meets the image at pixel x of a row, which is
// whole in a block. GATHER: a block's results follow one another for each filter, but begin amid lines:
// finish puts them in a thread's own memory, from where they leave past the caches as whole lines.
namespace epx {

// Tell the compiler that p is made here: values that two steps share would be kept for the second one,
// and crowd the sums out of the registers.
template <class T> EPX_BODY inline void forget_place([[maybe_unused]] const T*& p) {
#if defined(__GNUC__)
  asm("" : "+r"(p));
#endif
}

template <class S, class = void> struct Meets {
  static constexpr bool edges = false;
  static constexpr bool at(int64_t, int64_t) { return true; }
};
template <class S> struct Meets<S, std::void_t<decltype(S::meets(0, 0))>> {
  static constexpr bool edges = true;
  static constexpr bool at(int64_t u, int64_t x) { return S::meets(u, x); }
};
constexpr int INSIDE = -1;
// The first pixel of a tile where some of its steps miss the image, else INSIDE: one function for all.
template <class S> constexpr int edge_at(int x, int pixels) {
  for (int64_t u = 0; u < S::GROUP; ++u)
    for (int p = 0; p < pixels; ++p)
      if (!Meets<S>::at(u, x + p)) return x;
  return INSIDE;
}

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int registers = 32;  // for vectors
#else
constexpr int registers = 16;
#endif
// How many steps from U on, each of which reads a pixel further, are taken together: a pixel of the image
// is read once for all of them, while the weights of all are in registers beside the sums.
template <class S, int P, int W, int U> constexpr int together() {
  constexpr int each = W * int(ceil_div(S::N * sizeof(float), native_bytes)), free = registers - 2;
  int count = 1;
  while (U + count < S::GROUP && S::at(U + count) == S::at(U) + count * S::STEP && (P + count + 1) * each <= free)
    ++count;
  return count;
}
// Whether any of the P pixels from FIRST on reads pixel q, counted from the first one's, in one of `count`
// steps from u on.
template <class S, int P, int FIRST> constexpr bool wanted(int64_t u, int count, int q) {
  for (int r = 0; r < count; ++r)
    if (q >= r && q - r < P && (FIRST == INSIDE || Meets<S>::at(u + r, FIRST + q - r))) return true;
  return false;
}

// Steps U .. GROUP - 1 of a group: add to the sums `c` of P pixels, LINE of each row.
template <class S, int P, int W, int LINE, int FIRST, int U, class V>
EPX_BODY inline void add_steps(V (&c)[P][W], const float* a, const float* at) {
  constexpr int count = together<S, P, W, U>();
  forget_place(at);
  V w[count][W];
#pragma GCC unroll 8
  for (int r = 0; r < count; ++r) {
    EPX_UNROLL for (int v = 0; v < W; ++v) {
      if constexpr (S::FAR > 0) __builtin_prefetch(a + (U + r + S::FAR) * S::MR + v * S::N);
      w[r][v] = raw_load<V>(a + (U + r) * S::MR + v * S::N);
    }
    EPX_UNROLL for (int v = 0; v < W; ++v) keep_here(w[r][v]);
  }
#pragma GCC unroll 32
  for (int l = 0; l < P; l += LINE) {
#pragma GCC unroll 40
    for (int q = 0; q < LINE + count - 1; ++q) {
      if (!wanted<S, LINE, FIRST>(U, count, q)) continue;
      V x = splat<V>(at[S::at(U) + l / LINE * S::DOWN + q * S::STEP]);
      if constexpr (count > 1) keep_here(x);
#pragma GCC unroll 8
      for (int r = 0; r < count; ++r) {
        if (q < r || q - r >= LINE || (FIRST != INSIDE && !Meets<S>::at(U + r, FIRST + q - r))) continue;
        EPX_UNROLL for (int v = 0; v < W; ++v) c[l + q - r][v] = fma(x, w[r][v], c[l + q - r][v]);
      }
    }
  }
  if constexpr (U + count < S::GROUP) add_steps<S, P, W, LINE, FIRST, U + count>(c, a, at);
}

// P pixels, LINE of each row, of W vectors of filters over `groups` groups of steps: the loop is all
// that compilers see. Steps that miss the image at a pixel, counted from FIRST, are left out.
template <class S, int P, int W, int LINE = P, int FIRST = INSIDE>
__attribute__((noinline)) void filter_tile(const float* a, const float* from, const int32_t* offsets,
                                           int64_t groups, float* hold, bool first) {
  using V = vf<S::N>;
  V c[P][W] = {};
  for (int64_t g = 0; g < groups; ++g, a += S::GROUP * S::MR)
    add_steps<S, P, W, LINE, FIRST, 0>(c, a, from + offsets[g]);
  if (!first) {
#pragma GCC unroll 32
    for (int p = 0; p < P; ++p)
      EPX_UNROLL for (int v = 0; v < W; ++v) c[p][v] = c[p][v] + raw_load<V>(hold + p * S::MR + v * S::N);
  }
#pragma GCC unroll 32
  for (int p = 0; p < P; ++p)
    EPX_UNROLL for (int v = 0; v < W; ++v) raw_store(hold + p * S::MR + v * S::N, c[p][v]);
}

// The sums of N pixels for some filters, `apart` floats from pixel to pixel, as vectors of pixels.
template <class V, int N, int K> EPX_BODY inline void turn_pixels(V (&r)[K], const float* p, int64_t apart) {
  if constexpr (K == N / 2) {  // eight lanes: halves of rows side by side, then within each half
    V a[4];
    EPX_UNROLL for (int l = 0; l < 4; ++l)
      a[l] = concat<V>(raw_load<half<V>>(p + l * apart), raw_load<half<V>>(p + (l + 4) * apart));
    const auto low = build<ints<V>>([](int l) { return l / 4 * 4 + l % 4 / 2 + l % 2 * N; });
    const auto front = build<ints<V>>([](int l) { return l / 4 * 4 + l % 2 + l % 4 / 2 * N; });
    const V b0 = pick_two(a[0], a[1], low), b1 = pick_two(a[0], a[1], low + 2);
    const V b2 = pick_two(a[2], a[3], low), b3 = pick_two(a[2], a[3], low + 2);
    r[0] = pick_two(b0, b2, front), r[1] = pick_two(b0, b2, front + 2);
    r[2] = pick_two(b1, b3, front), r[3] = pick_two(b1, b3, front + 2);
  } else {
#pragma GCC unroll 16
    for (int l = 0; l < N; ++l) r[l] = raw_load<V>(p + l * apart);
    turn(r);
  }
}

// Floats in which the sums of a block wait, and those from filter to filter of results that are gathered:
// no multiple of a page, so that all filters' find room in the first cache.
template <class S> constexpr int64_t hold_floats = (S::RB * S::XB + 2 * S::N) * S::MR;
template <class S> constexpr int64_t out_pitch = lines_of(S::RB * S::XB * S::PHASES) + 16;

// Hand on the sums of `width` pixels, two vectors of them at most: whole cache lines are written, or
// results gathered from `out` on.
template <class S, int W, class F>
__attribute__((noinline)) void finish_pixels(const float* hold, int64_t t, int64_t i, int64_t row, int64_t x,
                                             int64_t width, float* out, const F& finish) {
  using V = vf<S::N>;
  constexpr int N = S::N, some = N == 8 ? 4 : N, P = S::PHASES;
  const F done = finish;  // its pointers in registers: stores of floats might change them
  const auto hand = [&](V sum, int64_t f, int64_t at, int64_t left) EPX_BODY {
    float* const to = S::GATHER != 0 ? out + f * out_pitch<S> + at - x * P : out;
    if (S::X % N == 0 || left >= N) done(whole{}, t, i + f, row, at, sum, N, to);
    else if (left > 0) done(part{}, t, i + f, row, at, sum, int(left), to);
  };
  for (int g = 0; g < W * N; g += some)
    for (int64_t k = 0; k < width; k += N) {
      V r[P][some];
      EPX_UNROLL for (int p = 0; p < P; ++p)
        turn_pixels<V, N, some>(r[p], hold - (P - 1 - p) * hold_floats<S> + k * S::MR + g, S::MR);
#pragma GCC unroll 16
      for (int l = 0; l < some; ++l) {
        if (S::M % S::MR != 0 && i + g + l >= S::M) break;
        const int64_t at = (x + k) * P, left = (width - k) * P;
        if constexpr (P == 1) {
          hand(r[0][l], g + l, at, left);
        } else {
          hand(woven<0>(r[0][l], r[1][l]), g + l, at, left);
          hand(woven<1>(r[0][l], r[1][l]), g + l, at + N, left - N);
        }
      }
    }
}

// Ask for the lines of `width` pixels' results of W vectors of filters, to write to: they would else be
// waited for once the sums are there, by all threads at once.
template <class S, int W, class P>
EPX_BODY inline void ask_for_results(int64_t t, int64_t i, int64_t row, int64_t x, int64_t width, const P& place) {
  if constexpr (S::ASK != 0)
    for (int64_t f = i; f < least(i + W * S::N, S::M); ++f) {
      const float* const to = place(t, f, row, x);
      for (int64_t k = 0; k < width * S::PHASES; k += 16) __builtin_prefetch(to + k, 1);
      __builtin_prefetch(to + width * S::PHASES - 1, 1);
    }
}

// What the next patch is copied from is asked for, some with each register tile: memory works while the
// cores do. Which patch that is, a thread guesses: as far on as this one is from the one before.
template <class S> constexpr int64_t row_tiles = S::TALL > 1 ? ceil_div(S::RB, S::TALL) : S::RB * ceil_div(S::XB, S::PX);
template <class S> constexpr int64_t asks_each =
    ceil_div(S::LAID * S::ASKS, least(S::FB, Gemm<S>::tiles) * S::PHASES * Gemm<S>::depths * row_tiles<S>);

// WIDE pixels of one row: tiles of nearly equal widths, done(x) when the first x pixels are there.
template <class S, int W, int WIDE, int X = 0, class N, class D>
EPX_BODY inline void filter_row(const float* a, const float* from, const int32_t* offsets, int64_t groups,
                                float* hold, bool first, const N& next, const D& done) {
  constexpr int count = int(ceil_div(WIDE, S::PX)), each = WIDE / count, more = WIDE % count;
  if constexpr (Meets<S>::edges) {  // each of its own
    constexpr int left = WIDE - X, size = each + (X < more * (each + 1));
    if constexpr (left > 0) {
      next();
      filter_tile<S, size, W, size, edge_at<S>(X, size)>(a, from + X * S::STEP, offsets, groups, hold + X * S::MR, first);
      done(X + size);
      filter_row<S, W, WIDE, X + size>(a, from, offsets, groups, hold, first, next, done);
    }
    return;
  }
  int64_t x = 0;
  const auto tiles = [&](auto size, int64_t many) EPX_BODY {
    for (int64_t k = 0; k < many; ++k) {
      next();
      filter_tile<S, size, W>(a, from + x * S::STEP, offsets, groups, hold + x * S::MR, first);
      x += size;
      done(x);
    }
  };
  if constexpr (more != 0) tiles(std::integral_constant<int, each + 1>{}, more);
  tiles(std::integral_constant<int, each>{}, count - more);
}

// One tile of filters, W vectors of them, for a block of pixels.
template <class S, int W, class F, class P, class N, class T>
EPX_BODY inline void filter_block(const float* weights, const float* patch, const int32_t* offsets, float* hold,
                                  float* out, int64_t t, int64_t i, int64_t row, int64_t x, const F& finish,
                                  const P& place, const N& next, const T& there) {
  using G = Gemm<S>;
  constexpr int last_wide = int(S::X % S::XB);
  const bool all = t % S::PHASES == S::PHASES - 1;  // phases before it are there already
  // Rows near an edge of the image may lack taps that others of the block have.
  constexpr bool some = !std::is_same_v<T, Always>;
  [[maybe_unused]] bool begun[some ? S::RB : 1] = {};  // rows that have sums by now
  const auto has = [&](int64_t k, int64_t r, int64_t tall) EPX_BODY {
    if constexpr (some) {
      for (int64_t l = r; l < r + tall; ++l)
        if (there(t, row + l, k)) return true;
      return false;
    }
    return true;
  };
  const auto any = [&](int64_t, int64_t k) EPX_BODY { return has(k, 0, S::RB); };
  stretches<S>(t, any, [&](int64_t k, int64_t end, bool first, bool last) EPX_BODY {
    const int64_t groups = (end - k) / S::GROUP;
    const float* const w = weights + panels_at<S>(k);
    const bool finished = last && all;
    // Whether `tall` rows from r, of which `floats` sums are held, are worked on; whether they begin.
    const auto begins = [&](int64_t r) EPX_BODY { return some ? !begun[r] : first; };
    const auto worked = [&](int64_t r, int64_t tall, float* held, int64_t floats) EPX_BODY {
      if (has(k, r, tall)) return true;
      if (last && begins(r)) std::memset(held, 0, size_t(floats) * sizeof(float));
      return false;
    };
    const auto along = [&](auto wide, int64_t r) EPX_BODY {
      float* const held = hold + r * S::XB * S::MR;
      int64_t handed = 0;
      const auto hand = [&](int64_t done) EPX_BODY {
        while (finished && handed < done && (done == wide || handed + 2 * S::N <= done)) {
          finish_pixels<S, W>(held + handed * S::MR, t, i, row + r, x + handed, least(2 * S::N, wide - handed),
                              out + (r * wide + handed) * S::PHASES, finish);
          handed += 2 * S::N;
        }
      };
      if (finished) ask_for_results<S, W>(t + 1 - S::PHASES, i, row + r, x, wide, place);
      if (!worked(r, 1, held, wide * S::MR)) return hand(wide);
      filter_row<S, W, wide>(w, patch + r * S::DOWN, offsets + k / S::GROUP, groups, held, begins(r), next, hand);
      if constexpr (some) begun[r] = true;
    };
    const auto rows = [&](auto tall, int64_t r) EPX_BODY {
      constexpr int high = tall, X = S::X;
      float* const held = hold + r * X * S::MR;
      for (int64_t l = 0; l < (finished ? high : 0); ++l)
        ask_for_results<S, W>(t + 1 - S::PHASES, i, row + r + l, 0, X, place);
      next();
      if (worked(r, high, held, high * X * S::MR)) {
        filter_tile<S, high * X, W, X, edge_at<S>(0, X)>(w, patch + r * S::DOWN, offsets + k / S::GROUP, groups,
                                                         held, begins(r));
        if constexpr (some) begun[r] = true;
      }
      for (int64_t l = 0; l < (finished ? high : 0); ++l)
        finish_pixels<S, W>(held + l * X * S::MR, t, i, row + r + l, 0, X, out + (r + l) * X * S::PHASES, finish);
    };
    if constexpr (S::TALL > 1) {  // of nearly equal heights
      constexpr int count = int(ceil_div(S::RB, S::TALL)), each = S::RB / count, more = S::RB % count;
      for (int64_t r = 0; r < more; ++r) rows(std::integral_constant<int, each + 1>{}, r * (each + 1));
      for (int64_t r = more * (each + 1); r < S::RB; r += each) rows(std::integral_constant<int, each>{}, r);
      return;
    }
    for (int64_t r = 0; r < S::RB; ++r) {
      if (last_wide == 0 || (S::X >= S::XB && x + S::XB <= S::X)) {
        if constexpr (S::X >= S::XB) along(std::integral_constant<int, S::XB>{}, r);
      } else if constexpr (last_wide != 0) {
        along(std::integral_constant<int, last_wide>{}, r);
      }
    }
  });
}

// Results of a tile of filters and a block of pixels, gathered at `out`, leave.
template <class S, class P>
EPX_BODY inline void leave(const float* out, int64_t t, int64_t i, int64_t row, int64_t x, const P& place) {
  const int64_t run = S::RB * least(S::XB, S::X - x) * S::PHASES;
  for (int64_t f = 0; f < least(S::MR, S::M - i); ++f) copy_past(place(t, i + f, row, x), out + f * out_pitch<S>, run);
}

// The whole convolution; every thread of a team calls it. `pa` holds the left operand's copy.
template <class S, class A, class L, class Q, class P, class F, class T = Always>
void convolve_filters(const A& a, const L& lay, const Q& soon, const int32_t* offsets, float* pa, const P& place,
                      const F& finish, const T& there = {}) {
  using G = Gemm<S>;
  if constexpr (!(kept<S> & 1)) pack_left<S>(pa, a);
  constexpr int rest = int(ceil_div(S::M % S::MR, S::N));
  constexpr int64_t down = S::ROWS / S::RB, across = ceil_div(S::X, S::XB), parts = ceil_div(G::tiles, S::FB);
  const Scratch<float> patch(S::LAID * S::PATCH), hold(S::PHASES * hold_floats<S>);
  const Scratch<float> out(S::GATHER != 0 ? S::MR * out_pitch<S> : 0);
  constexpr int64_t count = S::BATCH / S::PHASES * down * across * parts;
  int64_t held = -1, last = -1;
  share<S::DYNAMIC>(count, [&](int64_t u) {
    const int64_t piece = u / parts, first = u % parts * S::FB;
    const int64_t row = piece / across % down * S::RB, x = piece % across * S::XB;
    const int64_t from = piece / (down * across) * S::PHASES, to = from + S::PHASES;
    if (piece != held)
      for (int64_t t = from; t < from + S::LAID; ++t) lay(patch.data + (t - from) * S::PATCH, t, row, x);
    held = piece;
    const int64_t then = (last < 0 ? u : 2 * u - last) / parts, then_x = then % across * S::XB;
    const int64_t then_t = then / (down * across) * S::PHASES, then_row = then / across % down * S::RB;
    int64_t asked = then != piece && 2 * u - last < count ? 0 : S::LAID * S::ASKS;
    last = u;
    const auto next = [&]() EPX_BODY {
      if constexpr (S::ASKS > 0)
        for (int64_t q = asked; q < least(asked + asks_each<S>, S::LAID * S::ASKS); ++q)
          soon(q % S::ASKS, then_t + q / S::ASKS, then_row, then_x);
      asked += asks_each<S>;
    };
    for (int64_t o = first; o < least(first + S::FB, G::tiles); ++o) {
      for (int64_t t = from; t < to; ++t) {
        const float* const weights = pa + t * G::a_batch + o * G::a_tile;
        const float* const read = patch.data + (t - from) % S::LAID * S::PATCH;
        float* const sums = hold.data + (t - from) * hold_floats<S>;
        if (rest == 0 || (o + 1) * S::MR <= S::M)
          filter_block<S, S::NV>(weights, read, offsets, sums, out.data, t, o * S::MR, row, x, finish, place, next, there);
        else if constexpr (rest != 0)
          filter_block<S, rest>(weights, read, offsets, sums, out.data, t, o * S::MR, row, x, finish, place, next, there);
      }
      if constexpr (S::GATHER != 0) leave<S>(out.data, from, o * S::MR, row, x, place);
    }
  });
}

// Ask for a row that is copied soon, of the next channel: rows of an image are too few for the
// hardware to foresee.
template <int LENGTH> EPX_BODY inline void row_ahead(const float* from) {
  for (int k = 0; k < LENGTH; k += 16) prefetch(from + k);
}
// Ask for some floats to be in the second cache.
EPX_BODY inline void lines_later(const float* from, int64_t length) {
  for (int64_t k = 0; k < length; k += 16) __builtin_prefetch(from + k, 0, 2);
}

}  // namespace epx
