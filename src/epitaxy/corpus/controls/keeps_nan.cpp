// problem: ramp
// plan: full
// what: NaN goes through a comparison
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) y[i] = x[i] < 0 ? 0.0f : x[i];
}
