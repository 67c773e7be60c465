// Load-to-use latency by working set: one random cycle through all cache lines.
#include <cstring>

#include "common.h"

static const size_t LINE = 64;

// Sattolo's shuffle: one cycle through every line of the buffer, in random order.
static void make_cycle(char* base, size_t bytes) {
  uint32_t lines = uint32_t(bytes / LINE);
  std::vector<uint32_t> next(lines);
  for (uint32_t i = 0; i < lines; i++) next[i] = i;
  uint64_t state = 88172645463325252ULL + bytes;
  for (uint32_t i = lines - 1; i > 0; i--) {
    uint32_t j = uint32_t((random_bits(state) >> 32) * uint64_t(i) >> 32);
    std::swap(next[i], next[j]);
  }
  for (uint32_t i = 0; i < lines; i++) {
    char* to = base + size_t(next[i]) * LINE;
    memcpy(base + size_t(i) * LINE, &to, sizeof to);
  }
}

extern "C" NOINLINE void* chase_loop(void* at, long blocks) {
  void** p = static_cast<void**>(at);
#define HOP p = static_cast<void**>(*p); asm volatile("" : "+r"(p));
  for (long i = 0; i < blocks; i++) { HOP HOP HOP HOP HOP HOP HOP HOP }
  return p;
}

static size_t huge_kib() {
  FILE* file = fopen("/proc/self/smaps_rollup", "r");
  char line[256];
  size_t kib = 0;
  while (file && fgets(line, sizeof line, file)) sscanf(line, "AnonHugePages: %zu kB", &kib);
  if (file) fclose(file);
  return kib;
}

static void chase(char* base, size_t bytes, bool huge, double each_s) {
  make_cycle(base, bytes);
  long lines = long(bytes / LINE);
  void* at = base;
  if (bytes <= (size_t(64) << 20)) at = chase_loop(at, lines / 8 + 1);
  long blocks = 256;
  for (double s = 0; s < each_s / 4; blocks *= 2) {
    double begin = now_s();
    at = chase_loop(at, blocks);
    s = now_s() - begin;
  }
  auto sample = [&] {
    return timed_team(1, [&](int) { at = chase_loop(at, blocks); }) / (8.0 * double(blocks));
  };
  Point point = {text("\"what\": \"latency\", \"bytes\": %zu, \"huge\": %s", bytes,
                      huge ? "true" : "false"), sample, {}};
  for (int i = 0; i < 9; i++) take(point);
  print_point(point);
}

int main(int count, char** values) {
  Arguments given = arguments(count, values);
  auto all = sizes(4096, given.most_bytes, given.per_octave, LINE);
  double each_s = std::min(4e-3, given.budget_s / (24.0 * double(all.size())));
  double done = 0, work = 0;
  for (size_t size : all) work += 2 * (4e6 + double(size));
  for (bool huge : {true, false}) {
    char* base = allocate(given.most_bytes, huge);
    fill_random(base, given.most_bytes, 7);
    for (size_t size : all) {
      chase(base, size, huge, each_s);
      done += 4e6 + double(size);
      printf("{\"progress\": %.3f}\n", done / work);
      fflush(stdout);
    }
    printf("{\"what\": \"huge_pages\", \"asked\": %s, \"values\": [%.3f]}\n", huge ? "true" : "false",
           double(huge_kib()) * 1024 / double(given.most_bytes));
    munmap(base, given.most_bytes);
  }
}
