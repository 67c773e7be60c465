// planted:
// problem: map_near
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 512 * 1024; i++) {
    const float c[12] = {0.7f, 0.2f, 0.1f, 0.5f, 0.4f, 0.3f, 0.6f, 0.8f, 0.15f, 0.25f, 0.35f, 0.45f};
    float v = x[i];
    for (int k = 0; k < 12; k++) v = v * x[i] + c[k];
    y[i] = v;
  }
}
