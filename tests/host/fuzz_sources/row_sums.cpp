#include <cstdint>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* x = static_cast<const float*>(in[0]);
  float* y = static_cast<float*>(out[0]);
  const int64_t rows = 67, columns = 1301;
#pragma omp parallel for
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * 1301;
    float part[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    int64_t c = 0;
    for (; c + 8 <= columns; c += 8)
      for (int64_t k = 0; k < 8; ++k) part[k] = part[k] + row[c + k];
    float sum = 0.0f;
    for (int64_t k = 0; k < 8; ++k) sum = sum + part[k];
    for (; c < columns; ++c) sum = sum + row[c];
    y[r] = sum;
  }
}
