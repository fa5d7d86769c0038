#include "core/arena.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>

namespace pydl::memory {

namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kStep = int64_t{64} << 20;    // addresses become usable in steps
constexpr int64_t kRange = int64_t{1} << 42;    // addresses to reserve: they count as memory only once they are usable
constexpr int64_t kLeastRange = int64_t{1} << 28;

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

void Arena::insert(char* begin, int64_t bytes, bool fresh) {
  by_size_[fresh].emplace(bytes, begin);
  free_.emplace(begin, Extent{bytes, fresh});
  if (!fresh) idle_ += bytes;
}

void Arena::erase(Extents::iterator extent) {
  const auto [bytes, fresh] = extent->second;
  by_size_[fresh].erase({bytes, extent->first});
  if (!fresh) idle_ -= bytes;
  free_.erase(extent);
}

// A new range of addresses; what is left of the last one stays unused.
bool Arena::reserve(int64_t bytes) {
  rlimit limit{};
  const bool scarce = getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY;
  const int64_t least = std::max(kLeastRange, round_up(bytes + kHugePage, kStep));
  for (int64_t size = scarce ? least : std::max(kRange, least); size >= least; size /= 2) {
    void* raw = mmap(nullptr, static_cast<size_t>(size), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) continue;
    end_ = static_cast<char*>(raw) + size;
    top_ = reinterpret_cast<char*>(round_up(reinterpret_cast<intptr_t>(raw), kHugePage));
    committed_ = top_;
    return true;
  }
  return false;
}

// Makes addresses up to `end` usable.
bool Arena::grow(char* end) {
  if (end <= committed_) return true;
  const int64_t bytes = std::min(round_up(end - committed_, kStep), static_cast<int64_t>(end_ - committed_));
  if (mprotect(committed_, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE) != 0) return false;
#ifdef MADV_HUGEPAGE
  madvise(committed_, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // advice only: a refusal costs speed, not correctness
#endif
  committed_ += bytes;
  return true;
}

// From the end of what was touched, together with a free extent that lies there.
char* Arena::take_top(int64_t bytes) {
  for (;;) {
    const auto last = free_.empty() ? free_.end() : std::prev(free_.end());
    const bool joins = last != free_.end() && last->first + last->second.bytes == top_;
    char* const begin = joins ? last->first : top_;
    if (begin && end_ - begin >= bytes) {
      if (!grow(begin + bytes)) return nullptr;
      if (joins) erase(last);
      top_ = begin + bytes;
      return begin;
    }
    if (!reserve(bytes)) return nullptr;
  }
}

void* Arena::allocate(int64_t bytes, bool* fresh) {
  for (const bool kind : {false, true}) {
    const auto found = by_size_[kind].lower_bound({bytes, nullptr});  // the smallest that is large enough
    if (found == by_size_[kind].end()) continue;
    const auto [size, begin] = *found;
    erase(free_.find(begin));
    if (size > bytes) insert(begin + bytes, size - bytes, kind);
    *fresh = kind;
    return begin;
  }
  *fresh = true;
  return take_top(bytes);
}

// Takes free neighbours of the same kind out of the list; the extent that they make together with this one.
std::pair<char*, int64_t> Arena::join(char* begin, int64_t bytes, bool fresh) {
  auto after = free_.lower_bound(begin);
  if (after != free_.end() && after->second.fresh == fresh && after->first == begin + bytes) {
    bytes += after->second.bytes;
    const auto next = std::next(after);
    erase(after);
    after = next;
  }
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    if (before->second.fresh == fresh && before->first + before->second.bytes == begin) {
      begin = before->first;
      bytes += before->second.bytes;
      erase(before);
    }
  }
  return {begin, bytes};
}

void Arena::release(void* block, int64_t bytes) {
  const auto [begin, size] = join(static_cast<char*>(block), bytes, false);
  insert(begin, size, false);
}

int64_t Arena::trim(int64_t keep) {
  int64_t given = 0;
  while (idle_ > keep) {
    auto extent = free_.end();
    do --extent;
    while (extent->second.fresh);  // one that is not exists: idle_ > 0
    char* const idle = extent->first;
    const int64_t size = extent->second.bytes;
    madvise(idle, static_cast<size_t>(size), MADV_DONTNEED);
    given += size;
    erase(extent);
    const auto [begin, bytes] = join(idle, size, true);
    if (begin + bytes == top_)
      top_ = begin;
    else
      insert(begin, bytes, true);
  }
  return given;
}

}  // namespace pydl::memory
