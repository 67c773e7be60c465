// ---- epx: transcendental functions over lanes (needs simd.h) ----------------------------------------
// All polynomials and quotients are minimax fits made by benchmarks/fit_simd.py. Errors stay within
// 2.5 ulp (most within 1.5), of sigmoid and softplus within 3.5, of the quotients tanh and erf within
// 5.5 (999 of 1000 within 2.5). Results of exp, exp2, sigmoid and softplus below 2^-126 may be flushed
// to zero. Double arguments go to libm lane by lane.
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
constexpr float ln2 = 0.693147182f;  // within 0.05 ulp

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
template <class V> EPX V with_sign(V y, V x) {  // y, negative where x is, -0 included
    return bits_as<V>(bits(y) | (bits(x) & std::numeric_limits<elem<ints<V>>>::min()));
}
template <class V> EPX V expm1_tail(V r) {  // expm1 for |r| <= ln(2)/2
    return fma(r * r, horner(r, 0.49999997f, 0.166665465f, 0.0416674465f, 0.00836625136f,
                             0.00138695876f), r);
}
// expm1(x) = 2^n (expm1(r) + 1) - 1 with |r| <= ln(2)/2, computed halved so that n = 128 fits.
template <class V> EPX V expm1(V x) {
    EPX_DOUBLE(expm1) {
        V c = max_fast(splat<V>(-18.0f), min_fast(splat<V>(88.9f), x));
        V t = fma(c, splat<V>(log2e), round_magic + 126);
        V n = t - (round_magic + 126);
        V r = fma(n, splat<V>(-ln2_lo), fma(n, splat<V>(-ln2_hi), c));
        V h = pow2_biased(t);  // 2^(n-1)
        V y = fma(h, expm1_tail(r), h - 0.5f);
        return with_sign(y + y, x);
    }
}
// The same for x <= 0: no overflow, no halves, and ln(2) needs no second part.
template <class V> EPX V expm1_low(V x) {
    EPX_DOUBLE(expm1) {
        V c = max_fast(splat<V>(-18.0f), x);
        V t = fma(c, splat<V>(log2e), round_magic + 127);
        V n = t - (round_magic + 127);
        V h = pow2_biased(t);
        return with_sign(fma(h, expm1_tail(fma(n, splat<V>(-ln2), c)), h - 1.0f), x);
    }
}
// 1 / (1 + exp(-x)), where what exceeds 2^127.5 may already be infinite.
template <class V> EPX V sigmoid(V x) {
    if constexpr (std::is_same_v<elem<V>, double>) return 1.0 / (1.0 + exp(-x));
    else return 1.0f / (1.0f + exp_fast(min_fast(splat<V>(88.9f), -x)));
}

// x p(x^2) / q(x^2) up to where float has 1 for it.
template <class V> EPX V tanh(V x) {
    EPX_DOUBLE(tanh) {
        V a = min_fast(splat<V>(9.02f), abs(x)), s = a * a;
        V p = horner(s, 1.0f, 0.133797184f, 0.00349403662f, 2.05835058e-05f, 1.33190907e-08f);
        V q = horner(s, 1.0f, 0.467130363f, 0.0258710794f, 0.000328309572f, 7.7620308e-07f);
        return with_sign(min_fast(splat<V>(1.0f), a * p / q), x);
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
// x p(x^2) / q(x^2) up to where float has 1 for it.
template <class V> EPX V erf(V x) {
    EPX_DOUBLE(erf) {
        V a = min_fast(splat<V>(3.93f), abs(x)), s = a * a;
        V p = horner(s, 1.12837911f, 0.190783143f, 0.0527901687f, 0.00377957243f, 0.000284806185f,
                     2.0419568e-06f);
        V q = horner(s, 1.0f, 0.502409875f, 0.114257231f, 0.014997364f, 0.00116520061f,
                     3.80038036e-05f);
        return with_sign(min_fast(splat<V>(1.0f), a * p / q), x);
    }
}

// ---- logarithms -------------------------------------------------------------------------------------
// x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)), for x positive and normal; e in units of 2^-23.
template <class V> struct split_float { V e, f; };
template <class V> EPX split_float<V> split_normal(V x) {
    auto k = (bits(x) - 0x3f3504f3) & -0x800000;  // sqrt(1/2)
    return {convert<V>(k), bits_as<V>(bits(x) - k) - 1.0f};
}
constexpr float steps = 0x1p-23f;
template <class V> EPX split_float<V> split_log(V x) {  // subnormal x too
    auto tiny = x < 0x1p-126f;
    auto [e, f] = split_normal(select(tiny, x * 0x1p24f, x));
    return {e - select(tiny, splat<V>(24.0f / steps), 0.0f), f};
}
template <int top = 128, class V> EPX auto unusual(V x) {  // not in [2^-126, 2^top)
    auto moved = bits_as<rebind<V, uint32_t>>(x) + 0x7f800000u;  // 2^-126 is the least integer now
    return bits_as<ints<V>>(moved) > std::numeric_limits<int32_t>::min() + ((126 + top) << 23) - 1;
}
template <class V> EPX V log1p_near(V f) {  // log(1 + f) = f + f^2 p(f)
    return fma(f * f, horner(f, -0.499999911f, 0.333339483f, -0.250017852f, 0.199621558f,
                             -0.16570048f, 0.149168193f, -0.143096641f, 0.0874000862f), f);
}
template <class V> EPX V log_special(V x, V y) {  // 0 -> -inf, negative and NaN -> NaN, inf -> inf
    y = select(x == 0.0f, splat<V>(-inf), y);
    return select(x < inf, select(x < 0.0f, splat<V>(nan), y), x);
}
// finish(e, log(1 + f)) where lanes are what they usually are, and where they are anything.
template <class V, class F> EPX V log_usual(V x, F finish) {
    auto [e, f] = split_normal(x);
    return finish(e, log1p_near(f));
}
template <class V, class F> EPX V log_any(V x, F finish) {
    auto [e, f] = split_log(x);
    return log_special(x, finish(e, log1p_near(f)));
}
template <class V, class F> EPX V log_by(V x, F finish) {
    V y = log_usual(x, finish);
    if (__builtin_expect(any(unusual(x)), 0)) y = log_any(x, finish);
    return y;
}
struct natural {
    template <class V> EPX V operator()(V e, V l) const { return fma(e, splat<V>(ln2 * steps), l); }
};
template <class V> EPX V log(V x) {
    EPX_DOUBLE(log) return log_by(x, natural());
}
template <class V> EPX V log2(V x) {
    EPX_DOUBLE(log2) return log_by(x, [](V e, V l) {
        return fma(l, splat<V>(1.44269502f), fma(l, splat<V>(1.92596303e-8f), e * steps));
    });
}
template <class V> EPX V log10(V x) {
    EPX_DOUBLE(log10) return log_by(x, [](V e, V l) {
        V low = fma(e, splat<V>(4.60503871e-6f * steps), l * -1.01030595e-8f);
        return fma(e, splat<V>(0.301025391f * steps), fma(l, splat<V>(0.434294492f), low));
    });
}
// 1 + x = 2^e m rounded; f = x 2^-e + (2^-e - 1) is exact but for one rounding.
template <class V> EPX V log1p(V x) {
    EPX_DOUBLE(log1p) {
        V u = x + 1.0f;
        auto k = (bits(u) - 0x3f3504f3) & -0x800000;
        V s = bits_as<V>(0x3f800000 - k);  // 2^-e
        V y = fma(convert<V>(k), splat<V>(ln2 * steps), log1p_near(fma(x, s, s - 1.0f)));
        auto odd = unusual<126>(u);
        if (__builtin_expect(any(odd), 0)) y = select(odd, log(u), y);
        return with_sign(y, x);
    }
}
// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)), where log1p(e) = e p(e) up to 1.
template <class V> EPX V softplus(V x) {
    if constexpr (std::is_same_v<elem<V>, double>)
        return max_fast(splat<V>(0.0), x) + log1p(exp(-abs(x)));
    else {
        V e = exp_fast(-abs(x));
        V p = horner(e, 0.99999994f, -0.499991626f, 0.333131075f, -0.248000979f, 0.189512715f,
                     -0.133546039f, 0.0747717917f, -0.0274733193f, 0.00474363426f);
        return fma(e, p, max_fast(splat<V>(0.0f), x));
    }
}
// t log(t) - t log(x), of which the first is 0 where t is: one logarithm, of the quotient, does. What
// the quotient was rounded by counts where t and x are nearly equal: sums of such terms cancel.
template <class V> EPX V kl_term(V t, V x) {
    if constexpr (std::is_same_v<elem<V>, double>)
        return select(t == 0.0, splat<V>(0.0), t * log(t)) - t * log(x);
    else {
        V q = t / x, y = fma(t, log_usual(q, natural()), fma(-q, x, t));
        auto odd = unusual(q) | (t < 0.0f);
        if (__builtin_expect(any(odd), 0)) {
            V own = select(t == 0.0f, splat<V>(0.0f), t * log_any(t, natural()));
            y = select(odd, own - t * log_any(x, natural()), y);
        }
        return y;
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
        e *= steps;
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
