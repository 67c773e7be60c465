// planted: fresh_pages
// problem: twice_near
// Fresh memory from the system at every call, for what needs none.
#include <sys/mman.h>

extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
  const long n = 256 * 1024;
  float* twice = (float*)mmap(nullptr, n * 4, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#pragma omp parallel for
  for (long i = 0; i < n; i++) twice[i] = x[i] * 2.0f;
#pragma omp parallel for
  for (long i = 0; i < n; i++) y[i] = twice[i] + 1.0f;
  munmap(twice, n * 4);
}
