// The product of two square matrices: a work-group makes a tile of 64 x 64, a work-item 4 x 4 of it.
#define SIZE 128
#define TILE 64
#define DEEP 16
#define EACH 4

__kernel void matmul_tiles(
    __global const float* restrict a, __global const float* restrict b, __global float* restrict c) {
  __local float left[DEEP][TILE + 4], right[DEEP][TILE];
  const int t = get_local_id(0);
  const int row = get_group_id(1) * TILE, column = get_group_id(0) * TILE;
  const int down = t / (TILE / EACH) * EACH, across = t % (TILE / EACH) * EACH;
  float sums[EACH][EACH];
  for (int m = 0; m < EACH; ++m)
    for (int n = 0; n < EACH; ++n) sums[m][n] = 0;
  for (int k = 0; k < SIZE; k += DEEP) {
    for (int i = t; i < TILE * DEEP; i += 256) {
      left[i % DEEP][i / DEEP] = a[(row + i / DEEP) * SIZE + k + i % DEEP];
      right[i / TILE][i % TILE] = b[(k + i / TILE) * SIZE + column + i % TILE];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int s = 0; s < DEEP; ++s)
      for (int m = 0; m < EACH; ++m)
        for (int n = 0; n < EACH; ++n) sums[m][n] += left[s][down + m] * right[s][across + n];
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  for (int m = 0; m < EACH; ++m)
    for (int n = 0; n < EACH; ++n) c[(row + down + m) * SIZE + column + across + n] = sums[m][n];
}
