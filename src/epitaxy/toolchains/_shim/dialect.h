// Words that CUDA C++ and HIP share, for a CPU.
#pragma once
#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __constant__ static
#define __align__(n) alignas(n)
#define __managed__

using epitaxy::Index3;
typedef Index3 uint3;
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
#define threadIdx (epitaxy::state.now->thread)
#define blockIdx (epitaxy::state.now->block)
#define blockDim (epitaxy::state.extent)
#define gridDim (epitaxy::state.grid)

#define EPITAXY_VECTORS(type, name)                                                              \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                       \
  struct name##3 { type x, y, z; };                                                              \
  struct alignas(4 * sizeof(type) > 16 ? 16 : 4 * sizeof(type)) name##4 { type x, y, z, w; };    \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                               \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                    \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EPITAXY_VECTORS(float, float)
EPITAXY_VECTORS(double, double)
EPITAXY_VECTORS(int, int)
EPITAXY_VECTORS(unsigned char, uchar)
EPITAXY_VECTORS(short, short)
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

using std::max;
using std::min;
using std::isfinite;
using std::isinf;
using std::isnan;
inline float max(float a, float b) { return std::fmax(a, b); }  // as on the chip: a NaN loses
inline float min(float a, float b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
inline float exp10f(float x) { return std::pow(10.0f, x); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline int __float_as_int(float x) { return __builtin_bit_cast(int, x); }
inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
inline float __int_as_float(int x) { return __builtin_bit_cast(float, x); }
inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
template <class T> T __ldg(const T* p) { return *p; }
template <class T> T __ldcg(const T* p) { return *p; }
template <class T> T __ldcs(const T* p) { return *p; }
template <class T> void __stcs(T* p, T v) { *p = v; }
template <class T> void __stcg(T* p, T v) { *p = v; }

inline void __syncthreads() { epitaxy::barrier(); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

#define EPITAXY_ATOMIC(name, result)                        \
  template <class T, class U>                               \
  __attribute__((noinline, no_sanitize("kernel-address")))  \
  T name(T* p, U given) {                                   \
    epitaxy::reach(p, sizeof(T));                           \
    const T old = *p, v = static_cast<T>(given);            \
    *p = (result);                                          \
    return old;                                             \
  }
EPITAXY_ATOMIC(atomicAdd, old + v)
EPITAXY_ATOMIC(atomicSub, old - v)
EPITAXY_ATOMIC(atomicMax, old < v ? v : old)
EPITAXY_ATOMIC(atomicMin, v < old ? v : old)
EPITAXY_ATOMIC(atomicExch, v)
EPITAXY_ATOMIC(atomicAnd, old & v)
EPITAXY_ATOMIC(atomicOr, old | v)
EPITAXY_ATOMIC(atomicXor, old ^ v)
EPITAXY_ATOMIC(atomicInc, old >= v ? T(0) : T(old + 1))
template <class T>
__attribute__((noinline, no_sanitize("kernel-address")))
T atomicCAS(T* p, T expected, T wanted) {
  epitaxy::reach(p, sizeof(T));
  const T old = *p;
  if (old == expected) *p = wanted;
  return old;
}

namespace epitaxy {
// The lane that a shuffle reads from, where `width` lanes form a group; its own beyond the group.
inline int up(int me, int delta, int width) { return me % width >= delta ? me - delta : me; }
inline int down(int me, int delta, int width) { return me % width + delta < width ? me + delta : me; }
inline int across(int me, int bits, int width) {
  const int to = me ^ bits;
  return to / width > me / width ? me : to;
}
inline int at(int me, int source, int width) {
  return me / width * width + (source % width + width) % width;
}
}  // namespace epitaxy
