// planted: page_faults
// problem: map_near
// Fresh memory from the system at every call, for what needs none.
#include <sys/mman.h>

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
  const long n = 128 * 512;
  float* half = (float*)mmap(nullptr, n * 4, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#pragma omp parallel for
  for (long i = 0; i < n; i++) half[i] = (x[i] * 0.3f + 0.7f) * x[i] + 0.2f;
#pragma omp parallel for
  for (long i = 0; i < n; i++) y[i] = half[i] * x[i] + 0.1f;
  munmap(half, n * 4);
}
