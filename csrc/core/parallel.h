// The one way to use several threads. The range is cut into chunks of `grain` elements, whatever the thread count,
// so a kernel that computes something per chunk (a partial sum) gives the same bits with any number of threads.
#pragma once
#include <cstdint>

namespace pydl {

int num_threads();
void set_num_threads(int n);  // throws unless n >= 1
// Number of processors this process may really use: affinity and cgroup CPU quota (v1, v2), rounded down, at least 1.
int available_cpus();
// While alive, kernels called from this thread run on this thread alone (data-loader workers).
void set_thread_serial(bool serial);

namespace detail {
void parallel_run(int64_t chunks, void (*body)(void* context, int64_t chunk), void* context);
}

// Calls fn(begin, end) for each chunk [begin, end) of [0, n); chunks are `grain` long but for the last.
// fn must not throw: check arguments before. Nested calls and forked children run serially.
template <class F>
[[gnu::always_inline]] inline void parallel_for(int64_t n, int64_t grain, const F& fn) {
  if (n <= 0) return;
  if (grain < 1) grain = 1;
  if (n <= grain) {
    fn(int64_t{0}, n);
    return;
  }
  struct Context {
    const F& fn;
    int64_t n, grain;
  } context{fn, n, grain};
  detail::parallel_run(
      (n + grain - 1) / grain,
      [](void* p, int64_t chunk) {
        auto& c = *static_cast<Context*>(p);
        const int64_t begin = chunk * c.grain;
        const int64_t end = begin + c.grain < c.n ? begin + c.grain : c.n;
        c.fn(begin, end);
      },
      &context);
}

}  // namespace pydl
