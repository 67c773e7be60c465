// Shared by the probe's programs: clock, threads, random data, samples as JSON lines.
#pragma once

#include <omp.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#define NOINLINE __attribute__((noinline))

// REG: the asm constraint for a vector register. WIDEST: bytes of the widest vector built for.
#if defined(__AVX512F__)
#define REG "v"
#define WIDEST 64
#define REGISTERS 32
#elif defined(__AVX__)
#define REG "x"
#define WIDEST 32
#define REGISTERS 16
#elif defined(__SSE2__)
#define REG "x"
#define WIDEST 16
#define REGISTERS 16
#elif defined(__aarch64__)
#define REG "w"
#define WIDEST 16
#define REGISTERS 32
#else
#error "the probe knows the vector registers of x86-64 and aarch64 only"
#endif

template <class T, int BYTES>
struct vector_of {
  typedef T of __attribute__((vector_size(BYTES), may_alias));
};

inline double now_s() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// xorshift64*: data must be neither zero nor compressible, some machines are faster on zeros.
inline uint64_t random_bits(uint64_t& state) {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545F4914F6CDD1DULL;
}

inline void fill_random(void* where, size_t bytes, uint64_t seed) {
  uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
  uint64_t* words = static_cast<uint64_t*>(where);
  for (size_t i = 0; i < bytes / 8; i++) words[i] = random_bits(state) | 1;
}

// Anonymous memory on 2 MiB pages when `huge` (and the kernel agrees), else on 4 KiB pages.
inline char* allocate(size_t bytes, bool huge) {
  const size_t page = size_t(2) << 20;
  size_t size = (bytes + 2 * page) & ~(page - 1);
  void* raw = mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) {
    fprintf(stderr, "cannot allocate %zu bytes\n", size);
    exit(3);
  }
  char* base = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(raw) + page - 1) & ~(page - 1));
  madvise(base, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return base;
}

inline std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> cpus;
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &set)) cpus.push_back(i);
  return cpus;
}

// One clocked parallel region: from the first thread's start to the last one's end, in seconds.
// A lone thread is left to the scheduler, which can dodge a busy neighbour.
template <class F>
double timed_team(int threads, F body) {
  static const std::vector<int> cpus = allowed_cpus();
  std::vector<double> start(threads), stop(threads);
  if (threads == 1) {
    start[0] = now_s();
    body(0);
    return now_s() - start[0];
  }
#pragma omp parallel num_threads(threads)
  {
    int me = omp_get_thread_num();
    cpu_set_t mine;
    CPU_ZERO(&mine);
    CPU_SET(cpus[size_t(me) % cpus.size()], &mine);
    if (me) sched_setaffinity(0, sizeof mine, &mine);
#pragma omp barrier
    start[me] = now_s();
    body(me);
    stop[me] = now_s();
  }
  return *std::max_element(stop.begin(), stop.end()) - *std::min_element(start.begin(), start.end());
}

// One quantity to measure. `head` is the beginning of its JSON line; `sample` gives one value.
struct Point {
  std::string head;
  std::function<double()> sample;
  std::vector<double> values;
};

inline void print_point(const Point& point) {
  printf("{%s, \"values\": [", point.head.c_str());
  for (size_t i = 0; i < point.values.size(); i++)
    printf("%s%.6e", i ? ", " : "", point.values[i]);
  printf("]}\n");
}

// Rounds over all points, so that a slow minute of the machine touches every point alike.
inline void measure(std::vector<Point>& points, double budget_s, int least_rounds) {
  double begin = now_s();
  for (auto& point : points) point.sample();
  for (int round = 0; round < 200; round++) {
    for (auto& point : points) {
      double spent = now_s() - begin;
      if (round >= least_rounds && spent > budget_s) goto done;
      if (round >= 3 && spent > 1.5 * budget_s) goto done;
      point.values.push_back(point.sample());
    }
    printf("{\"progress\": %.3f}\n", std::min(1.0, (now_s() - begin) / budget_s));
    fflush(stdout);
  }
done:
  for (const auto& point : points) print_point(point);
}

inline std::string text(const char* format, ...) {
  char buffer[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(buffer, sizeof buffer, format, arguments);
  va_end(arguments);
  return buffer;
}

struct Arguments {
  double budget_s;
  int threads;
  int per_octave;
  size_t most_bytes;
};

// program BUDGET_S THREADS POINTS_PER_OCTAVE MOST_BYTES
inline Arguments arguments(int count, char** values) {
  if (count != 5) {
    fprintf(stderr, "usage: %s BUDGET_S THREADS POINTS_PER_OCTAVE MOST_BYTES\n", values[0]);
    exit(2);
  }
  return {atof(values[1]), atoi(values[2]), atoi(values[3]), size_t(atoll(values[4]))};
}

// Sizes in bytes, log-spaced, multiples of `unit`.
inline std::vector<size_t> sizes(size_t least, size_t most, int per_octave, size_t unit) {
  std::vector<size_t> found;
  for (int i = 0;; i++) {
    double exact = double(least) * __builtin_pow(2.0, double(i) / per_octave);
    size_t size = size_t(exact + 0.5) / unit * unit;
    if (size > most) return found;
    if (found.empty() || size > found.back()) found.push_back(size);
  }
}
