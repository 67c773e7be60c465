// planted: needless_double
// problem: square_near
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 256 * 1024; i++) {
    const double v = x[i] * 2.0 + 1.0;
    y[i] = v * v;
  }
}
