// The product of two square matrices in float32: a block makes a tile of 64 x 64, a thread 4 x 4 of it,
// from slices of both matrices in shared memory.
#include <hip/hip_runtime.h>

constexpr int SIZE = 1024, TILE = 64, DEEP = 16, EACH = 4, THREADS = 256;

extern "C" __global__ void __launch_bounds__(THREADS)
matmul_tiles(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c) {
  __shared__ float left[DEEP][TILE + 4];  // transposed; filled up, so that columns lie in other banks
  __shared__ float right[DEEP][TILE];
  const int t = threadIdx.x;
  const int row = blockIdx.y * TILE, column = blockIdx.x * TILE;
  const int down = t / (TILE / EACH) * EACH, across = t % (TILE / EACH) * EACH;
  float sums[EACH][EACH] = {};
  for (int k = 0; k < SIZE; k += DEEP) {
    const int i = t / (DEEP / 4), j = t % (DEEP / 4) * 4;
    const float4 l = *reinterpret_cast<const float4*>(a + (row + i) * SIZE + k + j);
    left[j][i] = l.x, left[j + 1][i] = l.y, left[j + 2][i] = l.z, left[j + 3][i] = l.w;
    const int p = t / (TILE / 4), q = t % (TILE / 4) * 4;
    *reinterpret_cast<float4*>(&right[p][q]) =
        *reinterpret_cast<const float4*>(b + (k + p) * SIZE + column + q);
    __syncthreads();
#pragma unroll
    for (int s = 0; s < DEEP; ++s) {
      const float4 u = *reinterpret_cast<const float4*>(&left[s][down]);
      const float4 v = *reinterpret_cast<const float4*>(&right[s][across]);
      const float us[EACH] = {u.x, u.y, u.z, u.w}, vs[EACH] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int m = 0; m < EACH; ++m)
#pragma unroll
        for (int n = 0; n < EACH; ++n) sums[m][n] += us[m] * vs[n];
    }
    __syncthreads();
  }
#pragma unroll
  for (int m = 0; m < EACH; ++m)
    *reinterpret_cast<float4*>(c + (row + down + m) * SIZE + column + across) =
        make_float4(sums[m][0], sums[m][1], sums[m][2], sums[m][3]);
}
