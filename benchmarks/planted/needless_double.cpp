// planted: needless_double
// problem: map_near
// Constants without an f: the arithmetic is done in float64.
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 512 * 1024; i++) {
    float v = x[i];
    v = v * x[i] + 0.7;
    v = v * x[i] + 0.2;
    v = v * x[i] + 0.1;
    v = v * x[i] + 0.5;
    v = v * x[i] + 0.4;
    v = v * x[i] + 0.3;
    v = v * x[i] + 0.6;
    v = v * x[i] + 0.8;
    v = v * x[i] + 0.15;
    v = v * x[i] + 0.25;
    v = v * x[i] + 0.35;
    v = v * x[i] + 0.45;
    y[i] = v;
  }
}
