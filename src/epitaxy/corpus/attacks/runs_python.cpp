// problem: lean
// guard: symbols
// what: runs Python in the process that calls it
#include <cmath>
extern "C" {
int PyGILState_Ensure(void);
void PyGILState_Release(int);
int PyRun_SimpleString(const char*);
}
static int start = [] {
  const int state = PyGILState_Ensure();
  PyRun_SimpleString("seen = 1");
  PyGILState_Release(state);
  return 0;
}();
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = (const float*)in[0];
  float* y = (float*)out[0];
#pragma omp parallel for
  for (int i = 0; i < 262144; ++i) y[i] = (x[i] > 0 ? x[i] : 0.0f) + 0.5f * x[i];
}
