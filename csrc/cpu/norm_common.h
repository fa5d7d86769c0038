// What the files of the family share. Internal linkage: compiled per instruction set.
#pragma once
#include "core/array.h"
#include "core/simd.h"

namespace pydl {
namespace {

constexpr int64_t kTileVectors = 4;

PYDL_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
PYDL_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

template <class T>
const T* optional(const Array& a) {
  return a.data ? a.as<T>() : nullptr;
}

template <int64_t N>
struct Count {
  static constexpr int64_t value = N;
};

// tile(Count<vectors>, first column, columns) over [0, width): whole tiles of kTileVectors, then single vectors.
template <class T, class F>
PYDL_INLINE void for_each_tile(int64_t width, const F& tile) {
  constexpr int64_t L = Vec<T>::lanes;
  int64_t c = 0;
  for (; c + kTileVectors * L <= width; c += kTileVectors * L) tile(Count<kTileVectors>{}, c, kTileVectors * L);
  for (; c < width; c += L) tile(Count<1>{}, c, least(width - c, L));
}

}  // namespace
}  // namespace pydl
