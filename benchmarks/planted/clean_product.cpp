// planted:
// problem: product
// A tile of 6 x 2 vectors: twelve sums, and room for two vectors and a broadcast.
typedef float vec __attribute__((vector_size(32)));

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 384; i += 6)
    for (long j = 0; j < 384; j += 16) {
      vec sum[6][2] = {};
      for (long k = 0; k < 384; k++) {
        vec b[2];
        __builtin_memcpy(&b[0], x + k * 384 + j, 32);
        __builtin_memcpy(&b[1], x + k * 384 + j + 8, 32);
#pragma GCC unroll 6
        for (int u = 0; u < 6; u++) {
          const vec a = x[(i + u) * 384 + k] + vec{};
          sum[u][0] += a * b[0];
          sum[u][1] += a * b[1];
        }
      }
#pragma GCC unroll 6
      for (int u = 0; u < 6; u++) {
        __builtin_memcpy(y + (i + u) * 384 + j, &sum[u][0], 32);
        __builtin_memcpy(y + (i + u) * 384 + j + 8, &sum[u][1], 32);
      }
    }
}
