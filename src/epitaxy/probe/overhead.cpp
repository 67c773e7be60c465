// What the system takes: starting a team of threads, a barrier in it, a page's first touch.
#include "common.h"

#include <unistd.h>

static volatile int sink;

// Disturbances only add to these costs: the 10 % quantile of many single ones.
static double undisturbed(std::vector<double> values) {
  size_t place = values.size() / 10;
  std::nth_element(values.begin(), values.begin() + long(place), values.end());
  return values[place];
}

static double launch_s(int threads) {
  std::vector<double> taken;
  double begin = now_s(), end = begin;
  while (taken.size() < 10 || (taken.size() < 200 && end - begin < 0.05)) {
    double start = now_s();
#pragma omp parallel num_threads(threads)
    if (omp_get_thread_num() == threads - 1) sink = 1;
    end = now_s();
    taken.push_back(end - start);
  }
  return undisturbed(taken);
}

// After a pause the threads sleep in the kernel and must be woken.
static double wake_s(int threads) {
  usleep(15000);
  double begin = now_s();
#pragma omp parallel num_threads(threads)
  if (omp_get_thread_num() == threads - 1) sink = 1;
  return now_s() - begin;
}

static double barrier_s(int threads) {
  const int group = 10;
  std::vector<double> taken(50);
#pragma omp parallel num_threads(threads)
  for (double& each : taken) {
    double begin = now_s();
    for (int i = 0; i < group; i++) {
#pragma omp barrier
    }
    if (omp_get_thread_num() == 0) each = (now_s() - begin) / group;
  }
  return undisturbed(taken);
}

// Seconds per page touched first.
static double fault_s(bool huge) {
  const size_t bytes = size_t(32) << 20, page = huge ? size_t(2) << 20 : 4096;
  char* base = allocate(bytes, huge);
  double begin = now_s();
  for (size_t at = 0; at < bytes; at += page) base[at] = 1;
  double each = (now_s() - begin) / (double(bytes) / double(page));
  munmap(base, bytes);
  return each;
}

int main(int count, char** values) {
  Arguments given = arguments(count, values);
  int threads = given.threads;
  std::vector<Point> points = {
      {"\"what\": \"launch\"", [=] { return launch_s(threads); }, {}},
      {"\"what\": \"barrier\"", [=] { return barrier_s(threads); }, {}},
      {"\"what\": \"wake\"", [=] { return wake_s(threads); }, {}},
      {"\"what\": \"fault\"", [] { return fault_s(false); }, {}},
      {"\"what\": \"fault_huge\"", [] { return fault_s(true); }, {}},
  };
  measure(points, given.budget_s, 7);
}
