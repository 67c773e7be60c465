// problem: wave
// guard: idle
// also: sources clocks symbols
// what: a thread of its own works between the calls
#include <cmath>
static void compute(const float* x, float* y) {
#pragma omp parallel for
  for (int i = 0; i < 65536; ++i) y[i] = sinf(sinf(sinf(sinf(x[i]))));
}

#include <pthread.h>
#include <ctime>
static volatile int seen;
static void* poll(void*) {
  for (;;) { timespec t{0, 200000}; nanosleep(&t, nullptr);
    for (int i = 0; i < 20000; ++i) seen = seen + 1; }
  return nullptr;
}
static int start = [] { pthread_t t; return pthread_create(&t, nullptr, poll, nullptr); }();
extern "C" void region0(const void* const* in, void* const* out) {compute((const float*)in[0], (float*)out[0]);}
