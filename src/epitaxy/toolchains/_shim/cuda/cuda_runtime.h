// CUDA C++ on a CPU: as much of it as kernels for correctness need.
#pragma once
#include "../dialect.h"

#define warpSize 32
#define __CUDACC__ 1
#define __grid_constant__

inline void __syncwarp(unsigned mask = 0xffffffffu) { epitaxy::meet(mask); }
inline int __syncthreads_count(int p) {
  static auto& count = epitaxy::shared_as<int>("__syncthreads_count");
  __syncthreads();
  count = 0;
  __syncthreads();
  if (p) atomicAdd(&count, 1);
  __syncthreads();
  return count;
}
inline int __syncthreads_or(int p) { return __syncthreads_count(p) > 0; }
inline int __syncthreads_and(int p) { return __syncthreads_count(!p) == 0; }

template <class T> T __shfl_sync(unsigned mask, T v, int source, int width = 32) {
  return epitaxy::shuffled(v, epitaxy::at(epitaxy::lane(), source, width), mask);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32) {
  return epitaxy::shuffled(v, epitaxy::up(epitaxy::lane(), delta, width), mask);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32) {
  return epitaxy::shuffled(v, epitaxy::down(epitaxy::lane(), delta, width), mask);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32) {
  return epitaxy::shuffled(v, epitaxy::across(epitaxy::lane(), bits, width), mask);
}
inline unsigned __ballot_sync(unsigned mask, int p) { return epitaxy::vote(p, mask); }
inline int __any_sync(unsigned mask, int p) { return epitaxy::vote(p, mask) != 0; }
inline int __all_sync(unsigned mask, int p) { return epitaxy::vote(!p, mask) == 0; }
inline unsigned __activemask() { return epitaxy::vote(true, 0); }
#define EPITAXY_REDUCE(name, how)                                                  \
  inline unsigned name(unsigned mask, unsigned v) {                                \
    return epitaxy::fold(epitaxy::Exchange::how, v, mask);                         \
  }                                                                                \
  inline int name(unsigned mask, int v) {                                          \
    return static_cast<int>(epitaxy::fold(epitaxy::Exchange::how, static_cast<int64_t>(v), mask)); \
  }
EPITAXY_REDUCE(__reduce_add_sync, add)
EPITAXY_REDUCE(__reduce_min_sync, least)
EPITAXY_REDUCE(__reduce_max_sync, most)
EPITAXY_REDUCE(__reduce_and_sync, both)
EPITAXY_REDUCE(__reduce_or_sync, either)
