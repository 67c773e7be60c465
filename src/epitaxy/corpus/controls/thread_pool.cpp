// problem: wave
// what: threads of its own that sleep between calls
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <thread>
static std::mutex door;
static std::condition_variable bell, done;
static const float* from;
static float* to;
static long task, finished;
static void part(const float* x, float* y, int first) {
  for (int i = first; i < first + 32768; ++i) y[i] = sinf(sinf(sinf(sinf(x[i]))));
}
static void work() {
  for (long seen = 0;;) {
    std::unique_lock<std::mutex> lock(door);
    bell.wait(lock, [&] { return task != seen; });
    seen = task;
    lock.unlock();
    part(from, to, 32768);
    lock.lock();
    finished = seen;
    done.notify_one();
  }
}
static int start = (std::thread(work).detach(), 0);
extern "C" void region0(const void* const* in, void* const* out) {
  {
    std::lock_guard<std::mutex> lock(door);
    from = (const float*)in[0], to = (float*)out[0];
    ++task;
  }
  bell.notify_one();
  part((const float*)in[0], (float*)out[0], 0);
  std::unique_lock<std::mutex> lock(door);
  done.wait(lock, [] { return finished == task; });
}
