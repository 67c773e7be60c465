// Memory on huge or small pages, and data to fill it with.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

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
