#include "core/parallel.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <string>

#include "core/error.h"

namespace pydl {

namespace {

// CPU quota of a cgroup as whole CPUs; 0 when there is none.
int cgroup_quota() {
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (v2 >> quota >> period && quota != "max" && period > 0) {
    const int cpus = static_cast<int>(std::strtod(quota.c_str(), nullptr) / period);
    return cpus < 1 ? 1 : cpus;
  }
  std::ifstream q("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), p("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double quota_us = 0, period_us = 0;
  if (q >> quota_us && p >> period_us && quota_us > 0 && period_us > 0) {
    const int cpus = static_cast<int>(quota_us / period_us);
    return cpus < 1 ? 1 : cpus;
  }
  return 0;
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

void parallel_run(int64_t chunks, void (*body)(void*, int64_t), void* context) {
  int threads = num_threads();
  if (threads > chunks) threads = static_cast<int>(chunks);
  if (threads == 1 || omp_in_parallel()) {
    for (int64_t i = 0; i < chunks; ++i) body(context, i);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t i = 0; i < chunks; ++i) body(context, i);
}

}  // namespace detail

}  // namespace pydl
