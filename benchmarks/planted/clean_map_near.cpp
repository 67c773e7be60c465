// planted:
// problem: map_near
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 128 * 512; i++) {
    const float v = x[i];
    y[i] = ((v * 0.3f + 0.7f) * v + 0.2f) * v + 0.1f;
  }
}
