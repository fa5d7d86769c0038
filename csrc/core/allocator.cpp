#include "core/allocator.h"

#include <pthread.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <vector>

#include "core/arena.h"
#include "core/step_memory.h"

namespace pydl::memory {

namespace {

constexpr int64_t kLarge = int64_t{1} << 18;  // blocks from here on lie in the arena
constexpr int kSteps = 8;                     // classes between two powers of two: at most 12.5 % is wasted
constexpr int kClasses = 24 * kSteps;

// Size classes of small blocks: multiples of 64 bytes up to 512, then eight steps per power of two.
int class_of(int64_t bytes) {
  const uint64_t units = static_cast<uint64_t>((bytes < 1 ? 1 : bytes) + kAlignment - 1) / kAlignment;
  if (units <= kSteps) return static_cast<int>(units);
  const int shift = static_cast<int>(std::bit_width(units - 1)) - 4;  // keeps four significant bits
  const uint64_t mantissa = ((units - 1) >> shift) + 1;
  return shift * kSteps + static_cast<int>(mantissa);
}

int64_t class_bytes(int c) {
  if (c <= kSteps) return c * kAlignment;
  const int shift = (c - 1) / kSteps - 1;
  const int64_t mantissa = c - shift * kSteps;
  return (mantissa << shift) * kAlignment;
}

bool is_large(int64_t bytes) { return bytes >= kLarge; }

int64_t block_bytes(int64_t bytes) {
  return is_large(bytes) ? (bytes + Arena::kPage - 1) / Arena::kPage * Arena::kPage : class_bytes(class_of(bytes));
}

constexpr int64_t kPeriod = 1 << 15;               // large blocks: some ten steps of a large network
constexpr int64_t kSlack = int64_t{64} << 20;      // not worth giving back

// Memory and swap of the machine. Addresses of the arena cost nothing, so the system would grant more than it can ever keep,
// and end the process when that is touched.
int64_t machine_bytes() {
  struct sysinfo info {};
  if (sysinfo(&info) != 0) return std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(info.totalram + info.totalswap) * info.mem_unit;
}

struct Pool {
  std::mutex mutex;
  std::array<std::vector<void*>, kClasses> free;
  Arena arena;
  int64_t small = 0;  // bytes in `free`
  int64_t current = 0, peak = 0, recent_peak = 0, cap = -1, allocations = 0, system_allocations = 0;
  int64_t period = 0, period_peak = 0, last_peak = 0;
  const int64_t most = machine_bytes();
  bool enabled = true;

  Pool() {
    const char* off = std::getenv("PYDL_POOL");
    enabled = !(off && std::strcmp(off, "0") == 0);
    if (const char* mb = std::getenv("PYDL_POOL_CAP_MB")) cap = std::atoll(mb) << 20;
  }

  void grow(int64_t bytes) noexcept {
    current += bytes;
    if (current > peak) peak = current;
    if (current > recent_peak) recent_peak = current;
    if (current > period_peak) period_peak = current;
  }

  int64_t pooled() const { return small + arena.idle(); }

  int64_t trim(int64_t keep) {
    int64_t returned = arena.trim(keep > small ? keep - small : 0);
    for (int c = kClasses - 1; c >= 0 && pooled() > keep; --c) {
      auto& list = free[static_cast<size_t>(c)];
      for (; !list.empty() && pooled() > keep; list.pop_back()) {
        std::free(list.back());
        small -= class_bytes(c);
        returned += class_bytes(c);
      }
    }
    return returned;
  }

  // Idle memory is kept for as long as it was wanted not long ago: the peaks of this and the last period are remembered.
  void forget() {
    if (++period < kPeriod) return;
    const int64_t wanted = std::max(period_peak, last_peak);
    last_peak = period_peak;
    period_peak = current;
    period = 0;
    if (current + pooled() > wanted + wanted / 2 + kSlack) trim(wanted + wanted / 4 - current);
  }

  void* find(int64_t bytes, int64_t rounded) {
    if (is_large(bytes)) {
      if (rounded > most - current) return nullptr;
      bool fresh = false;
      void* block = arena.allocate(rounded, &fresh);
      system_allocations += fresh;
      return block;
    }
    auto& list = free[static_cast<size_t>(class_of(bytes))];
    if (list.empty()) {
      ++system_allocations;
      return std::aligned_alloc(kAlignment, static_cast<size_t>(rounded));
    }
    void* block = list.back();
    list.pop_back();
    small -= rounded;
    return block;
  }
};

// Never destroyed: arrays may outlive static destructors at interpreter exit.
Pool& pool() {
  static Pool* instance = [] {
    Pool* p = new Pool;
    // A child forked while another thread holds the mutex must not inherit it locked.
    pthread_atfork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); }, [] { pool().mutex.unlock(); });
    return p;
  }();
  return *instance;
}

}  // namespace

void* allocate(int64_t bytes) {
  if (bytes < 0 || bytes > (int64_t{1} << 46)) throw std::bad_alloc();
  if (void* const block = step_allocate(bytes)) return block;
  const int64_t rounded = block_bytes(bytes);
  Pool& p = pool();
  std::lock_guard lock(p.mutex);
  ++p.allocations;
  if (is_large(bytes)) p.forget();
  void* block = p.find(bytes, rounded);
  if (!block && p.trim(0) > 0) block = p.find(bytes, rounded);  // what is pooled may make room
  if (!block) throw std::bad_alloc();
  p.grow(rounded);
  return block;
}

void release(void* block, int64_t bytes) noexcept {
  if (!block || step_release(block)) return;
  const int64_t rounded = block_bytes(bytes);
  Pool& p = pool();
  std::lock_guard lock(p.mutex);
  p.current -= rounded;
  const int64_t most = p.enabled ? p.cap : 0;
  if (is_large(bytes)) {
    p.arena.release(block, rounded);
    if (most >= 0 && p.pooled() > most) p.trim(most);
    return;
  }
  if (most < 0 || p.pooled() + rounded <= most) {
    try {
      p.free[static_cast<size_t>(class_of(bytes))].push_back(block);
      p.small += rounded;
      return;
    } catch (...) {  // the list could not grow: give the block back instead
    }
  }
  std::free(block);
}

int64_t trim(int64_t keep_bytes) noexcept {
  std::lock_guard lock(pool().mutex);
  return pool().trim(keep_bytes < 0 ? 0 : keep_bytes);
}

void set_cap(int64_t bytes) noexcept {
  std::lock_guard lock(pool().mutex);
  pool().cap = bytes;
  if (bytes >= 0) pool().trim(bytes);
}

int64_t cap() noexcept { return pool().cap; }

bool enabled() noexcept { return pool().enabled; }

void set_enabled(bool on) noexcept {
  std::lock_guard lock(pool().mutex);
  pool().enabled = on;
  if (!on) pool().trim(0);
}

Statistics statistics() noexcept {
  Pool& p = pool();
  std::lock_guard lock(p.mutex);
  return {p.current, p.peak, p.current + p.pooled(), p.allocations, p.system_allocations};
}

void reset_peak() noexcept {
  std::lock_guard lock(pool().mutex);
  pool().peak = pool().current;
}

Statistics take_recent() noexcept {
  Pool& p = pool();
  std::lock_guard lock(p.mutex);
  const int64_t peak = p.recent_peak;
  p.recent_peak = p.current;
  return {p.current, peak, p.current + p.pooled(), p.allocations, p.system_allocations};
}

}  // namespace pydl::memory
