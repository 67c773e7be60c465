// Calls the kernels of an experiment as the broker bids. It has no clock and tells no times.
#include "driver.h"

#include <omp.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "pages.h"

// A core for each thread, where there are several: the jail lets a thread bind only itself.
static void spread(int threads) {
  cpu_set_t allowed;
  if (threads < 2 || sched_getaffinity(0, sizeof allowed, &allowed)) return;
#pragma omp parallel num_threads(threads)
  {
    int skip = omp_get_thread_num() % CPU_COUNT(&allowed), cpu = 0;
    while (!CPU_ISSET(cpu, &allowed) || skip--) cpu++;
    cpu_set_t mine;
    CPU_ZERO(&mine);
    CPU_SET(cpu, &mine);
    sched_setaffinity(0, sizeof mine, &mine);
  }
}

// Most experiments are content with random bits.
extern "C" __attribute__((weak)) void setup(const Job&) {}

extern "C" int explore_serve(int channel, int shared) {
  Order order;
  Job jobs[2] = {};
  char* seen = nullptr;
  uint64_t prepared = 0;
  while (receive(channel, order)) {
    Job& job = jobs[order.variant & 1];
    void (*kernel)(const Job&) = order.variant & 1 ? kernel_b : kernel_a;
    if (order.op == PREPARE) {
      const Job wanted = order.job;
      job = wanted;
      Job& other = jobs[1 - (order.variant & 1)];
      const bool alike = prepared && order.huge == prepared - 1;
      const size_t skew = 33 * 64;  // or loads would falsely wait for stores 4 KiB away
      job.in = alike ? other.in : allocate(wanted.in_bytes + SLACK, order.huge);
      job.out = alike ? other.out : allocate(wanted.out_bytes + SLACK, order.huge) + skew;
      if (!alike) {
        fill_random(job.in, (wanted.in_bytes + SLACK) & ~size_t(7), wanted.seed);
        memset(job.out, 0, wanted.out_bytes);
        if (!prepared) spread(wanted.threads);
        omp_set_num_threads(wanted.threads);
        setup(job);
      }
      prepared = 1 + order.huge;
    } else if (order.op == RUN) {
      for (uint64_t i = 0; i < order.count; i++) kernel(job);
    } else if (order.op == WAKE) {
#pragma omp parallel num_threads(job.threads)
      asm volatile("");
    } else if (order.op == SHOW) {
      if (!seen && job.out_bytes)
        seen = static_cast<char*>(
            mmap(nullptr, job.out_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0));
      memset(job.out, int(order.count), job.out_bytes);
      kernel(job);
      memcpy(seen, job.out, job.out_bytes);
    }
    if (!answer(channel, order.sequence)) return 0;
  }
  return 0;
}
