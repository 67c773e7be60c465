// Runs kernels written for GPUs on a CPU, for correctness: every thread of a block is a fiber, blocks
// follow one another. The compiler calls us before every load and store of the kernel
// (-fsanitize=kernel-address with outlined checks), so that each access is held against the
// tensors, the block's shared memory and the thread's own stack; those to shared memory are watched
// for races. The order of threads and of blocks is turned round at every launch.
#include "runtime.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace epitaxy {

// What is the runtime's own lies together: kernels must not write there.
#define OWN __attribute__((section("epitaxy_own")))

OWN State state;

namespace {

constexpr size_t STACK = 64 << 10, ARENA = 512 << 10, ZONE = 64;
constexpr int MOST_LANES = 1024, MOST_TENSORS = 12, MOST_ARRAYS = 256, TEXT = 480;
constexpr unsigned char SPOILED = 0xFF;  // as floats NaN

struct Range {
  const char* first;
  size_t bytes;
};
struct Array {  // of shared memory
  const char* name;
  char* first;
  size_t bytes;
};
struct Global {  // as the compiler registers them
  const char* first;
  size_t bytes, with_zone;
  const char *name, *unit;
  size_t dynamic;
  void *where, *odr;
};
struct Touch {  // of one byte of shared memory: who wrote and who read it last, and when
  uint32_t written, read;         // epochs of the block, 0 for never
  uint32_t writer_at, reader_at;  // epochs of their warps
  uint16_t writer, reader;
};
constexpr uint16_t SEVERAL = 0xFFFF;

#define now (state.now)
#define extent (state.extent)
#define grid (state.grid)
#define warp_lanes (state.warp_lanes)
#define dynamic_shared (state.dynamic_shared)
#define lanes (state.lanes)

OWN char* stacks;
OWN void* scheduler_sp;
OWN int count;
OWN bool backwards;
OWN uint32_t epoch;
OWN uint32_t warp_epoch[MOST_LANES];
OWN Range tensors[MOST_TENSORS];
OWN int tensor_count, last_tensor;
OWN Global* globals[64];
OWN size_t global_counts[64];
OWN int global_units;
OWN Array arrays[MOST_ARRAYS];
OWN int array_count, last_array;
OWN size_t arena_used = ZONE;
OWN size_t dynamic_bytes;
OWN Touch* touches;
OWN size_t touch_room;
OWN char message[TEXT];
OWN bool failed;
OWN const char* kernel_name;
OWN void* arguments[MOST_TENSORS];
OWN void* kernel;
alignas(ZONE) char arena[ARENA];

}  // namespace

extern "C" {
// The library, from its header to its end, and what of it is our own.
extern char __ehdr_start[] __attribute__((visibility("hidden")));
extern char _end[] __attribute__((visibility("hidden")));
extern char __start_epitaxy_own[] __attribute__((visibility("hidden")));
extern char __stop_epitaxy_own[] __attribute__((visibility("hidden")));

// Save what a call preserves, leave one stack for another.
void epitaxy_switch(void** from, void* to);
}

#if defined(__x86_64__)
asm(R"(
.text
.globl epitaxy_switch
.hidden epitaxy_switch
.type epitaxy_switch,@function
epitaxy_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size epitaxy_switch,.-epitaxy_switch
)");
constexpr int SAVED = 6;
#elif defined(__aarch64__)
asm(R"(
.text
.globl epitaxy_switch
.hidden epitaxy_switch
.type epitaxy_switch,%function
epitaxy_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size epitaxy_switch,.-epitaxy_switch
)");
#else
#error "kernels for GPUs are checked on x86-64 and AArch64 only"
#endif

namespace {

void say(const char* format, ...) {
  if (failed) return;
  failed = true;
  int used = 0;
  if (now) {
    used = snprintf(message, TEXT, "%s: thread (%u,%u,%u) of block (%u,%u,%u) ", kernel_name,
                    now->thread.x, now->thread.y, now->thread.z, now->block.x, now->block.y,
                    now->block.z);
  } else {
    used = snprintf(message, TEXT, "%s: ", kernel_name);
  }
  va_list rest;
  va_start(rest, format);
  vsnprintf(message + used, TEXT - used, format, rest);
  va_end(rest);
}

[[noreturn]] void leave() {
  epitaxy_switch(&now->sp, scheduler_sp);
  __builtin_unreachable();
}

template <class... P>
void called(void* const* a, void (*f)(P...)) {
  int i = 0;
  // Braces: from left to right.
  struct Call {
    Call(void (*g)(P...), P... p) { g(p...); }
  };
  Call{f, static_cast<P>(a[i++])...};
}

typedef void* V;
void call_kernel() {
  void* const* a = arguments;
  switch (tensor_count) {
#define CASE(n, ...) \
  case n: return called(a, reinterpret_cast<void (*)(__VA_ARGS__)>(kernel));
    CASE(1, V) CASE(2, V, V) CASE(3, V, V, V) CASE(4, V, V, V, V) CASE(5, V, V, V, V, V)
    CASE(6, V, V, V, V, V, V) CASE(7, V, V, V, V, V, V, V) CASE(8, V, V, V, V, V, V, V, V)
    CASE(9, V, V, V, V, V, V, V, V, V) CASE(10, V, V, V, V, V, V, V, V, V, V)
    CASE(11, V, V, V, V, V, V, V, V, V, V, V) CASE(12, V, V, V, V, V, V, V, V, V, V, V, V)
#undef CASE
  }
}

void fiber() {
  call_kernel();
  now->done = true;
  leave();
}

void begin(Lane& it) {
  it.done = false;
  it.waits = Exchange::none;
  auto* top = reinterpret_cast<void**>(it.stack + STACK);
#if defined(__x86_64__)
  // As after a call: the stack is 8 bytes off a multiple of 16 when the function starts.
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(fiber);
  for (int i = 0; i < SAVED; i++) *--top = nullptr;
#else
  top -= 20;
  memset(top, 0, 160);
  top[11] = reinterpret_cast<void*>(fiber);
#endif
  it.sp = top;
}

void resume(Lane& it) {
  now = &it;
  epitaxy_switch(&scheduler_sp, it.sp);
  if (!failed) now = nullptr;
}

int64_t folded(Exchange how, int64_t a, int64_t b) {
  switch (how) {
    case Exchange::add: return a + b;
    case Exchange::least: return a < b ? a : b;
    case Exchange::most: return a > b ? a : b;
    case Exchange::both: return a & b;
    default: return a | b;
  }
}

// Give the lanes of a group what they asked for.
void answer(int first, int last, uint64_t group, Exchange how) {
  const auto in = [&](int j) { return group >> (j - first) & 1; };
  uint64_t votes = 0;
  int64_t fold = 0;
  bool begun = false;
  for (int j = first; j < last; j++) {
    if (!in(j)) continue;
    const int64_t v = lanes[j].given[0];
    votes |= static_cast<uint64_t>(lanes[j].positive) << (j - first);
    fold = begun ? folded(how, fold, v) : v;
    begun = true;
  }
  for (int j = first; j < last; j++) {
    if (!in(j)) continue;
    Lane& it = lanes[j];
    it.got[0] = how == Exchange::vote ? votes : static_cast<uint64_t>(fold);
    if (how == Exchange::shuffle) {
      const bool there = it.source >= 0 && it.source < last - first && in(first + it.source);
      // The value of a lane that takes no part is undefined.
      if (there) memcpy(it.got, lanes[first + it.source].given, sizeof it.got);
      else memset(it.got, SPOILED, sizeof it.got);
    }
    for (int i = first; how == Exchange::gather && i < last; i++) {
      char* to = it.all + it.bytes * (i - first);
      if (in(i)) memcpy(to, lanes[i].mine, it.bytes);
      else memset(to, SPOILED, it.bytes);
    }
  }
}

// What the lanes of one warp wait for, where they are all there: true when some may go on.
bool release(int first) {
  int last = first + warp_lanes < count ? first + warp_lanes : count;
  uint64_t live = 0, here = 0;
  for (int i = first; i < last; i++) {
    if (lanes[i].done) continue;
    live |= 1ull << (i - first);
    if (lanes[i].waits > Exchange::block) here |= 1ull << (i - first);
  }
  bool any = false;
  for (int i = first; i < last; i++) {
    Lane& it = lanes[i];
    if (it.done || it.waits <= Exchange::block) continue;
    const Exchange how = it.waits;
    const uint64_t named = it.mask ? it.mask & live : here;  // 0: those that are active
    uint64_t group = 0;
    for (int j = first; j < last; j++)
      if (!lanes[j].done && lanes[j].waits == how && lanes[j].mask == it.mask)
        group |= 1ull << (j - first);
    if ((group & named) != named) continue;
    answer(first, last, group, how);
    for (int j = first; j < last; j++)
      if (group >> (j - first) & 1) lanes[j].waits = Exchange::none;
    warp_epoch[first / warp_lanes]++;
    any = true;
  }
  return any;
}

void stuck() {
  int at_block = 0, at_warp = 0;
  for (int i = 0; i < count; i++) {
    at_block += !lanes[i].done && lanes[i].waits == Exchange::block;
    at_warp += !lanes[i].done && lanes[i].waits > Exchange::block;
  }
  now = nullptr;
  say("its threads wait for one another for ever: %d at a barrier of the block, %d at an operation "
      "of their warp that names lanes which are not there", at_block, at_warp);
}

void run_block() {
  epoch++;
  for (int i = 0; i < count; i++) begin(lanes[i]);
  for (;;) {
    bool ran = false;
    for (int k = 0; k < count && !failed; k++) {
      Lane& it = lanes[backwards ? count - 1 - k : k];
      if (it.done || it.waits != Exchange::none) continue;
      resume(it);
      ran = true;
    }
    if (failed) return;
    if (ran) continue;
    bool live = false, released = false;
    for (int first = 0; first < count; first += warp_lanes) released |= release(first);
    if (released) continue;
    int waiting = 0, alive = 0;
    for (int i = 0; i < count; i++) {
      alive += !lanes[i].done;
      waiting += !lanes[i].done && lanes[i].waits == Exchange::block;
    }
    live = alive > 0;
    if (!live) return;
    if (waiting != alive) return stuck();
    for (int i = 0; i < count; i++) lanes[i].waits = Exchange::none;
    epoch++;
  }
}

// The array of shared memory that an access lies in; -1 when in none.
int array_of(const char* at, size_t bytes) {
  for (int k = 0; k < array_count; k++) {
    const int i = k ? (k <= last_array ? k - 1 : k) : last_array;
    if (at >= arrays[i].first && at + bytes <= arrays[i].first + arrays[i].bytes) return last_array = i;
  }
  return -1;
}

bool ordered(uint16_t other, uint32_t other_at) {
  const int me = now - lanes;
  if (other == me) return true;
  if (other == SEVERAL) return false;
  return other / warp_lanes == me / warp_lanes && warp_epoch[me / warp_lanes] > other_at;
}

void watch(long offset, size_t bytes, bool writes) {
  const int me = now - lanes;
  const uint32_t at = warp_epoch[me / warp_lanes];
  for (size_t i = 0; i < bytes; i++) {
    Touch& it = touches[offset + i];
    if (it.written == epoch && !writes && !ordered(it.writer, it.writer_at)) {
      const Index3& who = lanes[it.writer].thread;
      say("reads shared memory that thread (%u,%u,%u) wrote, with no barrier between", who.x, who.y, who.z);
      leave();
    }
    if (writes && it.read == epoch && !ordered(it.reader, it.reader_at)) {
      say("writes shared memory that another thread read, with no barrier between");
      leave();
    }
    if (writes) {
      it.written = epoch, it.writer = me, it.writer_at = at;
    } else if (it.read == epoch && it.reader != me && !ordered(it.reader, it.reader_at)) {
      it.reader = SEVERAL;
    } else {
      it.read = epoch, it.reader = me, it.reader_at = at;
    }
  }
}

[[noreturn]] void outside(const char* at, size_t bytes, bool writes) {
  const char* verb = writes ? "writes" : "reads";
  if (at >= stacks && at < stacks + STACK * MOST_LANES) {
    say("%s beyond its own local memory, of which %zu bytes are lent here", verb, STACK);
    leave();
  }
  long nearest = -1;
  int which = -1;
  for (int i = 0; i < tensor_count; i++) {
    const char *first = tensors[i].first, *last = first + tensors[i].bytes;
    const long far = at < first ? first - at : at + static_cast<long>(bytes) - last;
    if (which < 0 || far < nearest) nearest = far, which = i;
  }
  if (which >= 0 && nearest < (64l << 20)) {
    say("%s %zu bytes at byte %ld of argument %d, which has %zu", verb, bytes,
        static_cast<long>(at - tensors[which].first), which, tensors[which].bytes);
  } else {
    say("%s %zu bytes outside everything that it was given", verb, bytes);
  }
  leave();
}

// An access to shared memory that is in none of its arrays: told by the one before it.
[[noreturn]] void beside(const char* at, size_t bytes, bool writes) {
  const Array* it = nullptr;
  for (int i = 0; i < array_count; i++)
    if (arrays[i].first <= at && (!it || arrays[i].first > it->first)) it = &arrays[i];
  if (it) {
    say("%s %zu bytes at byte %ld of %s, which has %zu", writes ? "writes" : "reads", bytes,
        static_cast<long>(at - it->first), it->name, it->bytes);
  } else {
    say("%s %zu bytes of shared memory that is no array's", writes ? "writes" : "reads", bytes);
  }
  leave();
}

// A zone that the compiler left behind one of the kernel's own arrays.
const Global* zone(const char* at, size_t bytes) {
  for (int u = 0; u < global_units; u++)
    for (size_t i = 0; i < global_counts[u]; i++) {
      const Global& g = globals[u][i];
      if (at + bytes > g.first + g.bytes && at < g.first + g.with_zone && at + bytes > g.first) return &g;
    }
  return nullptr;
}

void check(unsigned long address, size_t bytes, bool writes, bool races = true) {
  if (!now) return;  // constructors
  const char* at = reinterpret_cast<const char*>(address);
  const char* own = reinterpret_cast<const char*>(&state);
  if (!writes && at >= own && at < own + sizeof state) return;
  if (at >= now->stack && at + bytes <= now->stack + STACK) return;
  const Range& known = tensors[last_tensor];
  if (at >= known.first && at + bytes <= known.first + known.bytes) return;
  for (int i = 0; i < tensor_count; i++) {
    const Range& it = tensors[i];
    if (at >= it.first && at + bytes <= it.first + it.bytes) {
      last_tensor = i;
      return;
    }
  }
  if (at >= arena && at < arena + ARENA) {
    if (array_of(at, bytes) < 0) beside(at, bytes, writes);
    if (races) watch(at - arena, bytes, writes);
    return;
  }
  if (at >= __ehdr_start && at + bytes <= _end) {
    const bool own_data = at + bytes > __start_epitaxy_own && at < __stop_epitaxy_own;
    if (writes && own_data) outside(at, bytes, writes);
    if (const Global* g = zone(at, bytes)) {
      say("%s %zu bytes at byte %ld of %s, which has %zu", writes ? "writes" : "reads", bytes,
          static_cast<long>(at - g->first), g->name, g->bytes);
      leave();
    }
    return;
  }
  if (at >= dynamic_shared && at < dynamic_shared + dynamic_bytes + 4096) {
    if (at + bytes > dynamic_shared + dynamic_bytes) {
      say("%s %zu bytes at byte %ld of dynamic shared memory, which has %zu",
          writes ? "writes" : "reads", bytes, static_cast<long>(at - dynamic_shared), dynamic_bytes);
      leave();
    }
    if (races) watch(ARENA + (at - dynamic_shared), bytes, writes);
    return;
  }
  outside(at, bytes, writes);
}

}  // namespace

namespace {
void wait(Exchange at, uint64_t mask) {
  if (mask && !(mask >> lane() & 1))
    fault("calls an operation of its warp with a mask that leaves it out");
  now->mask = mask;
  now->waits = at;
  epitaxy_switch(&now->sp, scheduler_sp);
}
}  // namespace

void barrier() { wait(Exchange::block, 0); }
void meet(uint64_t mask) { wait(Exchange::sync, mask); }

void shuffle(const void* value, size_t bytes, int source, uint64_t mask, void* result) {
  memcpy(now->given, value, bytes);
  now->source = source;
  wait(Exchange::shuffle, mask);
  memcpy(result, now->got, bytes);
}

uint64_t vote(bool positive, uint64_t mask) {
  now->positive = positive;
  wait(Exchange::vote, mask);
  return now->got[0];
}

uint64_t fold(Exchange how, uint64_t value, uint64_t mask) {
  now->given[0] = value;
  wait(how, mask);
  return now->got[0];
}

void* shared(const char* name, size_t bytes, size_t alignment) {
  const size_t first = (arena_used + alignment - 1) / alignment * alignment;
  if (array_count == MOST_ARRAYS || first + bytes + ZONE > ARENA) {
    if (now) fault("takes more shared memory than any chip has");
    abort();
  }
  arena_used = first + bytes + ZONE;
  arrays[array_count++] = {name, arena + first, bytes};
  memset(arena + first, SPOILED, bytes);
  return arena + first;
}

void gather(const void* mine, size_t bytes, void* all) {
  now->mine = mine, now->bytes = bytes, now->all = static_cast<char*>(all);
  wait(Exchange::gather, 0);
}

void fault(const char* what) {
  say("%s", what);
  leave();
}

void reach(const volatile void* address, size_t bytes) {
  check(reinterpret_cast<unsigned long>(address), bytes, true, false);
}

}  // namespace epitaxy

using namespace epitaxy;

extern "C" {

#define EPITAXY_ACCESS(n)                                                             \
  void __asan_load##n##_noabort(unsigned long at) { epitaxy::check(at, n, false); }   \
  void __asan_store##n##_noabort(unsigned long at) { epitaxy::check(at, n, true); }
EPITAXY_ACCESS(1)
EPITAXY_ACCESS(2)
EPITAXY_ACCESS(4)
EPITAXY_ACCESS(8)
EPITAXY_ACCESS(16)
void __asan_loadN_noabort(unsigned long at, size_t n) { epitaxy::check(at, n, false); }
void __asan_storeN_noabort(unsigned long at, size_t n) { epitaxy::check(at, n, true); }
void __asan_handle_no_return() {}
void __asan_register_globals(void* first, size_t n) {
  if (global_units < 64) globals[global_units] = static_cast<Global*>(first), global_counts[global_units++] = n;
}
void __asan_unregister_globals(void*, size_t) {}

struct EpitaxyPlace {  // of UBSan's reports: where in the source
  const char* file;
  uint32_t line, column;
};
void __ubsan_handle_out_of_bounds(EpitaxyPlace* place, unsigned long index) {
  say("uses index %ld outside an array (%s:%u)", static_cast<long>(index), place->file, place->line);
  leave();
}

// One launch; 0, or 1 with what went wrong in `said`.
int epitaxy_launch(const char* name, void* function, void* const* pointers, const size_t* sizes,
                   int tensors_given, const unsigned* shape, size_t shared, int width, char* said,
                   size_t room) {
  kernel_name = name, kernel = function, tensor_count = tensors_given, last_tensor = 0;
  failed = false, message[0] = 0, now = nullptr;
  grid = {shape[0], shape[1], shape[2]}, extent = {shape[3], shape[4], shape[5]};
  count = extent.x * extent.y * extent.z, warp_lanes = width;
  backwards = !backwards;
  if (count > MOST_LANES || count < 1 || tensors_given > MOST_TENSORS || tensors_given < 1) {
    say("a launch of %d threads and %d tensors cannot be run here", count, tensors_given);
  } else {
    if (!stacks) stacks = static_cast<char*>(aligned_alloc(4096, STACK * MOST_LANES));
    const size_t watched = ARENA + shared;
    if (watched > touch_room || !touches) {
      free(touches);
      touch_room = watched + 64;
      touches = static_cast<Touch*>(calloc(touch_room, sizeof(Touch)));
      epoch = 0;
    }
    dynamic_bytes = shared;
    dynamic_shared = static_cast<char*>(aligned_alloc(4096, (shared / 4096 + 2) * 4096));
    for (int i = 0; i < tensors_given; i++) {
      arguments[i] = pointers[i];
      tensors[i] = {static_cast<const char*>(pointers[i]), sizes[i]};
    }
    const size_t blocks = static_cast<size_t>(grid.x) * grid.y * grid.z;
    for (size_t b = 0; b < blocks && !failed; b++) {
      const size_t k = backwards ? blocks - 1 - b : b;
      const Index3 block = {static_cast<unsigned>(k % grid.x), static_cast<unsigned>(k / grid.x % grid.y),
                            static_cast<unsigned>(k / grid.x / grid.y)};
      // What was never set shows, as it may on the chip.
      for (int i = 0; i < array_count; i++) memset(arrays[i].first, SPOILED, arrays[i].bytes);
      memset(dynamic_shared, SPOILED, shared);
      for (int i = 0; i < count; i++) {
        Lane& it = lanes[i];
        it.thread = {i % extent.x, i / extent.x % extent.y, i / extent.x / extent.y};
        it.block = block;
        it.stack = stacks + STACK * i;
      }
      run_block();
    }
    free(dynamic_shared);
    dynamic_shared = nullptr, dynamic_bytes = 0;
  }
  now = nullptr;
  if (failed && room) snprintf(said, room, "%s", message);
  return failed;
}
}
