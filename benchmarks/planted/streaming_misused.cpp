// planted: streaming_misused
// problem: square_near
// Each row goes past the caches that would hold it, and is read again at once.
#include <immintrin.h>

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (long r = 0; r < 256; r++) {
    const float* from = x + r * 1024;
    float* to = y + r * 1024;
    for (long i = 0; i < 1024; i += 8)
      _mm256_stream_ps(to + i, _mm256_fmadd_ps(_mm256_loadu_ps(from + i), _mm256_set1_ps(2.0f),
                                               _mm256_set1_ps(1.0f)));
    for (long i = 0; i < 1024; i += 8) {
      const __m256 v = _mm256_loadu_ps(to + i);
      _mm256_storeu_ps(to + i, _mm256_mul_ps(v, v));
    }
  }
}
