// planted: atomics
// problem: rows_near
// Threads share the columns, and add to every row one after the other.
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
  for (long r = 0; r < 512; r++) y[r] = 0;
#pragma omp parallel for
  for (long c = 0; c < 2048; c += 16)
    for (long r = 0; r < 512; r++) {
      float s = 0;
      for (long k = c; k < c + 16; k++) s += x[r * 2048 + k];
#pragma omp atomic
      y[r] += s;
    }
}
