// Softmax of rows: one block a row, which it reads once from memory and keeps in registers.
#include <hip/hip_runtime.h>

constexpr int COLUMNS = 256, THREADS = 64, WARPS = THREADS / 64;
constexpr int EACH = COLUMNS / (4 * THREADS);  // float4s that a thread holds

__device__ float of_block(float value, bool sum, float* parts) {
  for (int far = 32; far; far /= 2) {
    const float other = __shfl_xor(value, far);
    value = sum ? value + other : fmaxf(value, other);
  }
  if (threadIdx.x % 64 == 0) parts[threadIdx.x / 64] = value;
  __syncthreads();
  value = parts[0];
  for (int i = 1; i < WARPS; ++i) value = sum ? value + parts[i] : fmaxf(value, parts[i]);
  __syncthreads();
  return value;
}

extern "C" __global__ void __launch_bounds__(THREADS)
softmax_rows(const float* __restrict__ x, float* __restrict__ y) {
  __shared__ float parts[WARPS];
  const size_t row = blockIdx.x * static_cast<size_t>(COLUMNS);
  const float4* from = reinterpret_cast<const float4*>(x + row);
  float4* to = reinterpret_cast<float4*>(y + row);
  float4 held[EACH];
  float most = -INFINITY;
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    held[i] = from[i * THREADS + threadIdx.x];
    most = fmaxf(fmaxf(fmaxf(most, held[i].x), fmaxf(held[i].y, held[i].z)), held[i].w);
  }
  most = of_block(most, false, parts);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    held[i].x = expf(held[i].x - most), held[i].y = expf(held[i].y - most);
    held[i].z = expf(held[i].z - most), held[i].w = expf(held[i].w - most);
    sum += (held[i].x + held[i].y) + (held[i].z + held[i].w);
  }
  const float scale = 1.0f / of_block(sum, true, parts);
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    held[i].x *= scale, held[i].y *= scale, held[i].z *= scale, held[i].w *= scale;
    to[i * THREADS + threadIdx.x] = held[i];
  }
}
