// The CPU side of kernels written for GPUs: what the dialects' headers ask of the runtime.
#pragma once
#include <cstddef>
#include <cstdint>

namespace epitaxy {

struct Index3 {
  unsigned x, y, z;
};

enum class Exchange : int { none, block, sync, shuffle, vote, add, least, most, both, either, gather };

struct Lane {
  Index3 thread, block;
  void* sp;         // its stack pointer while it does not run
  char* stack;      // the lowest byte of its stack
  Exchange waits;   // what it waits at
  bool done;
  bool positive;    // its own predicate
  int source;       // the lane that it wants the value of
  uint64_t mask;    // the lanes that it names; 0: those that are active
  uint64_t given[2], got[2];
  const void* mine; // for `gather`: what it gives, how much, and where it wants all of it
  size_t bytes;
  char* all;
};

struct State {  // kernels may read it
  Lane* now;    // the lane that runs
  Index3 extent, grid;
  int warp_lanes;
  char* dynamic_shared;
  Lane lanes[1024];
};
extern State state;

inline int flat() {
  const Index3 &t = state.now->thread, &e = state.extent;
  return t.x + e.x * (t.y + e.y * t.z);
}
inline int lane() { return flat() % state.warp_lanes; }

void barrier();                   // of the block
void meet(uint64_t mask);         // of the lanes in `mask`
void shuffle(const void* value, size_t bytes, int source, uint64_t mask, void* result);
uint64_t vote(bool positive, uint64_t mask);
uint64_t fold(Exchange how, uint64_t value, uint64_t mask);
// `bytes` of every lane of the warp, one after the other, into `all`.
void gather(const void* mine, size_t bytes, void* all);
// An access by an atomic operation, which cannot race.
void reach(const volatile void* address, size_t bytes);
// Memory that the threads of a block share, spoiled before each block.
void* shared(const char* name, size_t bytes, size_t alignment);
// Stop the launch: a kernel's own mistake, in words.
[[noreturn]] void fault(const char* what);

template <class T>
T shuffled(T value, int source, uint64_t mask) {
  static_assert(sizeof(T) <= 16, "a value of at most 16 bytes");
  T result;
  shuffle(&value, sizeof value, source, mask, &result);
  return result;
}

// Sources for the stand-in have `static auto& NAME = shared_as<TYPE[N]>("NAME");` in place of
// `__shared__ TYPE NAME[N];`.
template <class T>
T& shared_as(const char* name) {
  return *static_cast<T*>(shared(name, sizeof(T), alignof(T) < 16 ? 16 : alignof(T)));
}

}  // namespace epitaxy
