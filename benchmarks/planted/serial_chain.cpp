// planted: serial_chain
// problem: rows_near
// One vector of sums: each addition waits for the one before.
typedef float vec __attribute__((vector_size(32)));

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long r = 0; r < 512; r++) {
    vec sum = {};
    for (long c = 0; c < 2048; c += 8) sum += *(const vec*)(x + r * 2048 + c);
    float s = 0;
    for (int l = 0; l < 8; l++) s += sum[l];
    y[r] = s;
  }
}
