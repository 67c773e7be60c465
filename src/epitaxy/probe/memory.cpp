// Bandwidth by working set: read, write, streaming write, copy and streaming copy.
// Rates count the bytes that the program reads and writes; a plain write's hidden fetch is not.
#include "common.h"

typedef vector_of<float, WIDEST>::of vec;

#if defined(__AVX__)
#define STREAM(where, what) asm volatile("vmovntps %1, %0" : "=m"(where) : REG(what))
#define STREAM_FENCE asm volatile("sfence" ::: "memory")
#elif defined(__SSE2__)
#define STREAM(where, what) asm volatile("movntps %1, %0" : "=m"(where) : REG(what))
#define STREAM_FENCE asm volatile("sfence" ::: "memory")
#else
#define STREAM_FENCE asm volatile("dmb ishst" ::: "memory")
#endif

#define LOAD8(p) \
  vec v0 = p[0], v1 = p[1], v2 = p[2], v3 = p[3], v4 = p[4], v5 = p[5], v6 = p[6], v7 = p[7]; \
  asm volatile("" : "+" REG(v0), "+" REG(v1), "+" REG(v2), "+" REG(v3), "+" REG(v4), \
               "+" REG(v5), "+" REG(v6), "+" REG(v7))
#define STORE8(p) \
  p[0] = v0, p[1] = v1, p[2] = v2, p[3] = v3, p[4] = v4, p[5] = v5, p[6] = v6, p[7] = v7; \
  asm volatile("" ::: "memory")
#ifdef STREAM
#define STREAM8(p) \
  STREAM(p[0], v0); STREAM(p[1], v1); STREAM(p[2], v2); STREAM(p[3], v3); \
  STREAM(p[4], v4); STREAM(p[5], v5); STREAM(p[6], v6); STREAM(p[7], v7)
#else
// aarch64: non-temporal pairs of 16 bytes.
#define PAIR(p, i, x, y) asm volatile("stnp %q0, %q1, [%2, #" #i "]" ::"w"(x), "w"(y), "r"(p) : "memory")
#define STREAM8(p) PAIR(p, 0, v0, v1); PAIR(p, 32, v2, v3); PAIR(p, 64, v4, v5); PAIR(p, 96, v6, v7)
#endif

extern "C" {
NOINLINE void read_loop(vec*, const vec* p, size_t count) {
  for (const vec* end = p + count; p != end; p += 8) { LOAD8(p); }
}
NOINLINE void write_loop(vec* q, const vec* seed, size_t count) {
  LOAD8(seed);
  for (vec* end = q + count; q != end; q += 8) { STORE8(q); }
}
NOINLINE void stream_loop(vec* q, const vec* seed, size_t count) {
  LOAD8(seed);
  for (vec* end = q + count; q != end; q += 8) { STREAM8(q); }
  STREAM_FENCE;
}
NOINLINE void copy_loop(vec* q, const vec* p, size_t count) {
  for (const vec* end = p + count; p != end; p += 8, q += 8) { LOAD8(p); STORE8(q); }
}
NOINLINE void copy_stream_loop(vec* q, const vec* p, size_t count) {
  for (const vec* end = p + count; p != end; p += 8, q += 8) { LOAD8(p); STREAM8(q); }
  STREAM_FENCE;
}
}

struct Kind {
  const char* name;
  void (*run)(vec*, const vec*, size_t);
  bool reads, writes;
};

struct Buffers {
  char* from;
  char* to;
};

// Each thread owns its memory, touched first by itself: right on machines with several nodes too.
static std::vector<Buffers> make_buffers(int threads, size_t bytes) {
  std::vector<Buffers> made(threads);
  timed_team(threads, [&](int me) {
    size_t mine = bytes / threads + 4096;
    // 33 lines apart modulo a page, or loads would falsely wait for stores 4 KiB away.
    made[me] = {allocate(mine, true), allocate(mine + 4096, true) + 33 * 64};
    fill_random(made[me].from, mine, 2 * me + 1);
    fill_random(made[me].to, mine, 2 * me + 2);
  });
  return made;
}

static Point point(const Kind& kind, const std::vector<Buffers>& buffers, size_t total) {
  int threads = int(buffers.size());
  bool both = kind.reads && kind.writes;
  const size_t block = 8 * WIDEST;
  size_t each = total / threads / (both ? 2 : 1) / block * block;
  double moved = double(each) * threads * (both ? 2 : 1);
  long passes = 0;
  auto sample = [=, &buffers]() mutable {
    auto run = [&](int me, long n) {
      vec* to = reinterpret_cast<vec*>(buffers[me].to);
      const vec* from = reinterpret_cast<const vec*>(buffers[me].from);
      for (long i = 0; i < n; i++) kind.run(to, from, each / WIDEST);
    };
    // A set that no cache holds needs no warming.
    long warm = total <= (size_t(96) << 20);
    auto go = [&](long n) {
      return timed_team(threads, [&](int me) { run(me, warm); }, [&](int me) { run(me, n); });
    };
    if (!passes) {
      passes = std::max(1L, long((size_t(4) << 20) / each));
      while (go(passes) < 0.4e-3) passes *= 3;
    }
    return moved * double(passes) / go(passes);
  };
  return {text("\"what\": \"%s\", \"bytes\": %.0f, \"threads\": %d", kind.name, moved, threads),
          sample, {}};
}

int main(int count, char** values) {
  Arguments given = arguments(count, values);
  const std::vector<Kind> kinds = {{"read", read_loop, true, false},
                                   {"write", write_loop, false, true},
                                   {"stream", stream_loop, false, true},
                                   {"copy", copy_loop, true, true},
                                   {"copy_stream", copy_stream_loop, true, true}};
  auto one = make_buffers(1, given.most_bytes / 2);
  auto all = given.threads > 1 ? make_buffers(given.threads, given.most_bytes) : one;
  std::vector<Point> points;
  for (const Kind& kind : kinds) {
    for (size_t size : sizes(size_t(8) << 10, given.most_bytes / 2, given.per_octave, 2048))
      points.push_back(point(kind, one, size));
    if (given.threads == 1) continue;
    size_t least = (size_t(8) << 10) * given.threads;
    for (size_t size : sizes(least, given.most_bytes, given.per_octave, 2048 * given.threads))
      points.push_back(point(kind, all, size));
  }
  measure(points, given.budget_s, 5);
}
