// planted: streaming_missing
// problem: map_far
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 4096 * 4096; i++) y[i] = x[i] * 2.0f + 1.0f;
}
