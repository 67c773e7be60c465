// Softmax of rows: one work-group a row; what its work-items find is brought together in a tree.
#define COLUMNS 8192
#define THREADS 256

float of_group(float value, bool sum, __local float* parts) {
  const int me = get_local_id(0);
  parts[me] = value;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int far = THREADS / 2; far; far /= 2) {
    if (me < far) parts[me] = sum ? parts[me] + parts[me + far] : fmax(parts[me], parts[me + far]);
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  const float all = parts[0];
  barrier(CLK_LOCAL_MEM_FENCE);
  return all;
}

__kernel void softmax_rows(__global const float* restrict x, __global float* restrict y) {
  __local float parts[THREADS];
  __global const float* row = x + get_group_id(0) * COLUMNS;
  __global float* to = y + get_group_id(0) * COLUMNS;
  float held[COLUMNS / THREADS];
  float most = -INFINITY;
  for (int i = 0; i < COLUMNS / THREADS; ++i) {
    held[i] = row[i * THREADS + get_local_id(0)];
    most = fmax(most, held[i]);
  }
  most = of_group(most, false, parts);
  float sum = 0;
  for (int i = 0; i < COLUMNS / THREADS; ++i) {
    held[i] = exp(held[i] - most);
    sum += held[i];
  }
  const float scale = 1.0f / of_group(sum, true, parts);
  for (int i = 0; i < COLUMNS / THREADS; ++i) to[i * THREADS + get_local_id(0)] = held[i] * scale;
}
