// HIP for AMD's chips where ROCm's own headers are not: clang's builtins, and of mathematics what
// LLVM writes out by itself.
#pragma once
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define __constant__ __attribute__((constant))
#define __shared__ __attribute__((shared))
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define EPITAXY_BOUNDS(threads, waves, more, ...) \
  __attribute__((amdgpu_flat_work_group_size(1, threads), amdgpu_waves_per_eu(waves)))
#define __launch_bounds__(...) EPITAXY_BOUNDS(__VA_ARGS__, 1, 1)
#define warpSize (__builtin_amdgcn_wavefrontsize())
#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))
typedef __SIZE_TYPE__ size_t;

struct dim3 {
  unsigned x, y, z;
};
struct epitaxy_thread {
  __device__ unsigned get_x() const { return __builtin_amdgcn_workitem_id_x(); }
  __device__ unsigned get_y() const { return __builtin_amdgcn_workitem_id_y(); }
  __device__ unsigned get_z() const { return __builtin_amdgcn_workitem_id_z(); }
  __declspec(property(get = get_x)) unsigned x;
  __declspec(property(get = get_y)) unsigned y;
  __declspec(property(get = get_z)) unsigned z;
};
struct epitaxy_block {
  __device__ unsigned get_x() const { return __builtin_amdgcn_workgroup_id_x(); }
  __device__ unsigned get_y() const { return __builtin_amdgcn_workgroup_id_y(); }
  __device__ unsigned get_z() const { return __builtin_amdgcn_workgroup_id_z(); }
  __declspec(property(get = get_x)) unsigned x;
  __declspec(property(get = get_y)) unsigned y;
  __declspec(property(get = get_z)) unsigned z;
};
struct epitaxy_extent {
  __device__ unsigned get_x() const { return __builtin_amdgcn_workgroup_size_x(); }
  __device__ unsigned get_y() const { return __builtin_amdgcn_workgroup_size_y(); }
  __device__ unsigned get_z() const { return __builtin_amdgcn_workgroup_size_z(); }
  __declspec(property(get = get_x)) unsigned x;
  __declspec(property(get = get_y)) unsigned y;
  __declspec(property(get = get_z)) unsigned z;
};
struct epitaxy_grid {
  __device__ unsigned get_x() const {
  return __builtin_amdgcn_grid_size_x() / __builtin_amdgcn_workgroup_size_x();
}
  __device__ unsigned get_y() const {
  return __builtin_amdgcn_grid_size_y() / __builtin_amdgcn_workgroup_size_y();
}
  __device__ unsigned get_z() const {
  return __builtin_amdgcn_grid_size_z() / __builtin_amdgcn_workgroup_size_z();
}
  __declspec(property(get = get_x)) unsigned x;
  __declspec(property(get = get_y)) unsigned y;
  __declspec(property(get = get_z)) unsigned z;
};
extern const __device__ __attribute__((weak)) epitaxy_thread threadIdx;
extern const __device__ __attribute__((weak)) epitaxy_block blockIdx;
extern const __device__ __attribute__((weak)) epitaxy_extent blockDim;
extern const __device__ __attribute__((weak)) epitaxy_grid gridDim;

#define EPITAXY_VECTORS(type, name)                                                          \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                   \
  struct name##3 { type x, y, z; };                                                          \
  struct alignas(4 * sizeof(type) > 16 ? 16 : 4 * sizeof(type)) name##4 { type x, y, z, w; }; \
  __device__ inline name##2 make_##name##2(type x, type y) { return {x, y}; }                \
  __device__ inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EPITAXY_VECTORS(float, float)
EPITAXY_VECTORS(double, double)
EPITAXY_VECTORS(int, int)
EPITAXY_VECTORS(unsigned, uint)

__device__ inline void __syncthreads() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
__device__ inline int __lane_id() {
  return __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0));
}
template <class T>
__device__ inline T epitaxy_from(T value, int lane) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "values of 4 or 8 bytes are exchanged");
  if constexpr (sizeof(T) == 4) {
    return __builtin_bit_cast(T, __builtin_amdgcn_ds_bpermute(4 * lane, __builtin_bit_cast(int, value)));
  } else {
    int2 both = __builtin_bit_cast(int2, value);
    both.x = __builtin_amdgcn_ds_bpermute(4 * lane, both.x);
    both.y = __builtin_amdgcn_ds_bpermute(4 * lane, both.y);
    return __builtin_bit_cast(T, both);
  }
}
template <class T>
__device__ inline T __shfl(T v, int source, int width = warpSize) {
  const int me = __lane_id();
  return epitaxy_from(v, me / width * width + (source & (width - 1)));
}
template <class T>
__device__ inline T __shfl_xor(T v, int bits, int width = warpSize) {
  const int me = __lane_id(), to = me ^ bits;
  return epitaxy_from(v, to / width > me / width ? me : to);
}
template <class T>
__device__ inline T __shfl_up(T v, unsigned delta, int width = warpSize) {
  const int me = __lane_id();
  return epitaxy_from(v, me % width >= static_cast<int>(delta) ? me - delta : me);
}
template <class T>
__device__ inline T __shfl_down(T v, unsigned delta, int width = warpSize) {
  const int me = __lane_id();
  return epitaxy_from(v, me % width + static_cast<int>(delta) < width ? me + delta : me);
}
__device__ inline unsigned long long __ballot(int p) { return __builtin_amdgcn_uicmp(p, 0, 33); }
__device__ inline int __any(int p) { return __ballot(p) != 0; }
__device__ inline int __all(int p) { return __ballot(!p) == 0; }

template <class T>
__device__ inline T atomicAdd(T* p, T v) {
  return __hip_atomic_fetch_add(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
template <class T>
__device__ inline T atomicMax(T* p, T v) {
  return __hip_atomic_fetch_max(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
template <class T>
__device__ inline T atomicMin(T* p, T v) {
  return __hip_atomic_fetch_min(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}

__device__ inline float fmaxf(float a, float b) { return __builtin_fmaxf(a, b); }
__device__ inline float fminf(float a, float b) { return __builtin_fminf(a, b); }
__device__ inline float fabsf(float a) { return __builtin_fabsf(a); }
__device__ inline float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
__device__ inline float sqrtf(float a) { return __builtin_sqrtf(a); }
__device__ inline float rsqrtf(float a) { return 1.0f / __builtin_sqrtf(a); }
__device__ inline float expf(float a) { return __builtin_expf(a); }
__device__ inline float exp2f(float a) { return __builtin_exp2f(a); }
__device__ inline float logf(float a) { return __builtin_logf(a); }
__device__ inline float log2f(float a) { return __builtin_log2f(a); }
__device__ inline float floorf(float a) { return __builtin_floorf(a); }
__device__ inline float ceilf(float a) { return __builtin_ceilf(a); }
__device__ inline float __expf(float a) { return __builtin_expf(a); }
__device__ inline float __logf(float a) { return __builtin_logf(a); }
template <class T> __device__ inline T max(T a, T b) { return a < b ? b : a; }
template <class T> __device__ inline T min(T a, T b) { return b < a ? b : a; }
