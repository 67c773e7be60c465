// planted: imbalance
// problem: triangle
// Each thread has equally many rows, and the last ones are the longest.
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for schedule(static)
  for (long i = 0; i < 768; i++) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long j = 0; j <= i; j++) {
      const float c[12] = {0.7f, 0.2f, 0.1f, 0.5f, 0.4f, 0.3f, 0.6f, 0.8f, 0.15f, 0.25f, 0.35f, 0.45f};
      float v = x[i * 768 + j];
      for (int k = 0; k < 12; k++) v = v * x[i * 768 + j] + c[k];
      sum += v;
    }
    y[i] = sum;
  }
}
