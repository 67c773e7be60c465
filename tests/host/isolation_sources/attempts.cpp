// What a hostile kernel tries, one attempt for each call. The input holds process ids, an address,
// then the name of the attempt and a path as text. The output is 0 when the attempt succeeded,
// else the error number of the system, and a detail. Only the sandbox stands between.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

struct Target {
  pid_t broker, zygote;
  uintptr_t address;  // of a secret in the broker
  std::string path;
};
Target at;
long detail;

long sys(long result) { return result < 0 ? errno : 0; }

template <class... Args>
long call(long number, Args... args) {
  return sys(syscall(number, args...));
}

long opened(const std::string& path, int flags) {
  int fd = open(path.c_str(), flags, 0600);
  if (fd < 0) return errno;
  close(fd);
  return 0;
}

std::string of(pid_t pid, const char* what) { return "/proc/" + std::to_string(pid) + "/" + what; }

std::string folder() { return at.path.substr(0, at.path.rfind('/')); }

long socket_of(int family, int type) {
  int fd = socket(family, type, 0);
  if (fd < 0) return errno;
  close(fd);
  return 0;
}

long abstract_name() {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) return errno;
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  snprintf(name.sun_path + 1, 40, "attempt-%d", getpid());
  long result = sys(bind(fd, (sockaddr*)&name, sizeof name));
  close(fd);
  return result;
}

long other_memory(bool write) {
  int64_t word = 0;
  iovec mine{&word, sizeof word}, theirs{(void*)at.address, sizeof word};
  long number = write ? SYS_process_vm_writev : SYS_process_vm_readv;
  return call(number, at.broker, &mine, 1L, &theirs, 1L, 0L);
}

long child(long flags) {  // a child that ends at once, by whatever kind of clone
  long pid = syscall(SYS_clone, flags, 0L, 0L, 0L, 0L);
  if (pid == 0) syscall(SYS_exit_group, 0);
  return pid < 0 ? errno : 0;
}

long child3() {
  struct {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
  } how{};
  how.exit_signal = SIGCHLD;
  long pid = syscall(SYS_clone3, &how, sizeof how);
  if (pid == 0) syscall(SYS_exit_group, 0);
  return pid < 0 ? errno : 0;
}

// A thread with a table of descriptors of its own could hold many times the permitted files.
long apart(long without) {
  static char stack[1 << 16];
  long flags = (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD) & ~without;
  long tid;
#if defined(__x86_64__)
  register long none __asm__("r10") = 0;
  register long tls __asm__("r8") = 0;
  __asm__ volatile(
      "syscall\n test %%rax, %%rax\n jnz 1f\n mov $60, %%eax\n xor %%edi, %%edi\n syscall\n1:"
      : "=a"(tid)
      : "a"(SYS_clone), "D"(flags), "S"(stack + sizeof stack - 64), "d"(0L), "r"(none), "r"(tls)
      : "rcx", "r11", "memory");
#else
  tid = -EPERM;
#endif
  return tid < 0 ? -tid : 0;
}

long forked_pty() {
  int fd = open("/dev/ptmx", O_RDWR);
  if (fd < 0) return errno;
  close(fd);
  return 0;
}

long perf() {
  perf_event_attr what{};
  what.size = sizeof what;
  what.type = PERF_TYPE_SOFTWARE;
  what.exclude_kernel = 1;
  return call(SYS_perf_event_open, &what, 0, -1, -1, 0);
}

long lease() {
  int fd = open(at.path.c_str(), O_RDONLY);
  if (fd < 0) return errno;
  long result = sys(fcntl(fd, F_SETLEASE, F_RDLCK));
  close(fd);
  return result;
}

long watch() {
  int fd = inotify_init1(0);
  if (fd < 0) return errno;
  long result = sys(inotify_add_watch(fd, at.path.c_str(), IN_ALL_EVENTS));
  close(fd);
  return result;
}

long library() { return dlopen(at.path.c_str(), RTLD_NOW) ? 0 : EACCES; }

long listed(const std::string& path) {
  DIR* folder = opendir(path.c_str());
  if (!folder) return errno;
  closedir(folder);
  return 0;
}

long realtime() {
  sched_param level{1};
  return sys(sched_setscheduler(0, SCHED_FIFO, &level));
}

long affinity(pid_t pid) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(0, &set);
  return sys(sched_setaffinity(pid, sizeof set, &set));
}

long limit_broker() {
  rlimit64 got;
  return call(SYS_prlimit64, at.broker, RLIMIT_NOFILE, (void*)0, &got);
}

long more_of_limit() {
  rlimit bound;
  getrlimit(RLIMIT_NPROC, &bound);
  if (bound.rlim_max == RLIM_INFINITY) return 0;
  bound.rlim_max += 1;
  return sys(setrlimit(RLIMIT_NPROC, &bound));
}

// Any descriptor of the shared memory that holds inputs and outputs would do.
long shrink() {
  long result = EBADF;
  for (int fd = 0; fd < 256; ++fd) {
    struct stat about;
    if (fstat(fd, &about) || !S_ISREG(about.st_mode) || about.st_size < 4096) continue;
    result = sys(ftruncate(fd, 0));
    if (!result) return 0;
  }
  DIR* maps = opendir("/proc/self/map_files");
  if (!maps) return result;
  for (dirent* entry; (entry = readdir(maps));) {
    int fd = openat(dirfd(maps), entry->d_name, O_RDWR);
    if (fd >= 0 && !ftruncate(fd, 0)) return 0;
  }
  return result;
}

long raise_capability() {
  struct {
    uint32_t version;
    int pid;
  } head{0x20080522, 0};
  uint32_t sets[6] = {~0u, ~0u, 0, 0x1ff, 0x1ff, 0};
  return call(SYS_capset, &head, sets);
}

long signal_self_group() { return sys(kill(0, 0)); }

struct Attempt {
  const char* name;
  long (*run)();
};

const Attempt attempts[] = {
    // --- network ---
    {"inet socket", [] { return socket_of(AF_INET, SOCK_STREAM); }},
    {"inet6 socket", [] { return socket_of(AF_INET6, SOCK_DGRAM); }},
    {"unix socket", [] { return socket_of(AF_UNIX, SOCK_STREAM); }},
    {"abstract unix socket", abstract_name},
    {"netlink socket", [] { return socket_of(AF_NETLINK, SOCK_RAW); }},
    {"vsock socket", [] { return socket_of(AF_VSOCK, SOCK_STREAM); }},
    {"packet socket", [] { return socket_of(AF_PACKET, SOCK_RAW); }},
    {"socket pair", [] { int two[2]; return sys(socketpair(AF_UNIX, SOCK_STREAM, 0, two)); }},
    {"io_uring", [] { char how[120] = {}; return call(SYS_io_uring_setup, 4, how); }},
    // --- processes ---
    {"fork", [] { return child(SIGCHLD); }},
    {"vfork", [] { return child(CLONE_VM | CLONE_VFORK | SIGCHLD); }},
    {"clone3", child3},
    {"clone of a sibling", [] { return child(CLONE_PARENT | SIGCHLD); }},
    {"thread with files of its own", [] { return apart(CLONE_FILES); }},
    {"thread with folders of its own", [] { return apart(CLONE_FS); }},
    {"start a program",
     [] { char* none[] = {nullptr}; return sys(execve("/bin/true", none, none)); }},
    {"signal the zygote", [] { return sys(kill(at.zygote, 0)); }},
    {"kill the broker", [] { return sys(kill(at.broker, 0)); }},
    {"signal its group", signal_self_group},
    {"signal everybody", [] { return sys(kill(-1, 0)); }},
    {"signal a thread of the broker", [] { return call(SYS_tgkill, at.broker, at.broker, 0); }},
    {"signal by tkill", [] { return call(SYS_tkill, at.broker, 0); }},
    {"queue a signal",
     [] { siginfo_t what{}; what.si_code = SI_QUEUE; what.si_signo = SIGCONT;
          return call(SYS_rt_sigqueueinfo, at.broker, SIGCONT, &what); }},
    {"pidfd of the broker", [] { return call(SYS_pidfd_open, at.broker, 0); }},
    {"aim a signal at the broker", [] { return sys(fcntl(2, F_SETOWN, at.broker)); }},
    {"outlive its parent", [] { return sys(prctl(PR_SET_PDEATHSIG, 0)); }},
    // --- other processes' memory ---
    {"trace the zygote", [] { return sys(ptrace(PTRACE_SEIZE, at.zygote, 0, 0)); }},
    {"be traced", [] { return sys(ptrace(PTRACE_TRACEME, 0, 0, 0)); }},
    {"read the broker's memory", [] { return other_memory(false); }},
    {"write the broker's memory", [] { return other_memory(true); }},
    {"open the broker's memory", [] { return opened(of(at.broker, "mem"), O_RDWR); }},
    {"open the broker's environment", [] { return opened(of(at.broker, "environ"), O_RDONLY); }},
    {"open the broker's maps", [] { return opened(of(at.broker, "maps"), O_RDONLY); }},
    {"list the broker's files", [] { return listed(of(at.broker, "fd")); }},
    {"open the zygote's environment", [] { return opened(of(at.zygote, "environ"), O_RDONLY); }},
    {"list the zygote's files", [] { return listed(of(at.zygote, "fd")); }},
    {"list the processes", [] { return listed("/proc"); }},
    {"write its own memory as a file", [] { return opened("/proc/self/mem", O_RDWR); }},
    {"shrink the shared memory", shrink},
    // --- files ---
    {"read a file", [] { return opened(at.path, O_RDONLY); }},
    {"write a file", [] { return opened(at.path, O_WRONLY); }},
    {"make a file", [] { return opened(at.path + ".new", O_WRONLY | O_CREAT); }},
    {"make an unnamed file", [] { return opened(folder(), O_WRONLY | O_TMPFILE); }},
    {"make a folder", [] { return sys(mkdir((at.path + ".d").c_str(), 0700)); }},
    {"link a file", [] { return sys(link(at.path.c_str(), (at.path + ".l").c_str())); }},
    {"link by name", [] { return sys(symlink("x", (at.path + ".s").c_str())); }},
    {"rename a file", [] { return sys(rename(at.path.c_str(), at.path.c_str())); }},
    {"remove a file", [] { return sys(unlink((at.path + ".gone").c_str())); }},
    {"truncate a file", [] { return sys(truncate(at.path.c_str(), 0)); }},
    {"change a file's mode", [] { return sys(chmod(at.path.c_str(), 0777)); }},
    {"change a file's owner", [] { return sys(chown(at.path.c_str(), -1, -1)); }},
    {"change a file's times", [] { return sys(utimes(at.path.c_str(), nullptr)); }},
    {"change a file's attributes",
     [] { return sys(setxattr(at.path.c_str(), "user.x", "1", 1, 0)); }},
    {"watch a file", watch},
    {"lease a file", lease},
    {"load a library", library},
    {"file in /tmp", [] { return opened("/tmp/attempt-" + std::to_string(getpid()),
                                        O_WRONLY | O_CREAT); }},
    {"file in /dev/shm", [] { return opened("/dev/shm/attempt-" + std::to_string(getpid()),
                                            O_WRONLY | O_CREAT); }},
    {"file in its folder", [] { return opened("attempt", O_WRONLY | O_CREAT); }},
    {"memory file", [] { return call(SYS_memfd_create, "x", 0); }},
    {"shared memory segment", [] { return sys(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600)); }},
    {"message queue", [] { return call(SYS_mq_open, "x", O_CREAT | O_RDWR, 0600, (void*)0); }},
    {"open the disk", [] { return opened(at.path, O_RDONLY | O_DIRECT); }},
    {"open by handle", [] { char handle[64] = {}; return call(SYS_open_by_handle_at, -100, handle, 0); }},
    {"terminal", forked_pty},
    {"flush all disks", [] { return call(SYS_sync); }},
    // --- the system ---
    {"user namespace", [] { return child(CLONE_NEWUSER | SIGCHLD); }},
    {"unshare", [] { return sys(unshare(CLONE_NEWUSER | CLONE_NEWNS)); }},
    {"join a namespace", [] { return sys(setns(0, 0)); }},
    {"mount", [] { return sys(mount("x", "/tmp", "tmpfs", 0, "")); }},
    {"unmount", [] { return sys(umount2("/tmp/nowhere-at-all", 0)); }},
    {"change root", [] { return sys(chroot("/tmp")); }},
    {"keyring", [] { return call(SYS_keyctl, 0, -3, 1); }},
    {"add a key", [] { return call(SYS_add_key, "user", "x", "y", 1, -2); }},
    {"bpf", [] { bpf_attr what{}; what.map_type = BPF_MAP_TYPE_ARRAY; what.key_size = 4;
                 what.value_size = 4; what.max_entries = 1;
                 return call(SYS_bpf, BPF_MAP_CREATE, &what, sizeof what); }},
    {"performance events", perf},
    {"user faults", [] { return call(SYS_userfaultfd, 1 | O_CLOEXEC); }},
    {"kernel log", [] { return call(SYS_syslog, 10, (void*)0, 0); }},
    {"set the clock", [] { return call(SYS_settimeofday, (void*)0, (void*)0); }},
    {"host name", [] { return sys(sethostname("x", 1)); }},
    {"be root again", [] { return sys(setresuid(0, 0, 0)) ? EPERM : sys(setpriority(PRIO_PROCESS, 0, -1)); }},
    {"raise a capability", raise_capability},
    // --- standing with the scheduler ---
    {"be nicer to itself", [] { return sys(setpriority(PRIO_PROCESS, 0, -5)); }},
    {"lower the broker", [] { return sys(setpriority(PRIO_PROCESS, at.broker, 0)); }},
    {"real-time priority", realtime},
    {"move the broker to one core", [] { return affinity(at.broker); }},
    {"limit the broker", limit_broker},
    {"raise its own limit", more_of_limit},
    {"disk priority", [] { return call(SYS_ioprio_set, 1, 0, 4 | 2 << 13); }},
    // --- what must stay possible ---
    {"nothing", [] { return 0L; }},
    {"signal itself", [] { return sys(kill(getpid(), 0)); }},
    {"choose its own cores", [] { return affinity(0); }},
    {"memory for itself", [] {
       void* got = mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       return got == MAP_FAILED ? (long)errno : sys(munmap(got, 1 << 20)); }},
};

}  // namespace

extern "C" int region0(const void* const* in, void* const* out) {
  const int64_t* words = (const int64_t*)in[0];
  int64_t* result = (int64_t*)out[0];
  const char* name = (const char*)(words + 8);
  at = {(pid_t)words[0], (pid_t)words[1], (uintptr_t)words[2], name + strlen(name) + 1};
  result[0] = -1;
  detail = 0;
  for (const Attempt& attempt : attempts)
    if (!strcmp(attempt.name, name)) result[0] = attempt.run();
  result[1] = detail;
  return 0;
}
