// What the profiler wants to know of a kernel: when it ran, on how many threads, and how long the caller waited for them.
// Off, it costs one predictable branch in each kernel call. Where the answers are kept: core/profile_log.h.
#pragma once
#include <atomic>
#include <cstdint>

namespace pydl::profile {

extern std::atomic<bool> g_on;
inline bool on() { return g_on.load(std::memory_order_relaxed); }
void set_on(bool on);

// One kernel call. Kernels called by kernels belong to the outermost.
class Scope {
 public:
  explicit Scope(const char* name) noexcept;
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
};

// The clock of the recording: counts the processor's ticks where these are steady, else nanoseconds.
int64_t ticks() noexcept;

// A parallel region of the calling thread has ended; `own` and `busy` are its own and all threads' working time, in ticks.
void add_region(int64_t wall, int64_t own, int64_t busy, int64_t threads) noexcept;

}  // namespace pydl::profile
