// As driver.cpp, for kernels on an NVIDIA GPU: `setup` fills memory of the host, which is copied.
#include "driver.h"

#include <string.h>
#include <sys/mman.h>

#include <vector>

#include "pages.h"

static bool done(cudaError_t error) {
  if (error != cudaSuccess) fprintf(stderr, "%s\n", cudaGetErrorString(error));
  return error == cudaSuccess;
}

static bool prepare(Job& job, const Job& wanted) {
  job = wanted;
  std::vector<char> filled(wanted.in_bytes);
  fill_random(filled.data(), wanted.in_bytes & ~size_t(7), wanted.seed);
  Job host = wanted;
  host.in = filled.data();
  setup(host);
  return done(cudaMalloc(&job.in, wanted.in_bytes)) && done(cudaMalloc(&job.out, wanted.out_bytes)) &&
         done(cudaMemcpy(job.in, filled.data(), wanted.in_bytes, cudaMemcpyHostToDevice));
}

extern "C" int explore_serve(int channel, int shared) {
  Order order;
  Job jobs[2] = {};
  while (receive(channel, order)) {
    Job& job = jobs[order.variant & 1];
    void (*kernel)(const Job&) = order.variant & 1 ? kernel_b : kernel_a;
    if (order.op == PREPARE) {
      if (order.variant & 1) job = jobs[0];
      else if (!prepare(job, order.job)) return 1;
    } else if (order.op == RUN) {
      for (uint64_t i = 0; i < order.count; i++) kernel(job);
      if (!done(cudaDeviceSynchronize())) return 1;
    } else if (order.op == SHOW) {
      void* seen = mmap(nullptr, job.out_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
      if (!done(cudaMemset(job.out, int(order.count), job.out_bytes))) return 1;
      kernel(job);
      if (!done(cudaMemcpy(seen, job.out, job.out_bytes, cudaMemcpyDeviceToHost))) return 1;
      munmap(seen, job.out_bytes);
    }
    if (!answer(channel, order.sequence)) return 0;
  }
  return 0;
}
