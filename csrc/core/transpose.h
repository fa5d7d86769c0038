// Transposing small squares in registers. Internal linkage: compiled per instruction set.
#pragma once
#include <utility>

#include "core/simd.h"

namespace pydl {
namespace {

// One round of the transposition: rows that are D apart exchange the lanes that differ in bit D.
template <int64_t D, class T, int... I>
PYDL_INLINE void exchange(Vec<T>* r, std::integer_sequence<int, I...>) {
  constexpr int64_t L = Vec<T>::lanes;
#pragma GCC unroll 16
  for (int64_t i = 0; i < L; ++i) {
    if (i & D) continue;
    const Vec<T> a = r[i], b = r[i + D];
    r[i] = pick(a, b, std::integer_sequence<int, ((I & D) ? I - static_cast<int>(D - L) : I)...>{});
    r[i + D] = pick(a, b, std::integer_sequence<int, ((I & D) ? I + static_cast<int>(L) : I + static_cast<int>(D))...>{});
  }
}

// Transposes a square of L rows of L lanes in registers (Eklundh 1972).
template <class T>
PYDL_INLINE void transpose_lanes(Vec<T>* r) {
  constexpr int64_t L = Vec<T>::lanes;
  constexpr auto lanes = std::make_integer_sequence<int, static_cast<int>(L)>{};
  if constexpr (L > 8) exchange<8>(r, lanes);
  if constexpr (L > 4) exchange<4>(r, lanes);
  if constexpr (L > 2) exchange<2>(r, lanes);
  exchange<1>(r, lanes);
}

// to[j * to_stride + i] = from[i * from_stride + j] for i < rows, j < columns (both at most one vector's lanes); `rows` up
// to the lanes are written, those beyond `rows` as zeros when `fill`.
template <class T>
[[gnu::noinline]] void transpose_square(const T* from, int64_t from_stride, int64_t rows, int64_t columns, T* to,
                                        int64_t to_stride, bool fill) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  V r[L];
#pragma GCC unroll 16
  for (int64_t i = 0; i < L; ++i) r[i] = i < rows ? V::load_n(from + i * from_stride, columns) : V::zero();
  transpose_lanes(r);
#pragma GCC unroll 16
  for (int64_t j = 0; j < L; ++j)
    if (j < columns) r[j].store_n(to + j * to_stride, fill ? L : rows);
}

}  // namespace
}  // namespace pydl
