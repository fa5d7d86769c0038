// Pooled memory. The first touch of a fresh page costs more than ten times a reuse, so freed blocks are kept and handed out
// again: small ones in size classes, large ones (from 256 KB on) in an arena of huge pages, where free neighbours join.
// What has not been wanted for a while goes back to the system.
#pragma once
#include <cstdint>

namespace pydl::memory {

constexpr int64_t kAlignment = 64;

struct Statistics {
  int64_t current;    // bytes in use by live arrays (rounded up to classes or pages)
  int64_t peak;       // largest `current` since the last reset_peak
  int64_t reserved;   // bytes obtained from the system: in use and pooled
  int64_t allocations;  // calls of allocate since start
  int64_t system_allocations;  // of these, how many needed memory from the system
};

void* allocate(int64_t bytes);  // 64-byte aligned, uninitialised; throws std::bad_alloc
void release(void* block, int64_t bytes) noexcept;  // `bytes` as given to allocate
int64_t trim(int64_t keep_bytes) noexcept;  // returns pooled blocks until at most keep_bytes are pooled; bytes returned
void set_cap(int64_t bytes) noexcept;   // most bytes kept pooled; negative: no cap
int64_t cap() noexcept;
bool enabled() noexcept;  // PYDL_POOL=0 switches the pool off
void set_enabled(bool on) noexcept;
Statistics statistics() noexcept;
void reset_peak() noexcept;
Statistics take_recent() noexcept;  // the same, `peak` being the largest `current` since the last call: for the profiler

}  // namespace pydl::memory
