// Where the sums of a matrix product go, and what they meet on their way: bias, factor, residual, ReLU. Internal linkage: compiled
// per instruction set.
#pragma once
#include <type_traits>

#include "core/integer.h"
#include "core/simd.h"

namespace pydl {
namespace {

// What to do with the finished sums of one tile.
template <class T>
struct Store {
  T* c;                    // the tile's corner
  int64_t ldc;             // elements between rows
  bool accumulate;         // add to what is there (later blocks of K, or beta = 1)
  const T* bias = nullptr; // added per column with the first block
  bool relu = false;       // and then negative values become 0: with the last block
  const T* scale = nullptr;  // with the last block, as the bias then: sum * scale + bias
  int64_t residual = 0;      // elements from a result to the number that is added to it with the last block; 0 for none
};

// ReLU with the bits of the operation: zero for both zeros, and NaN stays.
template <class T>
PYDL_INLINE Vec<T> rectify(Vec<T> v) {
  return select(v <= 0.0, Vec<T>::zero(), v);
}

// What finished sums meet on their way to memory: sum * scale + bias, plus a residual, ReLU.
template <class T>
struct Finish {
  const T* bias = nullptr;
  bool relu = false;
  const T* scale = nullptr;
  int64_t residual = 0;  // as in Store

  // Columns [column, column + n), to be stored at `at`.
  PYDL_INLINE Vec<T> operator()(Vec<T> v, const T* at, int64_t column, int64_t n) const {
    if (scale)
      v = fma(v, Vec<T>::load_n(scale + column, n), Vec<T>::load_n(bias + column, n));
    else if (bias)
      v = v + Vec<T>::load_n(bias + column, n);
    if (residual) v = v + Vec<T>::load_n(at + residual, n);
    return relu ? rectify(v) : v;
  }
  Finish from(int64_t column) const {
    return {bias ? bias + column : nullptr, relu, scale ? scale + column : nullptr, residual};
  }
};

// The sums of a whole tile to their places, without scale or residual: each of the four ways without a branch in it.
template <class T, int64_t R, int64_t C>
PYDL_INLINE void store_whole(const Vec<T> (&sum)[R][C], const Store<T>& store) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  V bias[C];
#pragma GCC unroll 4
  for (int64_t j = 0; j < C; ++j) bias[j] = store.bias ? V::load(store.bias + j * L) : V::splat(T(-0.0));  // x + -0 is x
  const auto finish = [&](auto accumulate, auto relu) {
#pragma GCC unroll 14
    for (int64_t i = 0; i < R; ++i)
#pragma GCC unroll 4
      for (int64_t j = 0; j < C; ++j) {
        T* c = store.c + i * store.ldc + j * L;
        V v = sum[i][j];
        if constexpr (accumulate) v = v + V::load(c);
        v = v + bias[j];
        if constexpr (relu) v = rectify(v);
        v.store(c);
      }
  };
  constexpr std::true_type yes;
  constexpr std::false_type no;
  if (store.accumulate) return store.relu ? finish(yes, yes) : finish(yes, no);
  return store.relu ? finish(no, yes) : finish(no, no);
}

// n sums of one vector, the first of which belongs at `c`, in the store's column `column`.
template <class T>
PYDL_INLINE void store_some(Vec<T> sums, const Store<T>& store, T* c, int64_t column, int64_t n) {
  if (store.accumulate) sums = sums + Vec<T>::load_n(c, n);
  Finish<T>{store.bias, store.relu, store.scale, store.residual}(sums, c, column, n).store_n(c, n);
}

// The same for tiles that are not whole, or meet a scale or a residual. From memory and out of the kernels: with all these
// questions among them, the sums of a kernel would not stay in its few registers.
template <class T>
[[gnu::noinline]] void store_part(const T* sums, int64_t ld, const Store<T>& store, int64_t rows, int64_t columns) {
  constexpr int64_t L = Vec<T>::lanes;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; j += L)
      store_some(Vec<T>::load(sums + i * ld + j), store, store.c + i * store.ldc + j, j, columns - j);
}

// The sums of a kernel to their places: rows from `first` on, `rows` of them.
template <class T, int64_t R, int64_t C>
PYDL_INLINE void store_sums(const Vec<T> (&sum)[R][C], const Store<T>& store, int64_t first, int64_t rows, int64_t columns) {
  constexpr int64_t L = Vec<T>::lanes;
  if (rows == R && columns >= C * L && !store.scale && !store.residual) return store_whole<T, R, C>(sum, store);
  alignas(64) T sums[R * C * L];
#pragma GCC unroll 14
  for (int64_t i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int64_t j = 0; j < C; ++j) sum[i][j].store(sums + (i * C + j) * L);
  Store<T> rest = store;
  rest.c += first * store.ldc;
  store_part<T>(sums + first * C * L, C * L, rest, rows, min64(columns, C * L));
}

}  // namespace
}  // namespace pydl
