#include "core/profile.h"

#include <sys/resource.h>

#include <ctime>

namespace pydl::profile {

namespace {

int64_t read_clock(clockid_t clock) noexcept {
  timespec t;
  clock_gettime(clock, &t);
  return int64_t{1000000000} * t.tv_sec + t.tv_nsec;
}

struct Log {
  Span spans[kMaxSpans];
  int64_t count, dropped;
};

thread_local Log* t_log = nullptr;  // kept for the thread's life: threads that run kernels while profiling are few
thread_local Span t_span;           // the kernel that is running
thread_local int t_depth = 0;

}  // namespace

std::atomic<bool> g_on{false};

void set_on(bool on) { g_on = on; }

int64_t now() noexcept { return read_clock(CLOCK_MONOTONIC); }

int64_t processor_time() noexcept { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

int64_t page_faults() noexcept {
  rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_minflt + usage.ru_majflt : 0;
}

int64_t take_spans(Span* spans, int64_t* dropped) noexcept {
  *dropped = 0;
  if (!t_log) return 0;
  const int64_t count = t_log->count;
  for (int64_t i = 0; i < count; ++i) spans[i] = t_log->spans[i];
  *dropped = t_log->dropped;
  t_log->count = t_log->dropped = 0;
  return count;
}

Scope::Scope(const char* name) noexcept {
  if (t_depth++) return;
  t_span = {name, 0, 0, processor_time(), 0, 0, 1};
  t_span.begin = now();
}

Scope::~Scope() {
  if (--t_depth) return;
  t_span.end = now();
  t_span.processor = processor_time() - t_span.processor;
  if (!t_log) t_log = new Log{};
  if (t_log->count < kMaxSpans)
    t_log->spans[t_log->count++] = t_span;
  else
    ++t_log->dropped;
}

void add_region(int64_t wall, int64_t own, int64_t busy, int64_t threads) noexcept {
  t_span.waited += wall - own;
  t_span.busy += busy;
  if (threads > t_span.threads) t_span.threads = threads;
}

}  // namespace pydl::profile
