#include "core/allocator.h"

#include <pthread.h>
#include <sys/mman.h>

#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

namespace pydl::memory {

namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kLarge = int64_t{1} << 20;  // blocks from here on are mapped on their own
constexpr int kSteps = 8;                     // classes between two powers of two: at most 12.5 % is wasted
constexpr int kClasses = 64 * kSteps;

// Size classes: multiples of 64 bytes up to 512, then eight steps per power of two.
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

void* system_allocate(int64_t bytes) {
  if (bytes < kLarge) {
    void* p = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
    if (!p) throw std::bad_alloc();
    return p;
  }
  // Map one huge page more than needed and give back the ends, so that the block starts on a huge-page border.
  const int64_t mapped = bytes + kHugePage;
  void* raw = mmap(nullptr, static_cast<size_t>(mapped), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc();
  char* start = static_cast<char*>(raw);
  char* aligned = start + (kHugePage - reinterpret_cast<intptr_t>(start) % kHugePage) % kHugePage;
  if (aligned > start) munmap(start, static_cast<size_t>(aligned - start));
  if (char* end = start + mapped; end > aligned + bytes)
    munmap(aligned + bytes, static_cast<size_t>(end - aligned - bytes));
#ifdef MADV_HUGEPAGE
  madvise(aligned, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // advice only: a refusal costs speed, not correctness
#endif
  return aligned;
}

void system_release(void* block, int64_t bytes) noexcept {
  if (bytes < kLarge)
    std::free(block);
  else
    munmap(block, static_cast<size_t>(bytes));
}

// Large classes are rounded to whole pages so that mmap and munmap agree.
int64_t block_bytes(int64_t bytes) {
  const int64_t rounded = class_bytes(class_of(bytes));
  return rounded < kLarge ? rounded : (rounded + 4095) / 4096 * 4096;
}

struct Pool {
  std::mutex mutex;
  std::array<std::vector<void*>, kClasses> free;
  int64_t current = 0, peak = 0, recent_peak = 0, pooled = 0, cap = -1, allocations = 0, system_allocations = 0;
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
  }

  int64_t trim(int64_t keep) noexcept {
    int64_t returned = 0;
    for (int c = kClasses - 1; c >= 0 && pooled > keep; --c) {
      const int64_t bytes = block_bytes(class_bytes(c));
      while (!free[static_cast<size_t>(c)].empty() && pooled > keep) {
        system_release(free[static_cast<size_t>(c)].back(), bytes);
        free[static_cast<size_t>(c)].pop_back();
        pooled -= bytes;
        returned += bytes;
      }
    }
    return returned;
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
  const int c = class_of(bytes);
  const int64_t rounded = block_bytes(bytes);
  Pool& p = pool();
  {
    std::lock_guard lock(p.mutex);
    ++p.allocations;
    auto& list = p.free[static_cast<size_t>(c)];
    if (!list.empty()) {
      void* block = list.back();
      list.pop_back();
      p.pooled -= rounded;
      p.grow(rounded);
      return block;
    }
    ++p.system_allocations;
  }
  void* block = nullptr;
  try {
    block = system_allocate(rounded);
  } catch (const std::bad_alloc&) {
    trim(0);  // pooled blocks of other classes may make room
    block = system_allocate(rounded);
  }
  std::lock_guard lock(p.mutex);
  p.grow(rounded);
  return block;
}

void release(void* block, int64_t bytes) noexcept {
  if (!block) return;
  const int64_t rounded = block_bytes(bytes);
  Pool& p = pool();
  {
    std::lock_guard lock(p.mutex);
    p.current -= rounded;
    if (p.enabled && (p.cap < 0 || p.pooled + rounded <= p.cap)) {
      try {
        p.free[static_cast<size_t>(class_of(bytes))].push_back(block);
        p.pooled += rounded;
        return;
      } catch (...) {  // the list could not grow: give the block back instead
      }
    }
  }
  system_release(block, rounded);
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
  return {p.current, p.peak, p.current + p.pooled, p.allocations, p.system_allocations};
}

void reset_peak() noexcept {
  std::lock_guard lock(pool().mutex);
  pool().peak = pool().current;
}

int64_t take_recent_peak() noexcept {
  Pool& p = pool();
  std::lock_guard lock(p.mutex);
  const int64_t peak = p.recent_peak;
  p.recent_peak = p.current;
  return peak;
}

}  // namespace pydl::memory
