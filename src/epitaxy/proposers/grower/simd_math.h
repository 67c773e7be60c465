// ---- epx: transcendental functions, branch-free over lanes (needs simd.h) --------------------------
// All polynomials are minimax fits made by benchmarks/fit_simd.py. Errors stay within 2.5 ulp (most
// within 1.5). Results of exp, exp2 and sigmoid below 2^-126 may be flushed to zero. Double
// arguments go to libm lane by lane.
#ifndef EPX_SIMD_MATH_H
#define EPX_SIMD_MATH_H
namespace epx {

#if defined(__FMA__) || defined(__aarch64__)
constexpr bool has_fma = true;
#else
constexpr bool has_fma = false;
#endif

template <class V> EPX V horner(V, elem<V> c) { return splat<V>(c); }
template <class V, class... C> EPX V horner(V x, elem<V> c, C... rest) {  // c + x (rest...)
    return fma(x, horner(x, elem<V>(rest)...), c);
}
#define EPX_DOUBLE(fn) \
    if constexpr (std::is_same_v<elem<V>, double>) \
        return build<V>([=](int i) { return std::fn(lane(x, i)); }); \
    else

// ---- exp and its kin --------------------------------------------------------------------------------
// exp(x) = 2^n exp(r), n = floor(x / ln 2), r in [0, ln 2] (Cody-Waite in two parts): with the floor,
// n + 127 is a float's exponent over the whole range, also 0 (flushes to zero) and 255 (inf).
constexpr float round_magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
constexpr float log2e = 1.44269504f, ln2_hi = 0.693145752f, ln2_lo = 1.42860677e-6f;

template <class V> EPX V pow2_biased(V t) {  // 2^n from t = round_magic + 127 + n
    return bits_as<V>(bits(t) << 23);
}
// exp(x) 2^shift for x already in [-87.8 - shift ln 2, 88.9 - shift ln 2] or NaN.
template <int shift = 0, class V> EPX V exp_core(V x) {
    V t = fma(x, splat<V>(log2e), -0.5f) + (round_magic + 127 + shift);
    V n = t - (round_magic + 127 + shift);
    V r = fma(n, splat<V>(-ln2_lo), fma(n, splat<V>(-ln2_hi), x));
    V p = horner(r, 1.0f, 0.999999821f, 0.500005543f, 0.166611731f, 0.0419108272f, 0.00779733947f,
                 0.00194643356f);
    return p * pow2_biased(t);
}
template <class V> EPX V exp(V x) {
    EPX_DOUBLE(exp) return exp_core(max_fast(splat<V>(-87.8f), min_fast(splat<V>(88.9f), x)));
}
// For x <= 88 (softmax): no overflow guard, n to the nearest, one degree less (error 9.2e-8).
template <class V> EPX V exp_fast(V x) {
    EPX_DOUBLE(exp) {
        x = max_fast(splat<V>(-87.8f), x);
        V t = fma(x, splat<V>(log2e), round_magic + 127);
        V n = t - (round_magic + 127);
        V r = fma(n, splat<V>(-ln2_lo), fma(n, splat<V>(-ln2_hi), x));
        return horner(r, 1.0f, 0.999999702f, 0.499991506f, 0.166676506f, 0.0418978259f,
                      0.00828942563f) * pow2_biased(t);
    }
}
template <class V> EPX V exp2(V x) {
    EPX_DOUBLE(exp2) {
        x = max_fast(splat<V>(-126.9f), min_fast(splat<V>(128.4f), x));
        V t = (x - 0.5f) + (round_magic + 127);
        V r = x - (t - (round_magic + 127));
        return horner(r, 1.0f, 0.693147063f, 0.240229085f, 0.0554861836f, 0.00967377517f,
                      0.00124822895f, 0.000215659718f) * pow2_biased(t);
    }
}
// expm1(x) = 2^n (expm1(r) + 1) - 1 with |r| <= ln(2)/2, computed halved so that n = 128 fits.
template <class V> EPX V expm1(V x) {
    EPX_DOUBLE(expm1) {
        V c = max_fast(splat<V>(-18.0f), min_fast(splat<V>(88.9f), x));
        V t = fma(c, splat<V>(log2e), round_magic + 126);
        V n = t - (round_magic + 126);
        V r = fma(n, splat<V>(-ln2_lo), fma(n, splat<V>(-ln2_hi), c));
        V p = fma(r * r, horner(r, 0.49999997f, 0.166665465f, 0.0416674465f, 0.00836625136f,
                                0.00138695876f), r);
        V h = pow2_biased(t);  // 2^(n-1)
        V y = fma(h, p, h - 0.5f);
        return select(abs(x) < 1e-4f, x * fma(x, splat<V>(0.5f), 1.0f), y + y);  // keeps -0 and subnormals
    }
}
template <class V> EPX V sigmoid(V x) { return elem<V>(1) / (elem<V>(1) + exp(-x)); }

// tanh = x + x^3 p(x^2) below 0.625, else 1 - 2 / (exp(2|x|) + 1).
template <class V> EPX V tanh(V x) {
    EPX_DOUBLE(tanh) {
        V a = abs(x), s = x * x;
        V small = fma(x * s, horner(s, -0.333332837f, 0.133314848f, -0.0537430048f, 0.0206491034f,
                                    -0.00571549917f), x);
        V e = exp_core(min_fast(splat<V>(20.0f), a + a));
        V big = 1.0f - 2.0f / (e + 1.0f);
        return copysign(select(a < 0.625f, small, big), x);
    }
}
// From exp(|x|)/2, which does not overflow before the result does.
template <class V> EPX V half_exp_abs(V x) { return exp_core<-1>(min_fast(splat<V>(89.6f), abs(x))); }
template <class V> EPX V sinh(V x) {
    EPX_DOUBLE(sinh) {
        V s = x * x, h = half_exp_abs(x);
        V small = fma(x * s, horner(s, 0.166666672f, 0.00833331142f, 0.000198426351f, 2.78392554e-06f), x);
        return select(abs(x) < 1.0f, small, copysign(h - 0.25f / h, x));
    }
}
template <class V> EPX V cosh(V x) {
    EPX_DOUBLE(cosh) { V h = half_exp_abs(x); return h + 0.25f / h; }
}
// erf = x + x p(x^2) below 1, else 1 - exp(x q(x)) up to 4, where it is 1.
template <class V> EPX V erf(V x) {
    EPX_DOUBLE(erf) {
        V a = min_fast(splat<V>(4.0f), abs(x)), s = a * a;
        V small = fma(x, horner(s, 0.128379166f, -0.37612626f, 0.112835787f, -0.0268533472f, 0.0051871622f,
                                 -0.00079978531f, 7.80690316e-05f), x);
        V q = a * horner(a, -1.12866902f, -0.635068357f, -0.106373429f, 0.0238791704f,
                             -0.0036976079f, 0.000336317753f, -1.25769457e-05f);
        V big = 1.0f - exp_core(q);
        return select(a < 1.0f, small, copysign(big, x));
    }
}

// ---- logarithms -------------------------------------------------------------------------------------
// x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); log(1 + f) = f - f^2/2 + f^3 p(f).
template <class V> EPX V log1p_tail(V f) {  // log(1 + f) - f
    V s = f * f;
    V p = horner(f, 0.333333313f, -0.250008196f, 0.200012416f, -0.166234091f, 0.142015815f,
                 -0.131596133f, 0.127621993f, -0.0763639957f);
    return fma(s * f, p, -0.5f * s);
}
template <class V> struct split_float { V e, f; };
template <class V> EPX split_float<V> split_log(V x) {
    auto tiny = x < 0x1p-126f;
    auto i = bits(select(tiny, x * 0x1p24f, x)) - 0x3f3504f3;  // sqrt(1/2)
    V e = convert<V>(i >> 23) - select(tiny, splat<V>(24.0f), 0.0f);
    V m = bits_as<V>((i & 0x7fffff) + 0x3f3504f3);
    return {e, m - 1.0f};
}
template <class V> EPX V log_special(V x, V y) {  // 0 -> -inf, negative and NaN -> NaN, inf -> inf
    y = select(x == 0.0f, splat<V>(-inf), y);
    return select(x < inf, select(x < 0.0f, splat<V>(nan), y), x);
}
template <class V> EPX V log(V x) {
    EPX_DOUBLE(log) {
        auto [e, f] = split_log(x);
        V tail = fma(e, splat<V>(ln2_lo), log1p_tail(f));
        return log_special(x, fma(e, splat<V>(ln2_hi), f + tail));
    }
}
// log(1 + f) times c = hi + lo, plus e times e_hi + e_lo.
template <class V> EPX V log_scaled(V x, float hi, float lo, float e_hi, float e_lo) {
    auto [e, f] = split_log(x);
    V tail = log1p_tail(f);
    V top = f * hi;
    V rest = fma(f, splat<V>(hi), -top);
    rest = fma(f, splat<V>(lo), fma(tail, splat<V>(hi), fma(e, splat<V>(e_lo), rest)));
    return log_special(x, fma(e, splat<V>(e_hi), top + rest));
}
template <class V> EPX V log2(V x) {
    EPX_DOUBLE(log2) return log_scaled(x, 1.44269502f, 1.92596303e-8f, 1.0f, 0.0f);
}
template <class V> EPX V log10(V x) {
    EPX_DOUBLE(log10) return log_scaled(x, 0.434294492f, -1.01030595e-8f, 0.301025391f, 4.60503871e-6f);
}
// 1 + x = 2^e m rounded; f = x 2^-e + (2^-e - 1) is exact but for one rounding. The quarter keeps
// 2^-e normal when e = 128.
template <class V> EPX V log1p(V x) {
    EPX_DOUBLE(log1p) {
        V u = x + 1.0f;
        auto i = (bits(u) - 0x3f3504f3) >> 23;
        V s4 = bits_as<V>((129 - i) << 23);
        V f = fma(x * 0.25f, s4, fma(s4, splat<V>(0.25f), -1.0f));
        V e = convert<V>(i);
        V y = fma(e, splat<V>(ln2_hi), f + fma(e, splat<V>(ln2_lo), log1p_tail(f)));
        return select(abs(x) < 1e-5f, fma(x * -0.5f, x, x), log_special(u, y));
    }
}

// ---- trigonometry -----------------------------------------------------------------------------------
// x = n pi/2 + r by Cody-Waite in three parts, good to |x| = 1e5; lanes beyond go to libm.
// sin(-0) and tan(-0) are +0.
// The angle is near + rest without their sum's rounding, or r with it.
template <class V> struct quadrant { V r, near, rest; ints<V> n; };
template <class V> EPX quadrant<V> reduce_half_pi(V x) {
    V t = fma(x, splat<V>(0.636619772f), round_magic);
    V n = t - round_magic;
    if constexpr (has_fma) {
        V first = fma(n, splat<V>(-1.57079625f), x);  // exact
        V near = fma(n, splat<V>(-7.54978942e-8f), first);
        V rest = fma(n, splat<V>(-7.54978942e-8f), first - near);  // its error; exact but near zero,
        rest = select(abs(near) > 0.01f, rest, 0.0f);              // where it is not needed
        rest = fma(n, splat<V>(-5.39030253e-15f), rest);
        return {fma(n, splat<V>(-5.39030253e-15f), near), near, rest, bits(t)};
    } else {  // in double, pi/2 in 33 + 53 bits
        using D = rebind<V, double>;
        D d = convert<D>(n);
        D angle = convert<D>(x) - d * 1.57079632673412561417 - d * 6.07710050650619224932e-11;
        V sum = convert<V>(angle);
        return {sum, sum, convert<V>(angle - convert<D>(sum)), bits(t)};
    }
}
template <class V> EPX V sin_poly(V r, V s) {
    return fma(r * s, horner(s, -0.166666552f, 0.0083321901f, -0.000195183937f), r);
}
template <class V> EPX V cos_poly(V s) {
    return fma(s, fma(s, horner(s, 0.0416666456f, -0.00138873013f, 2.44306684e-05f), -0.5f), 1.0f);
}
template <class V, class F> EPX V patch(V y, V x, float limit, F f) {  // y = f(x) where |x| > limit
    auto far = abs(x) > limit;
    if (__builtin_expect(any(far), 0))
        y = select(far, build<V>([=](int i) { return f(lane(x, i)); }), y);
    return y;
}
template <int quarter, class V> EPX V sin_cos(V x) {  // sin(x + quarter pi/2)
    auto [r, near, rest, n] = reduce_half_pi(x);
    V s = r * r;
    auto k = n + quarter;
    V y = select((k & 1) != 0, cos_poly(s), sin_poly(r, s));
    return bits_as<V>(bits(y) ^ ((k & 2) << 30));
}
template <class V> EPX V sin(V x) {
    EPX_DOUBLE(sin) return patch(sin_cos<0>(x), x, 1e5f, [](float v) { return std::sin(v); });
}
template <class V> EPX V cos(V x) {
    EPX_DOUBLE(cos) return patch(sin_cos<1>(x), x, 1e5f, [](float v) { return std::cos(v); });
}
template <class V> EPX V tan(V x) {
    EPX_DOUBLE(tan) {
        auto [sum, r, rest, n] = reduce_half_pi(x);
        V s = r * r;
        rest = fma(rest, s, rest);  // the derivative, 1 + tan^2, near enough
        V t = r + fma(r * s, horner(s, 0.333331347f, 0.133393168f, 0.0533721372f, 0.0245595332f,
                                0.00292556686f, 0.00949405506f), rest);
        return patch(select((n & 1) != 0, -1.0f / t, t), x, 1e5f, [](float v) { return std::tan(v); });
    }
}
// atan = x + x^3 p(x^2) up to 1, pi/2 - atan(1/|x|) above.
template <class V> EPX V atan(V x) {
    EPX_DOUBLE(atan) {
        V a = abs(x);
        auto big = a > 1.0f;
        V t = select(big, 1.0f / a, a), s = t * t;
        V y = fma(t * s, horner(s, -0.333331525f, 0.199937671f, -0.142110035f, 0.106657855f,
                                -0.0755172372f, 0.0432058573f, -0.016364133f, 0.00291972281f), t);
        return copysign(select(big, (1.57079637f - y) - 4.37113883e-8f, y), x);
    }
}

// ---- power and remainders -----------------------------------------------------------------------------
// |x|^y = 2^(y log2 |x|) in double: log2(m) = z p(z^2), z = (m - 1)/(m + 1), error 1.8e-15; 2^r on
// [-1/2, 1/2], error 4e-11. Rounded once at the end, subnormals included.
template <class V> EPX V pow(V x, V y) {
    if constexpr (std::is_same_v<elem<V>, double>)
        return build<V>([=](int i) { return std::pow(lane(x, i), lane(y, i)); });
    else {
        using D = rebind<V, double>;
        constexpr double magic = 0x1.8p52 + 1023;
        V a = abs(x);
        auto [e, f] = split_log(a);
        D z = convert<D>(f);
        z = z / (z + 2.0);
        D l = fma(z, horner(z * z, 2.8853900817779254, 0.9617966939281376, 0.5770780158915122,
                            0.41219858492130385, 0.32060500043519974, 0.2617753157004285,
                            0.23927568528307164), convert<D>(e));
        V edge = select(a < inf, splat<V>(0.0f), a);  // log2 of 0, inf and NaN
        D w = convert<D>(y) * (l + convert<D>(select(a == 0.0f, splat<V>(-inf), edge)));
        D c = max_fast(splat<D>(-400.0), min_fast(splat<D>(400.0), w));
        D t = c + magic;
        D r = c - (t - magic);
        D p = horner(r, 0.99999999996168198, 0.69314718072845349, 0.24022651198156847,
                     0.05550410353427479, 0.0096180272537645384, 0.0013333922580193093,
                     0.00015469291113475933, 1.5201917650270794e-05);
        V m = convert<V>(p * bits_as<D>(bits(t) << 52));
        V h = y * 0.5f;
        auto whole = trunc(y) == y;
        auto odd = whole & (trunc(h) != h);
        V sign_x = bits_as<V>(bits(x) & bits(splat<V>(-0.0f)));
        m = select(odd, bits_as<V>(bits(m) | bits(sign_x)), m);
        m = select((x < 0.0f) & mask_not(whole) & (a < inf), splat<V>(nan), m);
        return select((y == 0.0f) | (x == 1.0f) | ((a == 1.0f) & isinf(y)), splat<V>(1.0f), m);
    }
}
// fmod is exact: with |a/b| < 2^22 the truncated quotient is off by at most one and the fma is
// exact; the rest goes to libm.
template <class V> EPX V fmod(V a, V b) {
    if constexpr (!is_float<V>) return a % b;
    else if constexpr (std::is_same_v<elem<V>, double>)
        return build<V>([=](int i) { return std::fmod(lane(a, i), lane(b, i)); });
    else {
        V x = abs(a), d = abs(b), q = x / d;
        V r = fma(-trunc(q), d, x);
        r = select(r < 0.0f, r + d, r);
        r = select(r >= d, r - d, r);
        auto hard = mask_not((q < (has_fma ? 4194304.0f : 1.0f)) & (d < inf) & (d > 0x1p-100f));
        if (__builtin_expect(any(hard), 0))
            r = select(hard, build<V>([=](int i) { return std::fmod(lane(x, i), lane(d, i)); }), r);
        return copysign(r, a);
    }
}
template <class V> EPX V remainder(V a, V b) {  // the sign of b, as in Python and PyTorch
    V r = fmod(a, b);
    auto zero = splat<V>(0);
    return select((r != zero) & ((r < zero) != (b < zero)), r + b, r);
}
template <class V> EPX V floordiv(V a, V b) {  // PyTorch's floor_divide
    auto zero = splat<V>(0);
    V r = fmod(a, b);
    auto down = (r != zero) & ((r < zero) != (b < zero));
    if constexpr (!is_float<V>) return select(down, a / b - 1, a / b);
    else {
        V q = (a - r) / b;
        q = select(down, q - elem<V>(1), q);
        V whole = floor(q);
        whole = select(q - whole > elem<V>(0.5), whole + elem<V>(1), whole);
        whole = select(q == zero, copysign(zero, a / b), whole);
        return select(b == zero, a / b, whole);
    }
}

}  // namespace epx
#endif
