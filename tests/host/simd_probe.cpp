// Every function of simd.h and simd_math.h over arrays, for each number of lanes (1: scalar).
#include "simd.h"
#include "simd_memory.h"
#include "simd_lanes.h"
#include "simd_math.h"

extern "C" int has_fma() { return epx::has_fma; }

#define UNARY_AT(f, N) \
    extern "C" void f##_##N(const float* x, float* y, int64_t n) { \
        using V = epx::vf<N>; \
        for (int64_t i = 0; i < n; i += N) epx::store(y + i, epx::f(epx::load<V>(x + i))); }
#define UNARY(f) UNARY_AT(f, 1) UNARY_AT(f, 4) UNARY_AT(f, 8) UNARY_AT(f, 16)
#define BINARY_AT(f, N) \
    extern "C" void f##_##N(const float* a, const float* b, float* y, int64_t n) { \
        using V = epx::vf<N>; \
        for (int64_t i = 0; i < n; i += N) \
            epx::store(y + i, epx::f(epx::load<V>(a + i), epx::load<V>(b + i))); }
#define BINARY(f) BINARY_AT(f, 1) BINARY_AT(f, 4) BINARY_AT(f, 8) BINARY_AT(f, 16)

UNARY(exp) UNARY(exp_fast) UNARY(exp2) UNARY(expm1) UNARY(log) UNARY(log2) UNARY(log10)
UNARY(log1p) UNARY(sin) UNARY(cos) UNARY(tan) UNARY(tanh) UNARY(sigmoid) UNARY(erf) UNARY(atan)
UNARY(sinh) UNARY(cosh) UNARY(expm1_low) UNARY(softplus)
UNARY(floor) UNARY(ceil) UNARY(round) UNARY(trunc) UNARY(sqrt) UNARY(rsqrt) UNARY(reciprocal)
UNARY(sign) UNARY(abs) UNARY(neg)
UNARY(scan_add) UNARY(scan_mul) UNARY(scan_max) UNARY(scan_min) UNARY(last) UNARY(reverse)
BINARY(pow) BINARY(fmod) BINARY(remainder) BINARY(floordiv) BINARY(maximum) BINARY(minimum)
BINARY(max_fast) BINARY(min_fast) BINARY(copysign) BINARY(kl_term)

// One result for each group of N lanes.
#define FOLD_AT(f, N) \
    extern "C" void f##_##N(const float* x, float* y, int64_t n) { \
        for (int64_t i = 0; i < n; i += N) y[i / N] = epx::f(epx::load<epx::vf<N>>(x + i)); }
#define FOLD(f) FOLD_AT(f, 1) FOLD_AT(f, 4) FOLD_AT(f, 8) FOLD_AT(f, 16)
FOLD(hsum) FOLD(hprod) FOLD(hmax) FOLD(hmin)

#define MASKS(N) \
    extern "C" void classes_##N(const float* x, int32_t* y, int64_t n) { \
        using V = epx::vf<N>; using I = epx::vi<N>; \
        for (int64_t i = 0; i < n; i += N) { \
            V v = epx::load<V>(x + i); \
            I c = epx::select(epx::isnan(v), epx::splat<I>(1), epx::splat<I>(0)); \
            c += epx::select(epx::isinf(v), epx::splat<I>(2), epx::splat<I>(0)); \
            c += epx::any(epx::isnan(v)) ? 4 : 0; \
            c += epx::all(epx::mask_not(epx::isnan(v))) ? 8 : 0; \
            epx::store(y + i, c); } } \
    extern "C" void copy_tail_##N(const float* x, float* y, int32_t n) { \
        epx::store_n(y, epx::load_n<epx::vf<N>>(x, n, 7.0f), n); } \
    extern "C" void load_tail_##N(const float* x, float* y, int32_t n) { \
        epx::store(y, epx::load_n<epx::vf<N>>(x, n, 7.0f)); } \
    extern "C" void bf16_tail_##N(const epx::bf16* x, epx::bf16* y, int32_t n) { \
        epx::store_n(y, epx::load_n<epx::vf<N>>(x, n, 7.0f), n); } \
    extern "C" void int64_tail_##N(const int64_t* x, int64_t* y, int32_t n) { \
        epx::store_n(y, epx::load_n<epx::vi<N>>(x, n, 7), n); } \
    extern "C" void streamed_##N(const float* x, float* y, int64_t n) { \
        for (int64_t i = 0; i < n; i += N) epx::stream(y + i, epx::load<epx::vf<N>>(x + i)); \
        epx::fence(); } \
    extern "C" void gathered_##N(const float* x, const int64_t* at, float* y, int64_t n) { \
        for (int64_t i = 0; i < n; i += N) \
            epx::store(y + i, epx::gather<epx::vf<N>>(x, epx::load<epx::vi<N>>(at + i))); } \
    extern "C" void strided_##N(const float* x, int64_t stride, float* y, int64_t n) { \
        for (int64_t i = 0; i < n; i += N) \
            epx::store(y + i, epx::load_strided<epx::vf<N>>(x + i * stride, stride)); } \
    extern "C" void int_ops_##N(const int32_t* a, const int32_t* b, int32_t* y, int64_t n) { \
        using I = epx::vi<N>; \
        for (int64_t i = 0; i < n; i += N) { \
            I p = epx::load<I>(a + i), q = epx::load<I>(b + i); \
            epx::store(y + 0 * n + i, epx::remainder(p, q)); \
            epx::store(y + 1 * n + i, epx::floordiv(p, q)); \
            epx::store(y + 2 * n + i, epx::maximum(p, q)); \
            epx::store(y + 3 * n + i, epx::abs(p)); \
            epx::store(y + 4 * n + i, epx::sign(p)); \
            epx::store(y + 5 * n + i, epx::fmod(p, q)); \
            epx::store(y + 6 * n + i, epx::scan_add(p)); } }
MASKS(1) MASKS(4) MASKS(8) MASKS(16)

// Conversions: memory of type T to V and back to memory of type U.
#define CONVERT_AT(name, T, V, U, N) \
    extern "C" void name##_##N(const T* x, U* y, int64_t n) { \
        for (int64_t i = 0; i < n; i += N) epx::store(y + i, epx::load<epx::V<N>>(x + i)); }
#define CONVERT(name, T, V, U) \
    CONVERT_AT(name, T, V, U, 1) CONVERT_AT(name, T, V, U, 4) \
    CONVERT_AT(name, T, V, U, 8) CONVERT_AT(name, T, V, U, 16)
CONVERT(float_to_bf16, float, vf, epx::bf16) CONVERT(bf16_to_float, epx::bf16, vf, float)
CONVERT(float_to_f16, float, vf, epx::f16) CONVERT(f16_to_float, epx::f16, vf, float)
CONVERT(uint8_to_float, uint8_t, vf, float) CONVERT(int8_to_float, int8_t, vf, float)
CONVERT(bool_to_int, bool, vi, int32_t) CONVERT(float_to_bool, float, vf, bool)
CONVERT(int64_to_int32, int64_t, vi, int32_t) CONVERT(int32_to_int64, int32_t, vi, int64_t)
CONVERT(int64_to_float, int64_t, vf, float) CONVERT(float_to_int64, float, vf, int64_t)
CONVERT(int32_to_float, int32_t, vf, float) CONVERT(float_to_int32, float, vf, int32_t)
CONVERT(float_to_double, float, vd, double) CONVERT(double_to_float, double, vf, float)

#define DOUBLES(f) \
    extern "C" void double_##f(const double* x, double* y, int64_t n) { \
        for (int64_t i = 0; i < n; i += 8) epx::store(y + i, epx::f(epx::load<epx::vd<8>>(x + i))); }
DOUBLES(exp) DOUBLES(log) DOUBLES(tanh) DOUBLES(sqrt) DOUBLES(floor) DOUBLES(scan_add)
DOUBLES(reverse)
