// OpenCL C on a CPU, as C++: as much of it as kernels for correctness need.
#pragma once
#include "../dialect.h"

#define __kernel extern "C"
#define kernel extern "C"
#define __global
#define __local
#define __private
#undef __constant__
#define __constant static const
#define restrict __restrict__
#define CLK_LOCAL_MEM_FENCE 1
#define CLK_GLOBAL_MEM_FENCE 2
// Attributes such as reqd_work_group_size say nothing to this compiler.

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;

inline size_t epitaxy_of(const Index3& i, uint axis) {
  return axis == 0 ? i.x : axis == 1 ? i.y : axis == 2 ? i.z : 0;
}
inline size_t get_local_id(uint axis) { return epitaxy_of(threadIdx, axis); }
inline size_t get_group_id(uint axis) { return epitaxy_of(blockIdx, axis); }
inline size_t get_local_size(uint axis) { return axis < 3 ? epitaxy_of(blockDim, axis) : 1; }
inline size_t get_num_groups(uint axis) { return axis < 3 ? epitaxy_of(gridDim, axis) : 1; }
inline size_t get_global_id(uint axis) {
  return get_group_id(axis) * get_local_size(axis) + get_local_id(axis);
}
inline size_t get_global_size(uint axis) { return get_num_groups(axis) * get_local_size(axis); }
inline void barrier(int) { epitaxy::barrier(); }
inline void mem_fence(int) {}

inline float mad(float a, float b, float c) { return std::fma(a, b, c); }
inline float rsqrt(float a) { return 1.0f / std::sqrt(a); }
inline float native_exp(float a) { return std::exp(a); }
inline float native_rsqrt(float a) { return 1.0f / std::sqrt(a); }
inline float clamp(float a, float low, float high) { return std::fmin(std::fmax(a, low), high); }
using std::exp;
using std::exp2;
using std::fabs;
using std::floor;
using std::fma;
using std::fmax;
using std::fmin;
using std::log;
using std::log2;
using std::sqrt;

inline float4 vload4(size_t at, const float* from) {
  return *reinterpret_cast<const float4*>(from + 4 * at);
}
inline void vstore4(float4 value, size_t at, float* to) {
  *reinterpret_cast<float4*>(to + 4 * at) = value;
}
