// A register-blocked product that walks over its factors where they lie: the first is never packed. Internal linkage: compiled
// per instruction set.
#pragma once
#include "cpu/gemm.h"

namespace pydl {
namespace {

// Rows that `multiply` is compiled for: 28 sums of 32 registers, or 12 of 16.
#if defined(__AVX512F__)
constexpr int64_t kRows[] = {14, 10, 7, 4, 1};
constexpr bool kManyRegisters = true;
#else
constexpr int64_t kRows[] = {6, 5, 4, 3, 1};
constexpr bool kManyRegisters = false;
#endif

template <int64_t N>
struct Count {
  static constexpr int64_t value = N;
};

// The compiled number of rows that covers n rows in the fewest steps; each block costs some overhead.
inline int64_t choose_rows(int64_t n) {
  int64_t best = kRows[0], least_cost = INT64_MAX;
  for (const int64_t rows : kRows) {
    const int64_t cost = ceil_div(n, rows) * (2 * rows + 3);
    if (cost < least_cost) {
      best = rows;
      least_cost = cost;
    }
  }
  return best;
}

// The largest compiled number of rows that is at most n.
PYDL_INLINE int64_t rows_within(int64_t n) {
  for (const int64_t rows : kRows)
    if (rows <= n) return rows;
  return 1;
}

template <class F>
PYDL_INLINE void with_rows(int64_t rows, const F& f) {
  if (rows == kRows[0]) return f(Count<kRows[0]>{});
  if (rows == kRows[1]) return f(Count<kRows[1]>{});
  if (rows == kRows[2]) return f(Count<kRows[2]>{});
  if (rows == kRows[3]) return f(Count<kRows[3]>{});
  f(Count<1>{});
}

// f(vectors, first column, columns) for blocks of two vectors, the last perhaps of one.
template <class T, class F>
PYDL_INLINE void for_columns(int64_t columns, const F& f) {
  constexpr int64_t L = Vec<T>::lanes;
  for (int64_t j = 0; j < columns; j += 2 * L) {
    if (columns - j > L)
      f(Count<2>{}, j, min64(2 * L, columns - j));
    else
      f(Count<1>{}, j, columns - j);
  }
}

// Where the factors of a product lie: a[segment][row] moves by `inner` and `outer` steps, b by its own.
template <class T>
struct Walk {
  const T* a;
  int64_t segment, row;  // elements between segments and rows of a
  int64_t a_outer, a_inner;
  const T* b;
  int64_t b_outer, b_inner;
  int64_t outer, inner;  // steps
  int64_t columns;       // of b
};

// put(segment, row, vector, sum) with sum = over all steps of a[segment][row] * b[vector]. S segments of R rows that are
// `Pitch` apart (0: w.row apart), V vectors; with Tail the last vector of b is read only as far as w.columns.
template <int64_t S, int64_t R, int64_t V, int64_t Pitch, bool Tail, class T, class Put>
[[gnu::noinline]] void multiply(const Walk<T>& w, const Put& put) {
  using Vector = Vec<T>;
  constexpr int64_t L = Vector::lanes;
  constexpr int64_t G = Pitch ? 1 : ceil_div(R, 3);  // pointers: each serves three rows by the address modes of x86
  Vector sum[S][R][V];
#pragma GCC unroll 8
  for (int64_t s = 0; s < S; ++s)
#pragma GCC unroll 16
    for (int64_t r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int64_t j = 0; j < V; ++j) sum[s][r][j] = Vector::zero();
  const int64_t pitch = Pitch ? Pitch : w.row, a_inner = w.a_inner, b_inner = w.b_inner;
  const int64_t last = w.columns - (V - 1) * L;
  for (int64_t o = 0; o < w.outer; ++o) {
    const T* b = w.b + o * w.b_outer;
    const T* p[S][G];
#pragma GCC unroll 8
    for (int64_t s = 0; s < S; ++s)
#pragma GCC unroll 8
      for (int64_t g = 0; g < G; ++g) p[s][g] = w.a + o * w.a_outer + s * w.segment + 3 * g * pitch;
    for (int64_t i = 0; i < w.inner; ++i) {
      Vector vb[V];
#pragma GCC unroll 2
      for (int64_t j = 0; j < V; ++j) vb[j] = Tail && j == V - 1 ? Vector::load_n(b + j * L, last) : Vector::load(b + j * L);
      b += b_inner;
#pragma GCC unroll 8
      for (int64_t s = 0; s < S; ++s)
#pragma GCC unroll 16
        for (int64_t r = 0; r < R; ++r) {
          const Vector va = Vector::splat(Pitch ? p[s][0][r * Pitch] : p[s][r / 3][r % 3 * pitch]);
#pragma GCC unroll 2
          for (int64_t j = 0; j < V; ++j) sum[s][r][j] = fma(va, vb[j], sum[s][r][j]);
        }
#pragma GCC unroll 8
      for (int64_t s = 0; s < S; ++s)
#pragma GCC unroll 8
        for (int64_t g = 0; g < G; ++g) p[s][g] += a_inner;
    }
  }
#pragma GCC unroll 8
  for (int64_t s = 0; s < S; ++s)
#pragma GCC unroll 16
    for (int64_t r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int64_t j = 0; j < V; ++j) put(s, r, j, sum[s][r][j]);
}

}  // namespace
}  // namespace pydl
