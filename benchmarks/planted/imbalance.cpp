// planted: imbalance
// problem: triangle
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for schedule(static)
  for (long i = 0; i < 1024; i++) {
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (long j = 0; j <= i; j++) {
      const float v = x[i * 1024 + j];
      s += (v * 0.3f + 0.7f) * v + 0.2f;
    }
    y[i] = s;
  }
}
