// Memory of a captured step: all that the recording allocates comes from one reserved range of addresses and stays there for
// the replays, laid out once by best fit. While a step is recorded, the range can be touched by kernels only (`Open`): any
// other access, by NumPy or by Python, is noticed by the processor's memory protection, and the step is not replayed.
#pragma once
#include <cstdint>
#include <map>
#include <vector>

namespace pydl::memory {

class StepMemory {
 public:
  StepMemory();  // throws Error where the system gives no addresses, or too many of them are alive
  ~StepMemory();  // blocks that are still held keep the range alive
  StepMemory(const StepMemory&) = delete;
  StepMemory& operator=(const StepMemory&) = delete;

  struct Range;

  void enter();  // from now on, this thread's allocations come from here
  void leave() noexcept;
  void protect();  // outside of kernels nothing may touch the memory; one of the process at a time
  void unprotect() noexcept;
  bool touched() const noexcept;  // something did, since `protect`
  bool holds(const void* p) const noexcept;
  int64_t bytes() const noexcept;  // largest extent of the blocks
  std::vector<std::pair<const void*, int64_t>> live() const;  // the blocks in use

 private:
  Range* range_;
};

// For the length of a kernel: the protected memory of this thread's step is open, and what the kernel itself allocates
// comes from the pool.
class Open {
 public:
  Open() noexcept;
  ~Open();
  Open(const Open&) = delete;
  Open& operator=(const Open&) = delete;

 private:
  StepMemory::Range* range_;
};

// Hooks of the pool (allocator.cpp): a block of the step that this thread records or nullptr; whether a block was a step's and is back.
void* step_allocate(int64_t bytes);
bool step_release(void* block) noexcept;

}  // namespace pydl::memory
