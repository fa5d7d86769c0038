#include "core/step_memory.h"

#include <csignal>
#include <sys/mman.h>

#include <atomic>
#include <mutex>
#include <new>

#include "core/allocator.h"
#include "core/error.h"

namespace pydl::memory {

namespace {

constexpr int kRanges = 64;
constexpr int64_t kRangeBytes = int64_t{1} << 36;  // addresses, not memory: 64 GiB each
constexpr int64_t kGrain = int64_t{2} << 20;       // how much memory is asked for at a time

std::mutex g_mutex;               // ranges, and the blocks of each
char* g_base = nullptr;           // of all ranges
std::atomic<uintptr_t> g_first{0};  // the same for the quick test in step_release; 0: there are none
bool g_taken[kRanges] = {};

}  // namespace

struct StepMemory::Range {
  int index;
  char* base;
  int64_t end = 0, mapped = 0;             // extent of the blocks; of the usable memory
  std::map<char*, int64_t> used, unused;   // block -> bytes
  bool owned = true, guarded = false;
  volatile std::sig_atomic_t touched = 0;

  void access(bool on) noexcept {
    if (mapped) mprotect(base, static_cast<size_t>(mapped), on ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
};

namespace {

thread_local StepMemory::Range* t_range = nullptr;
StepMemory::Range* volatile g_guarded = nullptr;  // what the signal handler looks at
struct sigaction g_previous[2];
constexpr int kSignals[] = {SIGSEGV, SIGBUS};

// Someone other than a kernel touches the guarded memory: open it for good and remember. mprotect is a plain system call.
void on_fault(int signal, siginfo_t* info, void*) {
  StepMemory::Range* const r = g_guarded;
  char* const address = static_cast<char*>(info->si_addr);
  if (r && address >= r->base && address < r->base + r->mapped) {
    r->touched = 1;
    r->access(true);
    return;
  }
  for (int i = 0; i < 2; ++i)  // not ours: the instruction runs again, into whoever handled this before
    if (kSignals[i] == signal) sigaction(signal, &g_previous[i], nullptr);
}

// Drops the range once neither its owner nor a block needs it. Called with the mutex held.
void drop(StepMemory::Range* r) noexcept {
  if (r->owned || !r->used.empty()) return;
  // Fresh address space in place of the old: the memory is back with the system.
  mmap(r->base, static_cast<size_t>(kRangeBytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  g_taken[r->index] = false;
  delete r;
}

StepMemory::Range* g_ranges[kRanges] = {};

}  // namespace

StepMemory::StepMemory() {
  const std::lock_guard lock(g_mutex);
  if (!g_base) {
    void* const p = mmap(nullptr, static_cast<size_t>(kRanges * kRangeBytes), PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) fail("capture", "the system gives no address space (ulimit -v?)");
    g_base = static_cast<char*>(p);
    g_first = reinterpret_cast<uintptr_t>(p);
  }
  int index = 0;
  while (index < kRanges && g_taken[index]) ++index;
  if (index == kRanges) fail("capture", "too many recordings are alive");
  range_ = g_ranges[index] = new Range{index, g_base + index * kRangeBytes, 0, 0, {}, {}, true, false, 0};
  g_taken[index] = true;
}

StepMemory::~StepMemory() {
  unprotect();
  leave();
  const std::lock_guard lock(g_mutex);
  range_->owned = false;
  drop(range_);
}

void StepMemory::enter() { t_range = range_; }

void StepMemory::leave() noexcept {
  if (t_range == range_) t_range = nullptr;
}

void StepMemory::protect() {
  if (g_guarded) fail("capture", "another thread is recording a step");
  range_->touched = 0;
  g_guarded = range_;
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  for (int i = 0; i < 2; ++i) sigaction(kSignals[i], &action, &g_previous[i]);
  range_->guarded = true;
  range_->access(false);
}

void StepMemory::unprotect() noexcept {
  if (!range_->guarded) return;
  range_->access(true);
  range_->guarded = false;
  g_guarded = nullptr;
  for (int i = 0; i < 2; ++i) sigaction(kSignals[i], &g_previous[i], nullptr);
}

bool StepMemory::touched() const noexcept { return range_->touched; }

bool StepMemory::holds(const void* p) const noexcept {
  return static_cast<const char*>(p) >= range_->base && static_cast<const char*>(p) < range_->base + kRangeBytes;
}

int64_t StepMemory::bytes() const noexcept { return range_->end; }

std::vector<std::pair<const void*, int64_t>> StepMemory::live() const {
  const std::lock_guard lock(g_mutex);
  return {range_->used.begin(), range_->used.end()};
}

Open::Open() noexcept : range_(t_range) {
  t_range = nullptr;
  if (range_ && range_->guarded && !range_->touched) range_->access(true);
}

Open::~Open() {
  if (range_ && range_->guarded && !range_->touched) range_->access(false);
  t_range = range_;
}

void* step_allocate(int64_t bytes) {
  StepMemory::Range* const r = t_range;
  if (!r) [[likely]] return nullptr;
  const int64_t rounded = bytes < kAlignment ? kAlignment : (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const std::lock_guard lock(g_mutex);
  auto best = r->unused.end();
  for (auto it = r->unused.begin(); it != r->unused.end(); ++it)
    if (it->second >= rounded && (best == r->unused.end() || it->second < best->second)) best = it;
  if (best != r->unused.end()) {
    const auto [block, size] = *best;
    r->unused.erase(best);
    if (size > rounded) r->unused[block + rounded] = size - rounded;
    r->used[block] = rounded;
    return block;
  }
  if (rounded > kRangeBytes - r->end) throw std::bad_alloc();
  if (r->end + rounded > r->mapped) {
    const int64_t wanted = (r->end + rounded + kGrain - 1) / kGrain * kGrain;
    const int mode = r->guarded && !r->touched ? PROT_NONE : PROT_READ | PROT_WRITE;
    if (mprotect(r->base + r->mapped, static_cast<size_t>(wanted - r->mapped), mode)) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(r->base + r->mapped, static_cast<size_t>(wanted - r->mapped), MADV_HUGEPAGE);
#endif
    r->mapped = wanted;
  }
  char* const block = r->base + r->end;
  r->end += rounded;
  r->used[block] = rounded;
  return block;
}

bool step_release(void* block) noexcept {
  const uintptr_t first = g_first.load(std::memory_order_relaxed);
  const uintptr_t offset = reinterpret_cast<uintptr_t>(block) - first;
  if (!first || offset >= static_cast<uintptr_t>(kRanges * kRangeBytes)) [[likely]] return false;
  const std::lock_guard lock(g_mutex);
  StepMemory::Range* const r = g_ranges[offset / static_cast<uintptr_t>(kRangeBytes)];
  const auto found = r->used.find(static_cast<char*>(block));
  int64_t size = found->second;
  r->used.erase(found);
  auto [it, inserted] = r->unused.emplace(static_cast<char*>(block), size);
  if (auto next = std::next(it); next != r->unused.end() && it->first + it->second == next->first) {
    it->second += next->second;
    r->unused.erase(next);
  }
  if (it != r->unused.begin()) {
    if (auto before = std::prev(it); before->first + before->second == it->first) {
      before->second += it->second;
      r->unused.erase(it);
    }
  }
  drop(r);
  return true;
}

}  // namespace pydl::memory
