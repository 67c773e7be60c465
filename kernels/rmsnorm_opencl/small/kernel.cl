// RMS normalisation over the channels of images: neighbouring work-items take neighbouring pixels.
#define IMAGES 2
#define CHANNELS 64
#define PIXELS 16384
#define EPSILON 1e-5f

__kernel void rmsnorm_channels(
    __global const float* restrict x, __global const float* restrict weight, __global float* restrict y) {
  const int at = get_global_id(0);
  if (at >= IMAGES * PIXELS) return;
  const size_t first = (size_t)(at / PIXELS) * CHANNELS * PIXELS + at % PIXELS;
  float sum = 0;
  for (int c = 0; c < CHANNELS; ++c) {
    const float v = x[first + (size_t)c * PIXELS];
    sum += v * v;
  }
  const float scale = rsqrt(sum / CHANNELS + EPSILON);
  for (int c = 0; c < CHANNELS; ++c) {
    const size_t i = first + (size_t)c * PIXELS;
    y[i] = x[i] * scale * weight[c];
  }
}
