// What a kernel of an experiment is given. Each kernel is compiled by itself, away from the driver.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__CUDACC__)
#define EVERYWHERE __host__ __device__
#else
#define EVERYWHERE
#endif

#if defined(__AVX512F__)
#define WIDEST 64
#elif defined(__AVX__)
#define WIDEST 32
#else
#define WIDEST 16
#endif

// `out` holds what is compared: a kernel writes every byte of it. `in` is filled by `setup` before
// the first call, from `seed`; `size` (bytes) and `x` are this point of the sweep.
struct Job {
  char* out;
  size_t out_bytes;
  char* in;
  size_t in_bytes;
  size_t size;
  double x;
  int threads;
  uint64_t seed;

  template <class T>
  EVERYWHERE T* output(size_t bytes = 0) const { return reinterpret_cast<T*>(out + bytes); }
  template <class T>
  EVERYWHERE T* input(size_t bytes = 0) const { return reinterpret_cast<T*>(in + bytes); }

  // Fills the output with `value`: the answer of a kernel that computes a single one.
  template <class T>
  void result(T value) const {
    for (size_t i = 0; i + sizeof value <= out_bytes; i += sizeof value)
      __builtin_memcpy(out + i, &value, sizeof value);
  }
};

extern "C" {
void setup(const Job& job);
void kernel_a(const Job& job);
void kernel_b(const Job& job);
}

#if !defined(__CUDACC__)
typedef float wide __attribute__((vector_size(WIDEST), may_alias));
#define LANES (WIDEST / 4)

// The compiler may assume nothing of `value` (a variable in a register) beyond this line.
#define OPAQUE(value) asm volatile("" : "+r"(value))
#if defined(__x86_64__)
#define KEEP(vector) asm volatile("" : "+x"(vector))
#else
#define KEEP(vector) asm volatile("" : "+w"(vector))
#endif
#define TOUCH asm volatile("" ::: "memory")
#endif
