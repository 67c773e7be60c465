// ---- Winograd's convolution: windows of 3 x 3, steps of 1 ------------------------------------------
// O x O results need I x I pixels, I = O + 2. Pixels and filters are transformed, multiplied point by
// point (I * I products of matrices over the channels), and the sums are turned into results: 2.25
// (O = 2) or 4 (O = 4) times fewer multiplications. Lavin and Gray, arXiv:1509.09308; points 0, +-P,
// +-Q and infinity. `S` as in pack.h, where M counts filters, K channels, JC squares of a block, and
//   H W rows and columns of the image, Y X of the result, PY PX of padding before them,
//   TK TY strides of the image along channels and rows, AI AK AY AX strides of the filters.
namespace epx {

template <int O> struct Winograd;
template <> struct Winograd<2> {
  template <class V> static EPX void pixels(V (&d)[4]) {
    const V a = d[0] - d[2], b = d[1] + d[2], c = d[2] - d[1], e = d[1] - d[3];
    d[0] = a, d[1] = b, d[2] = c, d[3] = e;
  }
  template <class V> static EPX void filter(const V (&g)[3], V (&u)[4]) {
    const V even = (g[0] + g[2]) * 0.5f, odd = g[1] * 0.5f;
    u[0] = g[0], u[1] = even + odd, u[2] = even - odd, u[3] = g[2];
  }
  template <class V> static EPX void results(const V (&m)[4], V (&y)[2]) {
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] - m[3];
  }
};
template <> struct Winograd<4> {
  static constexpr float P = 0.625f, Q = 1.5f, PP = P * P, QQ = Q * Q;
  template <class V> static EPX void pixels(V (&d)[6]) {
    const V first = d[0] * (PP * QQ) - d[2] * (PP + QQ) + d[4];
    const V final = d[1] * (PP * QQ) - d[3] * (PP + QQ) + d[5];
    const V even_p = d[4] - d[2] * QQ, odd_p = (d[3] - d[1] * QQ) * P;
    const V even_q = d[4] - d[2] * PP, odd_q = (d[3] - d[1] * PP) * Q;
    d[0] = first, d[1] = even_p + odd_p, d[2] = even_p - odd_p;
    d[3] = even_q + odd_q, d[4] = even_q - odd_q, d[5] = final;
  }
  template <class V> static EPX void filter(const V (&g)[3], V (&u)[6]) {
    constexpr float p = 1 / (2 * PP * (PP - QQ)), q = 1 / (2 * QQ * (QQ - PP));
    const V even_p = (g[0] + g[2] * PP) * p, odd_p = g[1] * (P * p);
    const V even_q = (g[0] + g[2] * QQ) * q, odd_q = g[1] * (Q * q);
    u[0] = g[0] * (1 / (PP * QQ)), u[1] = even_p + odd_p, u[2] = even_p - odd_p;
    u[3] = even_q + odd_q, u[4] = even_q - odd_q, u[5] = g[2];
  }
  template <class V> static EPX void results(const V (&m)[6], V (&y)[4]) {
    const V even_p = m[1] + m[2], odd_p = m[1] - m[2], even_q = m[3] + m[4], odd_q = m[3] - m[4];
    y[0] = m[0] + even_p + even_q;
    y[1] = odd_p * P + odd_q * Q;
    y[2] = even_p * PP + even_q * QQ;
    y[3] = odd_p * (PP * P) + odd_q * (QQ * Q) + m[5];
  }
};

// Sizes of one convolution: squares of O x O results, in rows; ROWS rows of squares are a block.
template <class S> struct Squares {
  static constexpr int O = S::WINOGRAD, I = O + 2, points = I * I;
  static constexpr int64_t down = ceil_div(S::Y, O), across = ceil_div(S::X, O);
  static constexpr int64_t rows = S::BATCH * down;  // of all images
  static constexpr int64_t ROWS = S::JC / across < 1 ? 1 : S::JC / across;
  static constexpr int64_t blocks = ceil_div(rows, ROWS);
  static constexpr int64_t wide = ROWS * across;              // squares of a block
  static constexpr int64_t pitch = ceil_div(wide, S::N) * S::N + S::N;  // vectors reach past the end
  static constexpr int64_t apart = S::K * pitch + 16;                   // points lie in sets of their own
  static constexpr int64_t tiles = ceil_div(S::M, S::MR);
  static constexpr int64_t some = (1 << 15) / (S::MR * points * pitch);  // sums that stay near at hand
  static constexpr int64_t filters = least(tiles, some < 1 ? 1 : some) * S::MR;
  static constexpr int64_t filter_floats = points * tiles * S::K * S::MR;
};

// Two vectors taken apart into their even (odd) lanes.
template <int FIRST, class V> EPX_BODY inline V every_other(V a, V b) {
  return pick_two(a, b, build<ints<V>>([](int l) { return 2 * l + FIRST; }));
}
// d[s] lane k is p[k * O + s], where at(j) is the vector at p + j: O + 2 pixels for each of N squares.
template <class V, class A> EPX_BODY inline void squares_at(const A& at, V (&d)[4]) {
  constexpr int N = lanes<V>;
  EPX_UNROLL for (int s = 0; s < 4; s += 2) {
    const V a = at(s), b = at(s + N);
    d[s] = every_other<0>(a, b), d[s + 1] = every_other<1>(a, b);
  }
}
template <class V, class A> EPX_BODY inline void squares_at(const A& at, V (&d)[6]) {
  constexpr int N = lanes<V>;
  EPX_UNROLL for (int s = 0; s < 6; s += 4) {
    const V a = at(s), b = at(s + N), c = at(s + 2 * N), e = at(s + 3 * N);
    const V even = every_other<0>(a, b), odd = every_other<1>(a, b);
    const V even2 = every_other<0>(c, e), odd2 = every_other<1>(c, e);
    d[s] = every_other<0>(even, even2), d[s + 1] = every_other<0>(odd, odd2);
    if (s == 0) d[2] = every_other<1>(even, even2), d[3] = every_other<1>(odd, odd2);
  }
}
// The other way: lane k of y[s] becomes p[k * O + s].
template <class V> EPX_BODY inline void weave(float* p, const V (&y)[2]) {
  store(p, woven<0>(y[0], y[1]));
  store(p + lanes<V>, woven<1>(y[0], y[1]));
}
template <class V> EPX_BODY inline void weave(float* p, const V (&y)[4]) {
  const V even[2] = {woven<0>(y[0], y[2]), woven<1>(y[0], y[2])};
  const V odd[2] = {woven<0>(y[1], y[3]), woven<1>(y[1], y[3])};
  EPX_UNROLL for (int h = 0; h < 2; ++h) {
    const V pair[2] = {even[h], odd[h]};
    weave(p + h * 2 * lanes<V>, pair);
  }
}

// All filters, transformed: point by point, tiles of MR filters, k-major; lanes are the filters of a
// tile. Every thread of a team calls it.
template <class S> void transform_filters(float* to, const float* a) {
  using Q = Squares<S>;
  constexpr int I = Q::I, MR = S::MR, N = S::N;
  constexpr int64_t step = Q::tiles * S::K * MR, chunk = 64, chunks = ceil_div(S::K, chunk);
  using V = vf<N>;
  share<false>(Q::tiles * chunks, [&](int64_t u) {
    const int64_t i = u / chunks * MR, k1 = least(S::K, (u % chunks + 1) * chunk);
    for (int64_t k = u % chunks * chunk; k < k1; ++k)
      for (int first = 0; first < MR; first += N) {
        const int n = int(least(least(N, MR - first), S::M - i - first));
        const float* from = a + (i + first) * S::AI + k * S::AK;
        V u[I][3], out[I];
        EPX_UNROLL for (int x = 0; x < 3; ++x) {
          V g[3], column[I];
          EPX_UNROLL for (int y = 0; y < 3; ++y)
            g[y] = build<V>([&](int l) { return l < n ? from[l * S::AI + y * S::AY + x * S::AX] : 0.0f; });
          Winograd<Q::O>::filter(g, column);
          EPX_UNROLL for (int y = 0; y < I; ++y) u[y][x] = column[y];
        }
        EPX_UNROLL for (int y = 0; y < I; ++y) {
          Winograd<Q::O>::filter(u[y], out);
          EPX_UNROLL for (int x = 0; x < I; ++x) {
            float* row = to + (y * I + x) * step + (i / MR * S::K + k) * MR + first;
            if (first + N >= MR && k + ceil_div(first + N, MR) <= k1) store(row, out[x]);  // later steps overwrite
            else store_n(row, out[x], MR - first);
          }
        }
      }
  });
}

// N squares from s on of `count` rows of squares of one channel, transformed: to `to` + point * Q::apart.
// Where not all that is read lies within the row (!INSIDE), the rest is zero.
template <class S, bool INSIDE, class B>
inline void transform_squares(float* to, const B& image, int64_t k, int64_t s, int64_t first, int64_t count) {
  using Q = Squares<S>;
  constexpr int I = Q::I, O = Q::O, N = S::N;
  using V = vf<N>;
  const int64_t x = s * O - S::PX;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t top = (first + r) % Q::down * O - S::PY;
    const float* const from = image((first + r) / Q::down) + k * S::TK + top * S::TY + x;
    V d[I][I];
    EPX_UNROLL for (int y = 0; y < I; ++y) {
      const auto at = [&](int64_t j) EPX_BODY {
        if constexpr (INSIDE) return raw_load<V>(from + y * S::TY + j);
        else return load_between<V>(from + y * S::TY + j, int(-x - j), int(S::W - x - j), 0.0f);
      };
      if (within(top + y, S::H)) squares_at(at, d[y]);
      else EPX_UNROLL for (int j = 0; j < I; ++j) d[y][j] = V{};
      Winograd<O>::pixels(d[y]);
    }
    EPX_UNROLL for (int j = 0; j < I; ++j) {
      V c[I];
      EPX_UNROLL for (int y = 0; y < I; ++y) c[y] = d[y][j];
      Winograd<O>::pixels(c);
      EPX_UNROLL for (int y = 0; y < I; ++y) raw_store(to + (y * I + j) * Q::apart + r * Q::across, c[y]);
    }
  }
}
// All channels of a block, transformed; the pixels of the next one are asked for: rows of an image
// are too few for the hardware to foresee.
template <class S, class B> inline void transform_pixels(float* to, const B& image, int64_t first, int64_t count) {
  using Q = Squares<S>;
  for (int64_t k = 0; k < S::K; ++k, to += Q::pitch) {
    for (int64_t r = 0; r < (k + 1 < S::K ? count : 0); ++r) {
      const float* const row = image((first + r) / Q::down) + (k + 1) * S::TK + (first + r) % Q::down * Q::O * S::TY;
      for (int64_t y = 0; y < Q::O; ++y)
        for (int64_t x = 0; x < S::W; x += 16) prefetch(row + y * S::TY + x);
    }
    for (int64_t s = (Q::across - 1) / S::N * S::N; s >= 0; s -= S::N) {
      const int64_t x = s * Q::O - S::PX;
      if (x >= 0 && x + (S::N + 1) * Q::O <= S::W) transform_squares<S, true>(to + s, image, k, s, first, count);
      else transform_squares<S, false>(to + s, image, k, s, first, count);
    }
  }
}

// The results of filter i for one row of squares (of all images), from sums at `from` + point * step.
template <class S, class F>
EPX_BODY inline void results_of(const float* from, int64_t step, int64_t i, int64_t square_row, const F& finish) {
  using Q = Squares<S>;
  constexpr int I = Q::I, O = Q::O, N = S::N;
  using V = vf<N>;
  for (int64_t s = 0; s < Q::across; s += N) {
    V m[O][I];
    EPX_UNROLL for (int x = 0; x < I; ++x) {
      V d[I], y[O];
      EPX_UNROLL for (int k = 0; k < I; ++k) d[k] = load<V>(from + (k * I + x) * step + s);
      Winograd<O>::results(d, y);
      EPX_UNROLL for (int k = 0; k < O; ++k) m[k][x] = y[k];
    }
    for (int k = 0; k < O; ++k) {
      const int64_t y = square_row % Q::down * O + k, row = square_row / Q::down * S::Y + y;
      if (y >= S::Y) break;
      V r[O];
      alignas(64) float line[O * N];
      Winograd<O>::results(m[k], r);
      weave(line, r);
      for (int v = 0; v < O; ++v) {
        const int64_t x = s * O + v * N;
        if (x < S::X) at_pixels<S>(row, x, [&](auto tail, int64_t, int64_t at, int n) EPX_BODY {
          finish(tail, 0, i, row, at, load<V>(line + v * N), n);
        });
      }
    }
  }
}

// What the register tile (gemm.h) sees of one point: filters by squares, over the channels.
template <class S> struct Point {
  enum : int64_t {
    N = S::N, MR = S::MR, NV = S::NV, BATCH = 1, M = S::M, J = Squares<S>::wide, K = S::K, KC = S::K,
    MC = S::MR, JC = S::NV * S::N, PARTS = 1, AI = 1, AK = 1, BK = Squares<S>::pitch, BJ = 1,
    DOT = FLOATS, PACK_A = 1, PACK_B = 0, AHEAD = 0, STEPS = 1, DYNAMIC = 0
  };
};
template <class S, int R, int W> __attribute__((noinline)) void products(const float* a, const float* b, float* to) {
  using Q = Squares<S>;
  vf<S::N> c[R][W] = {};
  multiply<Point<S>, R, W, false>(c, a, b, S::K, 0);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
    EPX_UNROLL for (int v = 0; v < W; ++v) store(to + r * Q::points * Q::pitch + v * S::N, c[r][v]);
}
// Filters i0 .. i1 - 1 at all points of `vectors` vectors of squares: sums[filter][point][square].
template <class S>
void multiply_points(const float* filters, const float* pixels, float* sums, int64_t i0, int64_t i1, int64_t vectors) {
  using Q = Squares<S>;
  constexpr int rest = int(S::M % S::MR);
  for (int64_t point = 0; point < Q::points; ++point) {
    const float* a = filters + point * Q::tiles * S::K * S::MR;
    const auto column = [&](int64_t v, auto width) EPX_BODY {
      constexpr int W = decltype(width)::value;
      const float* b = pixels + point * Q::apart + v * S::N;
      float* to = sums + point * Q::pitch + v * S::N;
      int64_t i = i0;
      for (; i + S::MR <= i1; i += S::MR)
        products<S, int(S::MR), W>(a + i * S::K, b, to + (i - i0) * Q::points * Q::pitch);
      if constexpr (rest != 0) {
        if (i < i1) products<S, rest, W>(a + i * S::K, b, to + (i - i0) * Q::points * Q::pitch);
      }
    };
    int64_t v = 0;
    for (; v + S::NV <= vectors; v += S::NV) column(v, std::integral_constant<int, int(S::NV)>{});
    for (; v < vectors; ++v) column(v, std::integral_constant<int, 1>{});
  }
}

// The whole convolution; every thread of a team calls it. a: the filters, image(t): the first pixel of
// image t, `filters`: room for what Squares says.
template <class S, class B, class F>
void convolve_winograd(const float* a, const B& image, float* filters, const F& finish) {
  using Q = Squares<S>;
  if constexpr (!(kept<S> & 1)) transform_filters<S>(filters, a);
  const Scratch<float> pixels(Q::points * Q::apart), sums(Q::points * Q::filters * Q::pitch);
  share<S::DYNAMIC>(Q::blocks, [&](int64_t block) {
    const int64_t first = block * Q::ROWS, count = least(Q::ROWS, Q::rows - first);
    transform_pixels<S>(pixels.data, image, first, count);
    for (int64_t i0 = 0; i0 < S::M; i0 += Q::filters) {
      const int64_t i1 = least(S::M, i0 + Q::filters);
      multiply_points<S>(filters, pixels.data, sums.data, i0, i1, ceil_div(count * Q::across, S::N));
      for (int64_t i = i0; i < i1; ++i)
        for (int64_t r = 0; r < count; ++r)
          results_of<S>(sums.data + (i - i0) * Q::points * Q::pitch + r * Q::across, Q::pitch, i, first + r, finish);
    }
  });
}

}  // namespace epx
