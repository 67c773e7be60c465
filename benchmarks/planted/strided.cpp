// planted: strided
// problem: columns
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long c = 0; c < 1000; c++) {
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (long r = 0; r < 4096; r += 4) {
      s0 += x[r * 1000 + c];
      s1 += x[(r + 1) * 1000 + c];
      s2 += x[(r + 2) * 1000 + c];
      s3 += x[(r + 3) * 1000 + c];
    }
    y[c] = (s0 + s1) + (s2 + s3);
  }
}
