// planted: tiny_regions
// problem: rows_near
typedef float vec __attribute__((vector_size(32)));

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
  for (long first = 0; first < 512; first += 4) {
#pragma omp parallel for
    for (long r = first; r < first + 4; r++) {
      vec sums[8] = {};
      for (long c = 0; c < 2048; c += 64)
        for (int u = 0; u < 8; u++) sums[u] += *(const vec*)(x + r * 2048 + c + 8 * u);
      float s = 0;
      for (int u = 0; u < 8; u++)
        for (int l = 0; l < 8; l++) s += sums[u][l];
      y[r] = s;
    }
  }
}
