#include <cstdint>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* a = static_cast<const float*>(in[0]);
  const float* b = static_cast<const float*>(in[1]);
  float* y = static_cast<float*>(out[0]);
  const int64_t rows = 37, depth = 53, columns = 41;
#pragma omp parallel for
  for (int64_t i = 0; i < rows; ++i) {
    int64_t j = 0;
    for (; j + 8 <= columns; j += 8) {
      float sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t l = 0; l < 8; ++l) sum[l] = sum[l] + a[i * 53 + k] * b[k * 41 + j + l];
      for (int64_t l = 0; l < 8; ++l) y[i * 41 + j + l] = sum[l] < 0 ? 0.0f : sum[l];
    }
    for (; j < columns; ++j) {
      float one = 0.0f;
      for (int64_t k = 0; k < depth; ++k) one = one + a[i * 53 + k] * b[k * 41 + j];
      y[i * 41 + j] = one < 0 ? 0.0f : one;
    }
  }
}
