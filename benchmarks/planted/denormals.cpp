// planted: denormals
// problem: faint
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 256 * 512; i++) {
    const float v = x[i];
    y[i] = (v * 1e-20f) * (v * 1e-20f) * 3.0f + v * 1e-40f;
  }
}
