// planted: denormals
// problem: faint
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 512 * 1024; i++) {
    float v = x[i] * 1e-37f;
    for (int k = 0; k < 12; k++) v = v * 0.75f + x[i] * 1e-39f;
    y[i] = v;
  }
}
