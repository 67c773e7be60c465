// planted: atomics
// problem: columns
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long c = 0; c < 1000; c++) y[c] = 0;
#pragma omp parallel for
  for (long r = 0; r < 4096; r++)
    for (long c = 0; c < 1000; c++) {
#pragma omp atomic
      y[c] += x[r * 1000 + c];
    }
}
