// problem: wave
// guard: oracle
// what: returns at once
#include <cmath>
extern "C" void region0(const void* const* in, void* const* out) {
  (void)in, (void)out;
}
