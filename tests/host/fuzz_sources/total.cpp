#include <cstdint>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = static_cast<const float*>(in[0]);
  float* y = static_cast<float*>(out[0]);
  const int64_t rows = 301;
  double total = 0.0;
#pragma omp parallel for reduction(+ : total)
  for (int64_t r = 0; r < rows; ++r) {
    double sum = 0.0;
    for (int64_t c = 0; c < 331; ++c) {
      const float value = x[r * 331 + c];
      sum = sum + value * value;
    }
    total += sum;
  }
  y[0] = float(total);
}
