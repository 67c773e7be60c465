// RMS normalisation over the channels of images: neighbouring threads take neighbouring pixels, and
// each sums over its pixel's channels, which lie PIXELS apart; the second pass finds them in the cache.
#include <hip/hip_runtime.h>

constexpr int IMAGES = 2, CHANNELS = 64, PIXELS = 16384, THREADS = 128;
constexpr float EPSILON = 1e-5f;

extern "C" __global__ void __launch_bounds__(THREADS)
rmsnorm_channels(const float* __restrict__ x, const float* __restrict__ weight, float* __restrict__ y) {
  const int at = blockIdx.x * THREADS + threadIdx.x;
  if (at >= IMAGES * PIXELS) return;
  const size_t first = static_cast<size_t>(at / PIXELS) * CHANNELS * PIXELS + at % PIXELS;
  float sum = 0;
#pragma unroll 8
  for (int c = 0; c < CHANNELS; ++c) {
    const float v = x[first + static_cast<size_t>(c) * PIXELS];
    sum += v * v;
  }
  const float scale = rsqrtf(sum / CHANNELS + EPSILON);
#pragma unroll 8
  for (int c = 0; c < CHANNELS; ++c) {
    const size_t i = first + static_cast<size_t>(c) * PIXELS;
    y[i] = x[i] * scale * weight[c];
  }
}
