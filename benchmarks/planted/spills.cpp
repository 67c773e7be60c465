// planted: register_spills
// problem: product
// A tile of 8 x 4 vectors: 32 sums, twice as many as AVX2 has registers.
typedef float vec __attribute__((vector_size(32)));

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 384; i += 8)
    for (long j = 0; j < 384; j += 32) {
      vec sum[8][4] = {};
      for (long k = 0; k < 384; k++) {
        vec b[4];
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) __builtin_memcpy(&b[v], x + k * 384 + j + 8 * v, 32);
#pragma GCC unroll 8
        for (int u = 0; u < 8; u++)
#pragma GCC unroll 4
          for (int v = 0; v < 4; v++) sum[u][v] += x[(i + u) * 384 + k] * b[v];
      }
#pragma GCC unroll 8
      for (int u = 0; u < 8; u++)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) __builtin_memcpy(y + (i + u) * 384 + j + 8 * v, &sum[u][v], 32);
    }
}
