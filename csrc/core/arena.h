// Large blocks side by side in one range of addresses, so that neighbours that are free become one and serve requests of any
// size. Not for several threads at once: the pool's lock guards it.
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <utility>

namespace pydl::memory {

class Arena {
 public:
  static constexpr int64_t kPage = 4096;

  // `bytes` is a multiple of kPage. Null if the system has no more. `fresh` tells whether pages will be touched for the
  // first time.
  void* allocate(int64_t bytes, bool* fresh);
  void release(void* block, int64_t bytes);
  // Gives free memory back to the system, highest addresses first, until at most `keep` bytes are idle; bytes given back.
  int64_t trim(int64_t keep);
  int64_t idle() const { return idle_; }  // free, and still held from the system

 private:
  struct Extent {
    int64_t bytes;
    bool fresh;  // the system holds no memory for it
  };
  using Extents = std::map<char*, Extent>;

  bool grow(char* end);
  bool reserve(int64_t bytes);
  void insert(char* begin, int64_t bytes, bool fresh);
  void erase(Extents::iterator extent);
  std::pair<char*, int64_t> join(char* begin, int64_t bytes, bool fresh);
  char* take_top(int64_t bytes);

  Extents free_;                                // by address
  std::set<std::pair<int64_t, char*>> by_size_[2];  // used before, fresh
  char *top_ = nullptr, *committed_ = nullptr, *end_ = nullptr;  // of the last range: touched, usable, reserved up to
  int64_t idle_ = 0;
};

}  // namespace pydl::memory
