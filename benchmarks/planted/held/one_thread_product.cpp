// planted: few_threads
// problem: product
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
  const long n = 384;
  for (long i = 0; i < n; i += 4)
    for (long j = 0; j < n; j += 32) {
      float s[4][32] = {};
      for (long k = 0; k < n; k++)
#pragma GCC unroll 4
        for (int a = 0; a < 4; a++)
#pragma GCC unroll 32
          for (int b = 0; b < 32; b++) s[a][b] += x[(i + a) * n + k] * x[k * n + j + b];
      for (int a = 0; a < 4; a++)
        for (int b = 0; b < 32; b++) y[(i + a) * n + j + b] = s[a][b];
    }
}
