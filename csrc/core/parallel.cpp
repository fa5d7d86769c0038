#include "core/parallel.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <string>

#include "core/error.h"
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
// The OpenMP runtime's threads do not exist in a forked child, and starting a team there may hang.
std::atomic<bool> g_forked{false};
thread_local bool t_serial = false;

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

namespace detail {

namespace {

void timed_run(int threads, int64_t chunks, void (*body)(void*, int64_t), void* context) {
  const int64_t begin = profile::now();
  int64_t own = 0, busy = 0;
#pragma omp parallel num_threads(threads) reduction(+ : busy)
  {
    const int64_t started = profile::now();
#pragma omp for schedule(dynamic, 1) nowait
    for (int64_t i = 0; i < chunks; ++i) body(context, i);
    busy = profile::now() - started;
    if (omp_get_thread_num() == 0) own = busy;
  }
  profile::add_region(profile::now() - begin, own, busy, threads);
}

}  // namespace

void parallel_run(int64_t chunks, void (*body)(void*, int64_t), void* context) {
  int threads = num_threads();
  if (threads > chunks) threads = static_cast<int>(chunks);
  if (threads == 1 || omp_in_parallel()) {
    for (int64_t i = 0; i < chunks; ++i) body(context, i);
    return;
  }
  if (profile::on()) [[unlikely]]
    return timed_run(threads, chunks, body, context);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t i = 0; i < chunks; ++i) body(context, i);
}

}  // namespace detail

}  // namespace pydl
