// HIP on a CPU: as much of it as kernels for correctness need.
#pragma once
#include "../../dialect.h"

#define warpSize (epitaxy::state.warp_lanes)
#define __HIP_PLATFORM_AMD__ 1

inline int __lane_id() { return epitaxy::lane(); }
template <class T> T __shfl(T v, int source, int width = warpSize) {
  return epitaxy::shuffled(v, epitaxy::at(epitaxy::lane(), source, width), 0);
}
template <class T> T __shfl_up(T v, unsigned delta, int width = warpSize) {
  return epitaxy::shuffled(v, epitaxy::up(epitaxy::lane(), delta, width), 0);
}
template <class T> T __shfl_down(T v, unsigned delta, int width = warpSize) {
  return epitaxy::shuffled(v, epitaxy::down(epitaxy::lane(), delta, width), 0);
}
template <class T> T __shfl_xor(T v, int bits, int width = warpSize) {
  return epitaxy::shuffled(v, epitaxy::across(epitaxy::lane(), bits, width), 0);
}
inline uint64_t __ballot(int p) { return epitaxy::vote(p, 0); }
inline int __any(int p) { return epitaxy::vote(p, 0) != 0; }
inline int __all(int p) { return epitaxy::vote(!p, 0) == 0; }
