#include "core/profile.h"

#include <sys/resource.h>

#include <ctime>
#include <limits>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

#include "core/allocator.h"
#include "core/profile_log.h"

namespace pydl::profile {

namespace {

int64_t read_clock(clockid_t clock) noexcept {
  timespec t;
  clock_gettime(clock, &t);
  return int64_t{1000000000} * t.tv_sec + t.tv_nsec;
}

// Whether the processor's counter runs at one rate, whatever the processor does.
bool has_steady_counter() noexcept {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
#else
  return false;
#endif
}

const bool g_steady = has_steady_counter();

constexpr int64_t kAskEvery = 200000;  // nanoseconds

thread_local Log* t_log = nullptr;
thread_local std::shared_ptr<Log> t_owner;  // of t_log: it may be dropped by another thread
thread_local int t_depth = 0;
thread_local Mark::Kernel t_kernel;  // that is running

}  // namespace

std::atomic<bool> g_on{false};

void set_on(bool on) { g_on = on; }

int64_t page_faults() noexcept {
  rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_minflt + usage.ru_majflt : 0;
}

int64_t ticks() noexcept {
#if defined(__x86_64__)
  if (g_steady) [[likely]]
    return static_cast<int64_t>(__rdtsc());
#endif
  return read_clock(CLOCK_MONOTONIC);
}

Log* Log::current() noexcept { return t_log && t_log->active() ? t_log : nullptr; }

Log::Moment Log::moment() noexcept {
  Moment best{0, 0};
  int64_t width = std::numeric_limits<int64_t>::max();
  for (int i = 0; i < 5; ++i) {  // the narrowest of a few: no interruption between the clocks
    const int64_t before = ticks(), time = read_clock(CLOCK_MONOTONIC), after = ticks();
    if (after - before < width) {
      width = after - before;
      best = {before + width / 2, time};
    }
  }
  return best;
}

int64_t Log::nanoseconds(int64_t t) const noexcept {
  const double rate = last_.ticks > first_.ticks
                          ? static_cast<double>(last_.nanoseconds - first_.nanoseconds) / static_cast<double>(last_.ticks - first_.ticks)
                          : 1.0;
  return first_.nanoseconds + static_cast<int64_t>(static_cast<double>(t - first_.ticks) * rate);
}

void Log::start() {
  static const Moment loaded = moment();  // of the first recording: the rate is good enough soon after
  first_ = moment();
  const double passed = static_cast<double>(first_.nanoseconds - loaded.nanoseconds);
  // Until the rate is known, as often as if a tick took half a nanosecond.
  every_ = passed > 1e6 ? static_cast<int64_t>(kAskEvery * (static_cast<double>(first_.ticks - loaded.ticks) / passed))
                        : 2 * kAskEvery;
  system_allocations_ = memory::take_recent().system_allocations;
  asked_ = first_.ticks - every_;
  room(marks);
  t_owner = shared_from_this();
  t_log = this;
  active_ = true;
}

void Log::stop() noexcept {
  last_ = moment();
  active_ = false;
  if (t_log == this) {
    t_log = nullptr;
    t_owner.reset();
  }
}

Mark* Log::open(Kind kind) noexcept {
  const int64_t now = ticks();
  if (!room(marks)) {
    ++dropped;
    return nullptr;
  }
  Mark& mark = marks.add();
  mark.kind = kind;
  mark.stop = mark.go = now;
  mark.processor = mark.faults = -1;
  return &mark;
}

void Log::operation(Mark& mark, int64_t event) noexcept {
  const auto m = memory::take_recent();
  mark.operation = {event, m.current, m.peak, m.allocations, m.system_allocations};
  if (m.system_allocations != system_allocations_) asked_ = mark.stop - every_;  // page faults will be found there
  system_allocations_ = m.system_allocations;
}

void Log::close(Mark& mark, bool ask) noexcept {
  if (ask || mark.stop - asked_ >= every_) {
    mark.processor = read_clock(CLOCK_THREAD_CPUTIME_ID);
    mark.faults = page_faults() - own_faults_;
    asked_ = mark.stop;
  }
  // The next row, so that nobody waits for its memory: the lock of the pool would, with half a row written.
  __builtin_prefetch(reinterpret_cast<char*>(&mark) + sizeof(Mark), 1);
  __builtin_prefetch(reinterpret_cast<char*>(&mark) + 2 * sizeof(Mark) - 1, 1);
  mark.go = ticks();
}

void Log::mark(Kind kind, int64_t event, bool ask) noexcept {
  if (Mark* m = open(kind)) {
    operation(*m, event);
    close(*m, ask);
  }
}

Scope::Scope(const char* name) noexcept {
  if (!t_log || t_depth++) return;
  t_kernel = {name, ticks(), 0, 0, 1};
}

Scope::~Scope() {
  if (!t_log || --t_depth) return;
  if (!t_log->active()) return;
  if (Mark* mark = t_log->open(Kind::kernel)) {
    mark->kernel = t_kernel;
    t_log->close(*mark);
  }
}

void add_region(int64_t wall, int64_t own, int64_t busy, int64_t threads) noexcept {
  t_kernel.waited += wall - own;
  t_kernel.busy += busy;
  if (threads > t_kernel.threads) t_kernel.threads = threads;
}

}  // namespace pydl::profile
