// A buffer from the pool for the length of a scope.
#pragma once
#include "core/allocator.h"

namespace pydl {
namespace {

template <class T>
struct Scratch {
  T* data;
  int64_t bytes;
  explicit Scratch(int64_t n)
      : data(static_cast<T*>(memory::allocate(n * static_cast<int64_t>(sizeof(T))))),
        bytes(n * static_cast<int64_t>(sizeof(T))) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { memory::release(data, bytes); }
};

}  // namespace
}  // namespace pydl
