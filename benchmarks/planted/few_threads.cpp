// planted: few_threads
// problem: triangle
typedef float vec __attribute__((vector_size(32)));

template <class T>
static T polynomial(T x) {
  const float c[12] = {0.7f, 0.2f, 0.1f, 0.5f, 0.4f, 0.3f, 0.6f, 0.8f, 0.15f, 0.25f, 0.35f, 0.45f};
  T v = x;
#pragma GCC unroll 12
  for (int k = 0; k < 12; k++) v = v * x + c[k];
  return v;
}

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
  for (long i = 0; i < 768; i++) {
    const float* row = x + i * 768;
    vec sums = {};
    long j = 0;
    for (; j + 8 <= i + 1; j += 8) sums += polynomial(*(const vec*)(row + j));
    float sum = 0;
    for (; j <= i; j++) sum += polynomial(row[j]);
    for (int l = 0; l < 8; l++) sum += sums[l];
    y[i] = sum;
  }
}
