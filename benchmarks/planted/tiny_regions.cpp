// planted: tiny_regions
// problem: map_near
// All threads are called together for each row of 512.
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
  for (long r = 0; r < 128; r++) {
#pragma omp parallel for
    for (long c = 0; c < 512; c++) {
      const float v = x[r * 512 + c];
      y[r * 512 + c] = ((v * 0.3f + 0.7f) * v + 0.2f) * v + 0.1f;
    }
  }
}
