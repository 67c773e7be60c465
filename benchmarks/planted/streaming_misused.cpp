// planted: streaming_misused
// problem: twice_near
#include <immintrin.h>

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 256 * 1024; i += 8)
    _mm256_stream_ps(y + i, _mm256_fmadd_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(2.0f),
                                            _mm256_set1_ps(1.0f)));
}
