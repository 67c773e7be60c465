// planted: denormals
// problem: faint
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 512 * 1024; i++) {
    float v = x[i] * 3e-38f, sum = 0;
    for (int k = 0; k < 16; k++) {
      v *= 0.6f;
      sum += v * 0.9f;
    }
    y[i] = sum;
  }
}
