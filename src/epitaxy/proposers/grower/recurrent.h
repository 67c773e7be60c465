// ---- recurrent layers: h[t] = cell(x[t] W + h[t-1] U) ----------------------------------------------
// The products with x come first, for many steps at once, with columns that already lie as the
// steps want them: panels of N (or 2 N) hidden units with all their gates side by side, so that the
// thread that sums a unit's gates also moves its state on. U is copied into the same panels once; a
// thread has the same panels in every step, which then stay in its own cache.
//   KIND 0 LSTM, 1 GRU, 2 tanh, 3 ReLU; T steps of B rows, I inputs, H hidden units; a panel has W
//   vectors, P of which are summed at a time for MR rows; YB YT strides of the output along rows and
//   steps; TURN: rows of x come before its steps; BIAS; SPAN steps' products with x at a time, whose sums
//   should stay in the caches; KEPT: copies of the weights are given; ALONE: one thread has these B of
//   XB rows to itself, and waits for nobody until the layer (or its span of steps) ends.
namespace epx {

template <class S> struct Recur {
  static constexpr int gates = S::KIND == 0 ? 4 : S::KIND == 1 ? 3 : 1;
  static constexpr int units = S::KIND < 2 ? S::N : S::W * S::N;  // of one panel
  static constexpr int64_t NR = S::W * S::N, panels = ceil_div(S::H, units), wide = panels * NR;
  static constexpr int64_t pitch = panels * units, rows = S::T * S::B;
  static constexpr int64_t state = S::B * pitch;
  static constexpr int64_t w_floats = panels * S::I * NR, u_floats = panels * S::H * NR;  // copies
  static constexpr int block = int(S::B < 8 * S::MR ? S::B : 8 * S::MR);  // rows of a step
  struct Input { enum : int64_t {
    N = S::N, MR = S::MR, NV = S::P, BATCH = 1, M = rows, J = wide, K = S::I, MC = S::MR, JC = wide, KC = S::I,
    PARTS = 1, AI = S::I, AK = 1, BK = NR, BJ = 1, PACK_A = 0, PACK_B = 1, AHEAD = 0, STEPS = S::STEPS, DOT = FLOATS,
    DYNAMIC = 0 }; };
  struct Step { enum : int64_t {
    N = S::N, MR = S::MR, NV = S::P, BATCH = 1, M = S::B, J = wide, K = S::H, MC = S::MR, JC = wide, KC = S::H,
    PARTS = 1, AI = pitch, AK = 1, BK = NR, BJ = 1, PACK_A = 0, PACK_B = 1, AHEAD = 0, STEPS = S::STEPS, DOT = FLOATS,
    DYNAMIC = 0 }; };
};

// Unit and gate of lane `lane` of a panel's row.
template <class S> EPX_BODY inline int64_t weight_row(int64_t panel, int64_t lane) {
  if constexpr (S::KIND < 2) {
    const int64_t unit = panel * S::N + lane % S::N;
    return unit < S::H ? lane / S::N * S::H + unit : -1;
  } else {
    const int64_t unit = panel * Recur<S>::units + lane;
    return unit < S::H ? unit : -1;
  }
}

// One panel of weights, `depth` of them for each unit and gate: k-major, units past the end zero.
template <class S> void copy_weights(float* to, const float* w, int64_t depth, int64_t panel) {
  constexpr int64_t PN = S::P * S::N;
  for (int64_t k0 = 0; k0 < depth; k0 += 16)  // what is written stays in the nearest cache
    for (int64_t lane = 0; lane < Recur<S>::NR; ++lane) {
      const int64_t row = weight_row<S>(panel, lane);
      float* own = to + lane / PN * depth * PN + lane % PN;
      for (int64_t k = k0; k < least(k0 + 16, depth); ++k) own[k * PN] = row < 0 ? 0.0f : w[row * depth + k];
    }
}

// body(0) .. body(count - 1): by this thread alone, or shared among the team that calls it.
template <class S, bool WAIT = true, class F> EPX_BODY inline void pieces(int64_t count, const F& body) {
  if constexpr (S::ALONE)
    for (int64_t u = 0; u < count; ++u) body(u);
  else
    share<false, WAIT>(count, body);
}

// The copy of one matrix of weights; every thread of a team calls it.
template <class S> void copy_panels(float* to, const float* w, int64_t depth) {
  share<false>(Recur<S>::panels, [&](int64_t p) { copy_weights<S>(to + p * depth * Recur<S>::NR, w, depth, p); });
}

// The gates that need only their own sums, from what came from x in g and from h in c. In a loop of
// their own: many are under way at once, while a cell as a whole is one long chain.
template <class S> EPX_BODY inline void open_gates(const float* g, float* c) {
  using V = vf<S::N>;
  constexpr int own = S::KIND == 0 ? 4 : S::KIND == 1 ? 2 : 0;
  EPX_UNROLL for (int w = 0; w < own; ++w) {
    const V sum = load<V>(g + w * S::N) + load<V>(c + w * S::N);
    store(c + w * S::N, w == 2 ? tanh(sum) : sigmoid(sum));
  }
}

// The new state of vector v of a panel's units: c as open_gates left it.
template <class S>
EPX_BODY inline vf<S::N> cell(const float* c, const float* g, int v, const float* late, const float* h, float* state) {
  using V = vf<S::N>;
  constexpr int N = S::N;
  if constexpr (S::KIND == 0) {
    const V next = fma(load<V>(c + N), load<V>(state), load<V>(c) * load<V>(c + 2 * N));
    store(state, next);
    return load<V>(c + 3 * N) * tanh(next);
  } else if constexpr (S::KIND == 1) {
    const V n = tanh(fma(load<V>(c), load<V>(c + 2 * N) + load<V>(late), load<V>(g + 2 * N)));
    return fma(load<V>(c + N), load<V>(h) - n, n);
  } else if constexpr (S::KIND == 2) {
    return tanh(load<V>(g + v * N) + load<V>(c + v * N));
  } else {
    return maximum(load<V>(g + v * N) + load<V>(c + v * N), splat<V>(0.0f));
  }
}

// body(rows, i): `count` rows in as few tiles of up to MR as there can be, all about as high.
template <int MR, int64_t count, class F> EPX_BODY inline void tiles_of(const F& body) {
  constexpr int64_t tiles = ceil_div(count, MR), low = count / tiles, more = count % tiles;
  int64_t i = 0;
  if constexpr (more > 0)
    for (int64_t k = 0; k < more; ++k, i += low + 1) body(std::integral_constant<int, int(low + 1)>{}, i);
  for (int64_t k = more; k < tiles; ++k, i += low) body(std::integral_constant<int, int(low)>{}, i);
}

// x W + bias for R rows of x and P vectors of a panel, to places `step` apart.
template <class S, int R>
__attribute__((noinline)) void input_tile(const float* x, const float* w, const float* bias, float* to, int64_t step) {
  using V = vf<S::N>;
  V d[R][S::P] = {};
  multiply<typename Recur<S>::Input, R, int(S::P), false>(d, x, w, S::I, S::N);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
    EPX_UNROLL for (int p = 0; p < S::P; ++p) store(to + r * step + p * S::N, d[r][p] + load<V>(bias + p * S::N));
}

// The same for `steps` steps and one panel: all rows of a step, then those of the next.
template <class S, int64_t steps>
void input_panel(const float* x, const float* w, const float* bias, float* to) {
  constexpr int64_t NR = Recur<S>::NR;
  for (int64_t v = 0; v < NR; v += S::P * S::N, w += S::P * S::N * S::I, bias += S::P * S::N, to += S::P * S::N) {
    if constexpr (S::TURN) {
      for (int64_t b = 0; b < S::B; ++b)
        tiles_of<S::MR, steps>([&](auto rows, int64_t i) {
          input_tile<S, rows>(x + (b * S::T + i) * S::I, w, bias, to + (i * S::B + b) * NR, S::B * NR);
        });
    } else if constexpr (S::B == S::XB) {
      tiles_of<S::MR, steps * S::B>(
          [&](auto rows, int64_t i) { input_tile<S, rows>(x + i * S::I, w, bias, to + i * NR, NR); });
    } else {
      for (int64_t t = 0; t < steps; ++t)
        tiles_of<S::MR, S::B>([&](auto rows, int64_t b) {
          input_tile<S, rows>(x + (t * S::XB + b) * S::I, w, bias, to + (t * S::B + b) * NR, NR);
        });
    }
  }
}

// The sums over h of R rows and P vectors of a panel; meanwhile SOON lines at a time are asked for.
template <class S, int R, int64_t SOON>
__attribute__((noinline)) void sum_tile(const float* h, const float* u, const float* soon, float* to) {
  using V = vf<S::N>;
  V d[R][S::P] = {};
  multiply<typename Recur<S>::Step, R, int(S::P), false, SOON>(d, h, u, S::H, S::N, soon);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
    EPX_UNROLL for (int p = 0; p < S::P; ++p) store(to + r * Recur<S>::NR + p * S::N, d[r][p]);
}

// One step for ROWS rows and one panel, of which `n` units exist. P vectors of weights serve all
// rows while they are in the nearest cache, and the next ones come from farther away.
template <class S, int64_t ROWS>
void step_rows(const float* h, const float* u, const float* g, const float* late, float* next, float* state,
               float* y, int64_t panel, int64_t n) {
  using A = Recur<S>;
  using V = vf<S::N>;
  alignas(64) float sums[ROWS * A::NR];
  constexpr int64_t tiles = ceil_div(ROWS, S::MR), soon = ceil_div(S::STEPS * S::P * S::N, 16 * tiles);
  for (int64_t w = 0; w < S::W; w += S::P)
    tiles_of<S::MR, ROWS>([&](auto rows, int64_t i) {
      const float* const from = u + w * S::N * S::H;
      const float* const later = from + S::P * S::N * S::H + i * tiles / ROWS * (S::H / S::STEPS) * soon * 16;
      sum_tile<S, rows, soon>(h + i * A::pitch, from, later, sums + i * A::NR + w * S::N);
    });
  for (int64_t r = 0; r < ROWS; ++r) open_gates<S>(g + r * A::NR, sums + r * A::NR);
  const int64_t at = panel * A::units;
  for (int64_t r = 0; r < ROWS; ++r)
    for (int v = 0; v < A::units / S::N; ++v) {
      const int64_t unit = at + v * S::N;
      const V value = cell<S>(sums + r * A::NR, g + r * A::NR, v, late + unit, h + r * A::pitch + unit,
                              state + r * A::pitch + unit);
      store(next + r * A::pitch + unit, value);
      if constexpr (S::H % S::N == 0) {  // a panel's last vectors may lie past the last unit
        if (v * S::N < n) store(y + r * S::YB + unit, value);
      } else {
        store_n(y + r * S::YB + unit, value, int(least(S::N, n - v * S::N)));
      }
    }
}

// Working memory of one direction of one layer; every thread of the team sees the same.
template <class S> struct RecurMemory {
  using A = Recur<S>;
  Scratch<float> inputs, weights, gates, bias, late, hidden, state;
  RecurMemory()
      : inputs(S::KEPT ? 0 : A::w_floats), weights(S::KEPT ? 0 : A::u_floats), gates(S::SPAN * S::B * A::wide),
        bias(A::wide), late(A::pitch), hidden(2 * A::state), state(A::state) {}
};

// What is done before the first step: copies of weights that are not KEPT, sums of biases, the first states.
template <class S>
void recur_opens(RecurMemory<S>& m, const float* w, const float* u, const float* bw, const float* bu, const float* h0,
                 const float* c0) {
  using A = Recur<S>;
  pieces<S>(A::panels, [&](int64_t p) {
    if constexpr (!S::KEPT) {
      copy_weights<S>(m.inputs.data + p * S::I * A::NR, w, S::I, p);
      copy_weights<S>(m.weights.data + p * S::H * A::NR, u, S::H, p);
    }
    for (int64_t lane = 0; lane < A::NR; ++lane) {
      const int64_t row = weight_row<S>(p, lane);
      const bool apart = S::KIND == 1 && lane >= 2 * S::N;  // r scales what h gives, with its bias
      float* late = m.late.data + p * A::units;
      const float bh = S::BIAS && row >= 0 ? bu[row] : 0.0f;
      m.bias.data[p * A::NR + lane] = (S::BIAS && row >= 0 ? bw[row] : 0.0f) + (apart ? 0.0f : bh);
      if (apart) late[lane - 2 * S::N] = bh;
    }
    for (int64_t b = 0; b < S::B; ++b)
      for (int64_t unit = p * A::units; unit < (p + 1) * A::units; ++unit) {
        const bool there = unit < S::H;
        m.hidden.data[b * A::pitch + unit] = there ? h0[b * S::H + unit] : 0.0f;
        m.state.data[b * A::pitch + unit] = S::KIND == 0 && there ? c0[b * S::H + unit] : 0.0f;
      }
  });
}

// SPAN steps from step s0 on, of one direction of one layer, `back` from the last step; the first of them opens the
// layer and the last closes it. Every thread of a team calls it, or one ALONE. `c0`, `cn`: of an LSTM only. `w`, `u`:
// KEPT copies of the weights, or these as they are.
template <class S>
void recur_span(RecurMemory<S>& m, int64_t s0, bool back, const float* x, const float* w, const float* u, const float* bw,
                const float* bu, const float* h0, const float* c0, float* y, float* hn, float* cn) {
  using A = Recur<S>;
  if (s0 == 0) recur_opens<S>(m, w, u, bw, bu, h0, c0);
  const float *const pw = S::KEPT ? w : m.inputs.data, *const pu = S::KEPT ? u : m.weights.data;
  constexpr int64_t rest = S::T % S::SPAN;
  const int64_t steps = least(S::SPAN, S::T - s0), t0 = back ? S::T - s0 - steps : s0;
  pieces<S, false>(A::panels, [&](int64_t p) {  // each thread for itself: it has these panels below
    const float* const from = x + t0 * (S::TURN ? 1 : S::XB) * S::I;
    const float *w = pw + p * A::NR * S::I, *bias = m.bias.data + p * A::NR;
    float* const to = m.gates.data + p * S::SPAN * S::B * A::NR;
    if (rest == 0 || steps == S::SPAN) input_panel<S, S::SPAN>(from, w, bias, to);
    else if constexpr (rest != 0) input_panel<S, rest>(from, w, bias, to);
  });
  for (int64_t s = s0; s < s0 + steps; ++s) {
    const int64_t t = back ? S::T - 1 - s : s;
    const float* h = m.hidden.data + s % 2 * A::state;
    float* next = m.hidden.data + (s + 1) % 2 * A::state;
    pieces<S>(A::panels, [&](int64_t p) {
      const auto block = [&](auto rows, int64_t i) {
        step_rows<S, decltype(rows)::value>(
            h + i * A::pitch, pu + p * S::H * A::NR, m.gates.data + ((p * S::SPAN + t - t0) * S::B + i) * A::NR,
            m.late.data, next + i * A::pitch, m.state.data + i * A::pitch, y + i * S::YB + t * S::YT, p,
            S::H - p * A::units);
      };
      tiles_of<A::block, S::B>(block);
    });
  }
  if (s0 + S::SPAN < S::T) return;
  pieces<S>(S::B, [&](int64_t b) {
    const int64_t from = S::T % 2 * A::state + b * A::pitch;
    std::memcpy(hn + b * S::H, m.hidden.data + from, sizeof(float) * S::H);
    if constexpr (S::KIND == 0) std::memcpy(cn + b * S::H, m.state.data + b * A::pitch, sizeof(float) * S::H);
  });
}

// One direction of one layer from its first step to its last.
template <class S, class... More> void recur(RecurMemory<S>& m, bool back, const More&... more) {
  for (int64_t s0 = 0; s0 < S::T; s0 += S::SPAN) recur_span<S>(m, s0, back, more...);
}

// One-way layers side by side: while a thread is at a span of steps of its layer, those of the layer before it are one
// span ahead. part(layer, first step); every thread of a team calls it, and has the same layers in every span.
template <class S, class F> void recur_side_by_side(int64_t layers, const F& part) {
  constexpr int64_t spans = ceil_div(S::T, S::SPAN);
  for (int64_t wave = 0; wave < layers + spans - 1; ++wave) {
#pragma omp for schedule(static, 1)
    for (int64_t layer = 0; layer < layers; ++layer)
      if (layer <= wave && wave - layer < spans) part(layer, (wave - layer) * S::SPAN);
  }
}

}  // namespace epx
