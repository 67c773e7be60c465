// What a hostile kernel does when it wants to take the machine down, or the judge: one rampage for
// each call. The input is that of attempts.cpp. The output is 0 and how much of something was had,
// if the rampage ends at all.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr int kFiles = 300;        // more than descriptors are permitted
constexpr long kMost = 100000;     // where a bomb without a jail would stop
constexpr size_t kChunk = 8 << 20;

std::string path;

void* sleeper(void*) {
  pause();
  return nullptr;
}

void* spinner(void*) {
  for (;;) asm volatile("");
}

long thread_bomb() {
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 16384);
  long count = 0;
  for (pthread_t thread; count < kMost && !pthread_create(&thread, &small, sleeper, nullptr);) ++count;
  return count;
}

long fork_bomb() {
  long count = 0;
  for (int i = 0; i < 1000; ++i) {
    pid_t pid = fork();
    if (pid == 0) { pause(); _exit(0); }
    count += pid > 0;
  }
  return count;
}

long daemon_left_behind() {
  setsid();
  long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0L, 0L, 0L, 0L);
  if (pid == 0) { sleep(30); _exit(0); }
  return pid > 0;
}

// MiB that could be mapped and touched.
long memory(int flags, size_t chunk, int fd = -1) {
  long total = 0;
  for (;;) {
    char* got = (char*)mmap(nullptr, chunk, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (got == MAP_FAILED || total > (8L << 30)) return total >> 20;
    for (size_t i = 0; i < chunk; i += 4096) got[i] = 1;
    total += chunk;
  }
}

long memory_in_pieces() {  // neighbours of different protection, so that none are joined
  long count = 0;
  for (; count < kMost; ++count) {
    void* got = mmap(nullptr, 4096, count % 2 ? PROT_READ : PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (got == MAP_FAILED) break;
  }
  return count * 4096 >> 20;
}

long memory_of_pipes() {
  static char block[65536];
  long total = 0;
  for (int i = 0; i < kFiles; ++i) {
    int two[2];
    if (pipe2(two, O_NONBLOCK)) break;
    fcntl(two[1], F_SETPIPE_SZ, 1 << 20);
    for (long n; (n = write(two[1], block, sizeof block)) > 0;) total += n;
  }
  return total >> 20;
}

// What a memory file holds is counted as nobody's.
long memory_of_files() {
  static char block[65536];
  long total = 0;
  for (int i = 0; i < kFiles; ++i) {
    int fd = syscall(SYS_memfd_create, "x", 0);
    for (int k = 0; fd >= 0 && k < 15; ++k) total += write(fd, block, sizeof block);
  }
  return total >> 20;
}

long disk() {
  long total = 0;
  for (const char* where : {"/tmp", "/dev/shm", "/var/tmp", "/run", ".", "/", path.c_str()}) {
    for (int i = 0; i < 4; ++i) {
      std::string name = std::string(where) + "/rampage-" + std::to_string(i);
      int fd = open(name.c_str(), O_WRONLY | O_CREAT, 0600);
      if (fd < 0) continue;
      ++total;
      unlink(name.c_str());
      close(fd);
    }
  }
  return total;
}

void flood(int fd) {
  std::string text(1 << 16, 'x');
  for (int i = 0; i < 4096; ++i)
    if (write(fd, text.data(), text.size()) < 0) return;
}

// The channel is the only socket here.
int channel() {
  for (int fd = 0; fd < 256; ++fd) {
    struct stat about;
    if (!fstat(fd, &about) && S_ISSOCK(about.st_mode)) return fd;
  }
  return -1;
}

std::string frame(uint8_t op, uint32_t sequence, const std::string& payload) {
  std::string made(1, (char)op);
  made.append((const char*)&sequence, 4);
  return made + payload;
}

long frames() {  // as many as go in; none is read before the next answer
  std::string junk(50000, '\xff');
  long count = 0;
  while (count < kMost && send(channel(), junk.data(), junk.size(), MSG_DONTWAIT) > 0) ++count;
  return count;
}

long nested() {  // an answer that looks like one: FAIL to the command of the first burst
  std::string text = std::string(50000, '[');
  std::string made = frame(18, 3, text);
  return send(channel(), made.data(), made.size(), 0);
}

long misleading() {
  std::string made = frame(18, 3, "[\"accepted\", {\"kind\": [1e999, \"\\ud800\\u001b[2J\"]}]");
  return send(channel(), made.data(), made.size(), 0);
}

long descriptors() {  // files in flight stay open although nobody receives them
  long total = 0;
  for (int i = 0; i < 64; ++i) {
    int two[2];
    if (pipe(two)) break;
    char space[CMSG_SPACE(2 * sizeof(int))] = {};
    iovec text{(void*)"x", 1};
    msghdr message{};
    message.msg_iov = &text;
    message.msg_iovlen = 1;
    message.msg_control = space;
    message.msg_controllen = sizeof space;
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof two);
    memcpy(CMSG_DATA(head), two, sizeof two);
    total += sendmsg(channel(), &message, MSG_DONTWAIT) > 0;
    close(two[0]);
    close(two[1]);
  }
  return total;
}

// The memory that holds inputs and outputs, by the address of an input.
char* arena(const void* input) { return (char*)((uintptr_t)input & ~4095ul); }

struct Rampage {
  const char* name;
  long (*run)(const void* input);
};

const Rampage rampages[] = {
    {"thread bomb", [](const void*) { return thread_bomb(); }},
    {"fork bomb", [](const void*) { return fork_bomb(); }},
    {"daemon", [](const void*) { return daemon_left_behind(); }},
    {"memory", [](const void*) { return memory(MAP_PRIVATE | MAP_ANONYMOUS, kChunk); }},
    {"shared memory", [](const void*) { return memory(MAP_SHARED | MAP_ANONYMOUS, kChunk); }},
    {"memory not reserved",
     [](const void*) { return memory(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, kChunk); }},
    {"memory of a device",
     [](const void*) { return memory(MAP_SHARED, kChunk, open("/dev/zero", O_RDWR)); }},
    {"memory in pieces", [](const void*) { return memory_in_pieces(); }},
    {"memory of pipes", [](const void*) { return memory_of_pipes(); }},
    {"memory of files", [](const void*) { return memory_of_files(); }},
    {"disk", [](const void*) { return disk(); }},
    {"output", [](const void*) { flood(1); return 0L; }},
    {"errors", [](const void*) { flood(2); return 0L; }},
    {"frames", [](const void*) { return frames(); }},
    {"nested answer", [](const void*) { return nested(); }},
    {"misleading answer", [](const void*) { return misleading(); }},
    {"files in flight", [](const void*) { return descriptors(); }},
    {"shut channel", [](const void*) { return (long)shutdown(channel(), SHUT_RDWR); }},
    {"closed files",
     [](const void*) { for (int fd = 0; fd < 256; ++fd) close(fd); return 0L; }},
    {"holes in shared memory",
     [](const void* in) { return (long)madvise(arena(in), 1 << 16, MADV_REMOVE); }},
    {"unmapped shared memory",
     [](const void* in) { return (long)munmap(arena(in), 1 << 16); }},
    {"spin", [](const void*) { spinner(nullptr); return 0L; }},
    {"spin on all cores",
     [](const void*) {
       for (int i = 0; i < 8; ++i) { pthread_t t; pthread_create(&t, nullptr, spinner, nullptr); }
       spinner(nullptr);
       return 0L; }},
    {"sleep", [](const void*) { for (;;) pause(); return 0L; }},
    {"stop", [](const void*) { return (long)kill(getpid(), SIGSTOP); }},
    {"half an exit",
     [](const void*) {
       pthread_t t;
       pthread_create(&t, nullptr, sleeper, nullptr);
       return (long)syscall(SYS_exit, 0); }},
    {"exit", [](const void*) { _exit(0); return 0L; }},
    {"kill itself", [](const void*) { return (long)kill(getpid(), SIGKILL); }},
    {"crash", [](const void*) { *(volatile int*)8 = 1; return 0L; }},
    {"honest", [](const void*) { return 7L; }},
};

}  // namespace

extern "C" int region0(const void* const* in, void* const* out) {
  const int64_t* words = (const int64_t*)in[0];
  int64_t* result = (int64_t*)out[0];
  std::string name = (const char*)(words + 8);
  path = (const char*)(words + 8) + name.size() + 1;
  result[0] = -1;
  result[1] = 0;
  for (const Rampage& rampage : rampages)
    if (name == rampage.name) {
      result[1] = rampage.run(in[0]);
      result[0] = 0;
    }
  return 0;
}
