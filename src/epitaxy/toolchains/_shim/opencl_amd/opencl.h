// OpenCL C for AMD's chips where no device library is: clang's builtins, and of mathematics what LLVM
// writes out by itself. What is not here is an undefined symbol, and refused.
#define OVER static inline __attribute__((overloadable, always_inline))
#define CLK_LOCAL_MEM_FENCE 1
#define CLK_GLOBAL_MEM_FENCE 2
#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))
#define true 1
#define false 0
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef __SIZE_TYPE__ size_t;
typedef uint cl_mem_fence_flags;
typedef float float2 __attribute__((ext_vector_type(2)));
typedef float float4 __attribute__((ext_vector_type(4)));
typedef int int2 __attribute__((ext_vector_type(2)));
typedef int int4 __attribute__((ext_vector_type(4)));
typedef uint uint2 __attribute__((ext_vector_type(2)));
typedef uint uint4 __attribute__((ext_vector_type(4)));

OVER size_t get_local_id(uint axis) {
  return axis == 0   ? __builtin_amdgcn_workitem_id_x()
         : axis == 1 ? __builtin_amdgcn_workitem_id_y()
         : axis == 2 ? __builtin_amdgcn_workitem_id_z()
                     : 0;
}
OVER size_t get_group_id(uint axis) {
  return axis == 0   ? __builtin_amdgcn_workgroup_id_x()
         : axis == 1 ? __builtin_amdgcn_workgroup_id_y()
         : axis == 2 ? __builtin_amdgcn_workgroup_id_z()
                     : 0;
}
OVER size_t get_local_size(uint axis) {
  return axis == 0   ? __builtin_amdgcn_workgroup_size_x()
         : axis == 1 ? __builtin_amdgcn_workgroup_size_y()
         : axis == 2 ? __builtin_amdgcn_workgroup_size_z()
                     : 1;
}
OVER size_t get_global_size(uint axis) {
  return axis == 0   ? __builtin_amdgcn_grid_size_x()
         : axis == 1 ? __builtin_amdgcn_grid_size_y()
         : axis == 2 ? __builtin_amdgcn_grid_size_z()
                     : 1;
}
OVER size_t get_num_groups(uint axis) { return get_global_size(axis) / get_local_size(axis); }
OVER size_t get_global_id(uint axis) {
  return get_group_id(axis) * get_local_size(axis) + get_local_id(axis);
}
OVER void barrier(cl_mem_fence_flags flags) {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
OVER void mem_fence(cl_mem_fence_flags flags) { __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "workgroup"); }

OVER float fmax(float a, float b) { return __builtin_fmaxf(a, b); }
OVER float fmin(float a, float b) { return __builtin_fminf(a, b); }
OVER float fabs(float a) { return __builtin_fabsf(a); }
OVER float floor(float a) { return __builtin_floorf(a); }
OVER float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
OVER float mad(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
OVER float sqrt(float a) { return __builtin_sqrtf(a); }
OVER float rsqrt(float a) { return 1.0f / __builtin_sqrtf(a); }
OVER float exp(float a) { return __builtin_expf(a); }
OVER float exp2(float a) { return __builtin_exp2f(a); }
OVER float log(float a) { return __builtin_logf(a); }
OVER float log2(float a) { return __builtin_log2f(a); }
OVER float native_exp(float a) { return __builtin_expf(a); }
OVER float native_rsqrt(float a) { return 1.0f / __builtin_sqrtf(a); }
OVER float clamp(float a, float low, float high) {
  return __builtin_fminf(__builtin_fmaxf(a, low), high);
}
OVER float4 vload4(size_t at, const __global float* from) {
  return *(const __global float4*)(from + 4 * at);
}
OVER float4 vload4(size_t at, const __local float* from) {
  return *(const __local float4*)(from + 4 * at);
}
OVER void vstore4(float4 value, size_t at, __global float* to) {
  *(__global float4*)(to + 4 * at) = value;
}
OVER void vstore4(float4 value, size_t at, __local float* to) {
  *(__local float4*)(to + 4 * at) = value;
}
