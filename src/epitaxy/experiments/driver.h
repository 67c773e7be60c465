// The broker's orders, as bytes over a socket. A copy of the layout is in process.py.
#pragma once

#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "explore.h"

enum : uint32_t { PREPARE = 1, RUN = 2, SHOW = 3, WAKE = 4 };
static const size_t SLACK = 1 << 16;

struct Order {
  uint32_t op, variant;
  uint64_t sequence, count, huge;
  Job job;  // of PREPARE; its addresses are not set
};

// A sleeper's wake-up is noise: poll for two milliseconds, then sleep.
inline bool receive(int channel, Order& order) {
  timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (;;) {
    ssize_t got = recv(channel, &order, sizeof order, MSG_DONTWAIT);
    if (got >= 0) return got == sizeof order;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec > 2000000) break;
  }
  return recv(channel, &order, sizeof order, 0) == sizeof order;
}

inline bool answer(int channel, uint64_t sequence) {
  return send(channel, &sequence, sizeof sequence, MSG_NOSIGNAL) == sizeof sequence;
}
