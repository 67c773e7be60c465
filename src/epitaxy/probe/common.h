// Shared by the probe's programs: clock, threads, random data, samples as JSON lines.
#pragma once

#include <omp.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "pages.h"

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

inline double clock_s(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

inline double now_s() { return clock_s(CLOCK_MONOTONIC); }

inline std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> cpus;
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &set)) cpus.push_back(i);
  return cpus;
}

// Whether a thread of the last clocked region lost its core to another process or began late:
// that says something of the neighbours and nothing of the silicon.
inline bool disturbed = false;

struct Span {
  double start, stop, cpu_start, cpu_stop;
  void begin() { cpu_start = clock_s(CLOCK_THREAD_CPUTIME_ID), start = now_s(); }
  void end() { stop = now_s(), cpu_stop = clock_s(CLOCK_THREAD_CPUTIME_ID); }
  double lost() const { return (stop - start) - (cpu_stop - cpu_start); }
};

// One clocked parallel region, after `warm` in each thread: from the first thread's start to the
// last one's end, in seconds. When it was disturbed, the threads' own processor times (their
// harmonic mean, so that rates add up) instead: exact for what is private to a core, and
// optimistic for shared memory, as threads that wait leave their bandwidth to the others.
// A lone thread is left to the scheduler, which can dodge a busy neighbour.
template <class Warm, class Body>
double timed_team(int threads, Warm warm, Body body) {
  static const std::vector<int> cpus = allowed_cpus();
  std::vector<Span> spans(threads, Span{});
  if (threads == 1) {
    warm(0);
    spans[0].begin();
    body(0);
    spans[0].end();
  } else {
#pragma omp parallel num_threads(threads)
    {
      int me = omp_get_thread_num();
      cpu_set_t mine;
      CPU_ZERO(&mine);
      CPU_SET(cpus[size_t(me) % cpus.size()], &mine);
      if (me) sched_setaffinity(0, sizeof mine, &mine);
      warm(me);
      Span span;
#pragma omp barrier
      span.begin();
      body(me);
      span.end();
      spans[me] = span;
    }
  }
  double first = spans[0].start, latest = first, last = spans[0].stop, rates = 0;
  for (const Span& span : spans) {
    first = std::min(first, span.start);
    latest = std::max(latest, span.start);
    last = std::max(last, span.stop);
    rates += 1 / std::max(span.cpu_stop - span.cpu_start, 1e-9);
  }
  disturbed = latest - first > 0.05 * (last - first);
  for (const Span& span : spans) disturbed |= span.lost() > 0.03 * (last - first);
  return disturbed ? threads / rates : last - first;
}

template <class Body>
double timed_team(int threads, Body body) {
  return timed_team(threads, [](int) {}, body);
}

// One quantity to measure. `head` is the beginning of its JSON line; `sample` gives one value.
struct Point {
  std::string head;
  std::function<double()> sample;
  std::vector<double> values;
  std::vector<double> spoilt = {};
};

// Undisturbed samples; the disturbed ones only where there are too few of the others.
inline void print_point(const Point& point) {
  std::vector<double> values = point.values;
  if (values.size() < 3) values.insert(values.end(), point.spoilt.begin(), point.spoilt.end());
  printf("{%s, \"values\": [", point.head.c_str());
  for (size_t i = 0; i < values.size(); i++) printf("%s%.6e", i ? ", " : "", values[i]);
  printf("]}\n");
}

// One sample, taken again when other processes disturb it and there is time.
inline void take(Point& point, bool hurry = false) {
  for (int attempt = 0; attempt < (hurry ? 1 : 2); attempt++) {
    disturbed = false;
    double value = point.sample();
    (disturbed ? point.spoilt : point.values).push_back(value);
    if (!disturbed) return;
  }
}

inline void print_points(const std::vector<Point>& points) {
  size_t good = 0, bad = 0;
  for (const Point& point : points) {
    print_point(point);
    good += point.values.size();
    bad += point.spoilt.size();
  }
  printf("{\"what\": \"samples\", \"values\": [%zu, %zu]}\n", good, bad);
}

// Rounds over all points, so that a slow minute of the machine touches every point alike.
inline void measure(std::vector<Point>& points, double budget_s, int least_rounds) {
  double begin = now_s();
  for (int round = 0; round < 200; round++) {
    for (auto& point : points) {
      double spent = now_s() - begin;
      if (round >= least_rounds && spent > budget_s) return print_points(points);
      if (round >= 1 && spent > 1.8 * budget_s) return print_points(points);
      if (round >= 3 && spent > 1.3 * budget_s) return print_points(points);
      take(point, spent > 0.7 * budget_s);
    }
    printf("{\"progress\": %.3f}\n", std::min(1.0, (now_s() - begin) / budget_s));
    fflush(stdout);
  }
  print_points(points);
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
