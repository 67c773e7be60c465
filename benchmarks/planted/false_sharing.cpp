// planted: false_sharing
// problem: rows_near
// Neighbouring rows belong to different threads, and each sum is kept in the output itself.
#include <omp.h>

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel
  {
    const long threads = omp_get_num_threads();
    for (long r = omp_get_thread_num(); r < 512; r += threads) {
      volatile float* sum = y + r;
      *sum = 0;
      for (long c = 0; c < 2048; c++) *sum = *sum + x[r * 2048 + c];
    }
  }
}
