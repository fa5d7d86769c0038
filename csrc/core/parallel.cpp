#include "core/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>

#include "core/error.h"
#include "core/precision.h"
#include "core/profile.h"

namespace pydl {

namespace {

// The path of this process in a cgroup hierarchy: v2 has one line "0::/path", v1 one per controller, "4:cpu,cpuacct:/path".
std::string cgroup_path(bool v2) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    line[first] = ',';  // ",cpu,cpuacct" of v1, "," of v2
    std::string controllers(line, first, second - first);
    controllers += ',';
    if (v2 ? controllers == ",," : controllers.find(",cpu,") != std::string::npos) return line.substr(second + 1);
  }
  return "/";
}

// quota / period of one cgroup folder, as CPUs; 0 when there is none.
double folder_quota(const std::string& folder, bool v2) {
  double quota = 0, period = 0;
  if (v2) {
    std::string text;
    if (std::ifstream file(folder + "/cpu.max"); file >> text >> period && text != "max") quota = std::strtod(text.c_str(), nullptr);
  } else {
    std::ifstream q(folder + "/cpu.cfs_quota_us"), p(folder + "/cpu.cfs_period_us");
    if (!(q >> quota && p >> period)) return 0;
  }
  return quota > 0 && period > 0 ? quota / period : 0;
}

// The tightest CPU quota of this process's cgroup and all above it, rounded down, at least 1; 0 when there is none. Inside a
// container the path may not exist below the mount: then only the mount's own folder counts.
int cgroup_quota() {
  double least = 0;
  for (const bool v2 : {true, false}) {
    const std::string root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
    std::string path = cgroup_path(v2);
    for (;;) {
      while (!path.empty() && path.back() == '/') path.pop_back();
      if (const double cpus = folder_quota(root + path, v2); cpus > 0 && (least == 0 || cpus < least)) least = cpus;
      if (path.empty()) break;
      path.erase(path.rfind('/'));
    }
  }
  return least == 0 ? 0 : least < 1 ? 1 : static_cast<int>(least);
}

int positive_env(const char* name) {
  const char* text = std::getenv(name);
  if (!text || !*text) return 0;
  char* end = nullptr;
  const long n = std::strtol(text, &end, 10);  // OMP_NUM_THREADS may be a list "4,2": the first level counts
  return end != text && n > 0 && n < 4096 ? static_cast<int>(n) : 0;
}

int initial_threads() {
  if (const int n = positive_env("PYDL_NUM_THREADS")) return n;
  if (const int n = positive_env("OMP_NUM_THREADS")) return n;
  return available_cpus();
}

std::atomic<int> g_threads{initial_threads()};
// The workers do not exist in a forked child.
std::atomic<bool> g_forked{false};
thread_local bool t_serial = false;
thread_local bool t_inside = false;  // this thread is running a chunk: nested calls are serial

[[maybe_unused]] const int g_fork_handler = pthread_atfork(nullptr, nullptr, [] { g_forked = true; });

}  // namespace

int available_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  if (const int quota = cgroup_quota(); quota && quota < cpus) cpus = quota;
  return cpus < 1 ? 1 : cpus;
}

int num_threads() { return t_serial || g_forked ? 1 : g_threads.load(std::memory_order_relaxed); }

void set_num_threads(int n) {
  if (n < 1) throw Error("set_num_threads: expected a positive number of threads, got " + std::to_string(n));
  g_threads = n;
}

void set_thread_serial(bool serial) { t_serial = serial; }

namespace {

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Calls ready() until it holds or `patience` is over; says whether it holds.
template <class F>
bool spin(std::chrono::microseconds patience, const F& ready) {
  const auto end = std::chrono::steady_clock::now() + patience;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

// Between two kernels of a training step lie some microseconds of Python, and at the end of a kernel a thread waits for another
// one's last chunk. Threads look out that long before they sleep: a processor that goes idle takes microseconds to wake, and
// milliseconds where a hypervisor has lent it to somebody else meanwhile. Not longer, so that other processes get the processor.
constexpr std::chrono::microseconds kPatience{500};

// The workers behind parallel_for. One job at a time: its chunks are taken from a counter by whoever comes, the caller
// included. The caller waits for chunks that a worker has begun, but never for a worker that has not come yet: on a busy
// machine a kernel is as fast as the threads that really run. (The barrier of an OpenMP region waits for all.)
class Pool {
 public:
  static Pool& instance() {
    static Pool& pool = *new Pool;  // never destroyed: sleeping workers look at it until the process ends
    return pool;
  }

  void run(int threads, int64_t chunks, void (*body)(void*, int64_t), void* context) {
    if (busy_.exchange(true, std::memory_order_acquire)) {  // another Python thread's job is running
      for (int64_t i = 0; i < chunks; ++i) body(context, i);
      return;
    }
    hire(threads - 1);
    body_ = body;
    context_ = context;
    chunks_ = chunks;
    threads_ = threads;
    timed_ = profile::on();
    precision_ = precision();
    helped_.store(0, std::memory_order_relaxed);
    next_.store(0, std::memory_order_relaxed);
    const int64_t begin = timed_ ? profile::ticks() : 0;
    ++epoch_;  // odd: the job is open
    epoch_.notify_all();
    const int64_t own = take_chunks();
    ++epoch_;  // even: closed. A worker counts itself in `inside_` and then looks again whether the job is still open.
    if (!spin(kPatience, [&] { return inside_ == 0; }))
      for (int n; (n = inside_) != 0;) inside_.wait(n);
    if (timed_) profile::add_region(profile::ticks() - begin, own, own + helped_, threads);
    busy_.store(false, std::memory_order_release);
  }

 private:
  void hire(int count) {
    try {
      for (; workers_ < count; ++workers_) std::thread(&Pool::work, this, workers_, epoch_.load()).detach();
    } catch (const std::system_error&) {
      // The system gives no more threads: those that are there, at least the caller, do the work.
    }
  }

  // Returns the time that it took, if that is wanted.
  int64_t take_chunks() {
    const int64_t begin = timed_ ? profile::ticks() : 0;
    t_inside = true;
    for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < chunks_;) body_(context_, i);
    t_inside = false;
    return timed_ ? profile::ticks() - begin : 0;
  }

  void work(int index, int seen) {
    for (;;) {
      if (!spin(kPatience, [&] { return epoch_ != seen; })) epoch_.wait(seen);
      seen = epoch_;
      if (seen % 2 == 0) continue;
      ++inside_;
      if (epoch_ == seen && index < threads_ - 1) {
        set_thread_precision(static_cast<int>(precision_));
        helped_ += take_chunks();
      }
      if (--inside_ == 0) inside_.notify_one();
    }
  }

  std::atomic<bool> busy_{false};
  std::atomic<int> epoch_{0};   // changes when a job opens (odd) and closes (even)
  std::atomic<int> inside_{0};  // workers that may be looking at the job
  std::atomic<int64_t> next_{0};
  int workers_ = 0;
  // The job; written while nobody is inside.
  void (*body_)(void*, int64_t) = nullptr;
  void* context_ = nullptr;
  int64_t chunks_ = 0;
  int threads_ = 1;
  bool timed_ = false;               // the profiler is on
  Precision precision_ = Precision::float32;  // of the caller
  std::atomic<int64_t> helped_{0};   // then, the workers' time
};

}  // namespace

namespace detail {

void parallel_run(int64_t chunks, void (*body)(void*, int64_t), void* context) {
  int threads = t_inside ? 1 : num_threads();
  if (threads > chunks) threads = static_cast<int>(chunks);
  if (threads > 1) return Pool::instance().run(threads, chunks, body, context);
  for (int64_t i = 0; i < chunks; ++i) body(context, i);
}

}  // namespace detail

}  // namespace pydl
