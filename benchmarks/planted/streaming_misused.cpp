// planted: streaming_misused
// problem: map_near
#include <immintrin.h>

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long i = 0; i < 128 * 512; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    __m256 s = _mm256_fmadd_ps(v, _mm256_set1_ps(0.3f), _mm256_set1_ps(0.7f));
    s = _mm256_fmadd_ps(s, v, _mm256_set1_ps(0.2f));
    s = _mm256_fmadd_ps(s, v, _mm256_set1_ps(0.1f));
    _mm256_stream_ps(y + i, s);
  }
}
