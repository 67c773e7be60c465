// planted:
// problem: rows_near
typedef float vec __attribute__((vector_size(32)));

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long r = 0; r < 512; r++) {
    vec sum[8] = {};
    for (long c = 0; c < 2048; c += 64)
#pragma GCC unroll 8
      for (int u = 0; u < 8; u++) sum[u] += *(const vec*)(x + r * 2048 + c + 8 * u);
    const vec all = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
    float s = 0;
    for (int l = 0; l < 8; l++) s += all[l];
    y[r] = s;
  }
}
