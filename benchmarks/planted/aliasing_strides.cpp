// planted: aliasing_strides
// problem: columns_power
// Eight neighbouring columns at once, but rows 4,096 bytes apart fall into one set of the cache.
typedef float vec __attribute__((vector_size(32)));

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long c = 0; c < 1024; c += 8) {
    vec s0 = {}, s1 = {}, s2 = {}, s3 = {};
    for (long r = 0; r < 4096; r += 4) {
      s0 += *(const vec*)(x + r * 1024 + c);
      s1 += *(const vec*)(x + (r + 1) * 1024 + c);
      s2 += *(const vec*)(x + (r + 2) * 1024 + c);
      s3 += *(const vec*)(x + (r + 3) * 1024 + c);
    }
    *(vec*)(y + c) = (s0 + s1) + (s2 + s3);
  }
}
