// What the profiler wants to know of a kernel: when it ran, on how many threads, and how long the caller waited for them.
// Off, it costs one predictable branch in each kernel call.
#pragma once
#include <atomic>
#include <cstdint>

namespace pydl::profile {

struct Span {
  const char* name;  // of the kernel
  int64_t begin, end;  // nanoseconds, now()
  int64_t processor;   // of these, how long the calling thread was on a processor
  int64_t waited;      // how long the calling thread had nothing to do while others finished
  int64_t busy;        // all threads' time in parallel regions
  int64_t threads;     // most that a region used; 1 without one
};

extern std::atomic<bool> g_on;
inline bool on() { return g_on.load(std::memory_order_relaxed); }
void set_on(bool on);

int64_t now() noexcept;             // monotonic clock
int64_t processor_time() noexcept;  // of the calling thread
int64_t page_faults() noexcept;     // of the process

// The calling thread's spans since the last call, oldest first; at most kMaxSpans are kept. Returns their number.
constexpr int64_t kMaxSpans = 4096;
int64_t take_spans(Span* spans, int64_t* dropped) noexcept;

// One kernel call. Kernels called by kernels belong to the outermost.
class Scope {
 public:
  explicit Scope(const char* name) noexcept;
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
};

// A parallel region of the calling thread has ended; `own` and `busy` are its own and all threads' working time.
void add_region(int64_t wall, int64_t own, int64_t busy, int64_t threads) noexcept;

}  // namespace pydl::profile
