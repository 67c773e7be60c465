// planted: divides
// problem: map_near
// A factor that could be turned round is divided by, three times for each number.
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 512 * 1024; i++) {
    const float v = x[i];
    y[i] = (v + 1.0f) / 1.7f + (v + 2.0f) / 2.3f + (v + 3.0f) / 3.1f;
  }
}
