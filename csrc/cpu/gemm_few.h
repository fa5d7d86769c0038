// Products with few rows: inference, and linear layers on small batches. Here the weights are read from memory once and
// the time is that of reading, so they are read as they lie, never packed. Internal linkage: compiled per instruction set.
#pragma once
#include "cpu/gemm.h"

namespace pydl {
namespace {

constexpr int64_t kFewRows = 32;

// c[i][j] (+)= sum over k of a[i][k] * b[j][k], for R rows and C columns whose numbers lie side by side along k.
template <class T, int64_t R, int64_t C>
[[gnu::noinline]] void dot_kernel(const T* a, int64_t lda, const T* b, int64_t ldb, int64_t kc, const Store<T>& store) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  V sum[R][C];
#pragma GCC unroll 8
  for (int64_t i = 0; i < R; ++i)
#pragma GCC unroll 3
    for (int64_t j = 0; j < C; ++j) sum[i][j] = V::zero();
  const auto step = [&](int64_t k, auto load) {
    V vb[C];
#pragma GCC unroll 3
    for (int64_t j = 0; j < C; ++j) {
      vb[j] = load(b + j * ldb + k);
      __builtin_prefetch(b + (C + j) * ldb + k);  // what comes next
    }
#pragma GCC unroll 8
    for (int64_t i = 0; i < R; ++i) {
      const V va = load(a + i * lda + k);
#pragma GCC unroll 3
      for (int64_t j = 0; j < C; ++j) sum[i][j] = fma(va, vb[j], sum[i][j]);
    }
  };
  int64_t k = 0;
  for (; k + L <= kc; k += L) step(k, [](const T* p) { return V::load(p); });
  if (k < kc) step(k, [n = kc - k](const T* p) { return V::load_n(p, n); });
#pragma GCC unroll 8
  for (int64_t i = 0; i < R; ++i)
#pragma GCC unroll 3
    for (int64_t j = 0; j < C; ++j) {
      T* c = store.c + i * store.ldc + j;
      T v = sum_lanes(sum[i][j]);
      if (store.accumulate) v += *c;
      if (store.bias) v += store.bias[j];
      *c = v;
    }
}

template <class T, int64_t C>
void dot_rows(const T* a, int64_t lda, const T* b, int64_t ldb, int64_t kc, int64_t rows, const Store<T>& store) {
  if (rows == 8) return dot_kernel<T, 8, C>(a, lda, b, ldb, kc, store);
  Store<T> rest = store;
  for (int64_t i = 0, n = 4; i < rows;) {  // 4, 2 and 1 of them
    for (; n > rows - i; n /= 2) {}
    rest.c = store.c + i * store.ldc;
    (n == 4 ? dot_kernel<T, 4, C> : n == 2 ? dot_kernel<T, 2, C> : dot_kernel<T, 1, C>)(a + i * lda, lda, b, ldb, kc, rest);
    i += n;
  }
}

// C[M, N] = A B' + bias with rows of A and B (numbers along k) contiguous. The part of A in work is copied together: rows whose
// distance is a power of two would drive each other out of the cache.
template <class T>
void few_rows_by_dots(int64_t M, int64_t N, int64_t K, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc,
                      const T* bias) {
  constexpr int64_t kRows = 8, kColumns = 3, kDepth = 4096 / sizeof(T), kPitchA = kDepth + Vec<T>::lanes;
  constexpr int64_t kPiece = 16 * kColumns;  // so many rows of B stay in L2
  parallel_for(ceil_div(N, kPiece), 1, [&](int64_t begin, int64_t end) {
    alignas(64) T few[kRows * kPitchA];
    for (int64_t j0 = begin * kPiece; j0 < min64(N, end * kPiece); j0 += kPiece)
      for (int64_t k = 0; k == 0 || k < K; k += kDepth)
        for (int64_t i = 0; i < M; i += kRows) {
          const int64_t kc = max64(0, min64(K - k, kDepth)), rows = min64(M - i, kRows), last = min64(N, j0 + kPiece);
          for (int64_t r = 0; r < rows; ++r)
            std::memcpy(few + r * kPitchA, a + (i + r) * lda + k, static_cast<size_t>(kc) * sizeof(T));
          for (int64_t j = j0; j < last; j += kColumns) {
            const Store<T> store{c + i * ldc + j, ldc, k > 0, bias && k == 0 ? bias + j : nullptr};
            const int64_t columns = min64(last - j, kColumns);
            const auto dot = columns == 3 ? dot_rows<T, 3> : columns == 2 ? dot_rows<T, 2> : dot_rows<T, 1>;
            dot(few, kPitchA, b + j * ldb + k, ldb, kc, rows, store);
          }
        }
  });
}

// c[i][:] += sum over k of a[i][k] * b[k][:], for S rows of b at a time: each is read once and meets all rows of a.
template <class T, int64_t S>
[[gnu::noinline]] void axpy_kernel(const T* a, const T* b, int64_t ldb, T* c, int64_t ldc, int64_t rows, int64_t columns) {
  using V = Vec<T>;
  for (int64_t j = 0; j < columns; j += V::lanes) {
    const int64_t n = columns - j;
    V vb[S];
#pragma GCC unroll 16
    for (int64_t k = 0; k < S; ++k) {
      vb[k] = V::load_n(b + k * ldb + j, n);
      __builtin_prefetch(b + (S + k) * ldb + j);  // what comes next
    }
    for (int64_t i = 0; i < rows; ++i) {
      V sum = V::load(c + i * ldc + j);
#pragma GCC unroll 16
      for (int64_t k = 0; k < S; ++k) sum = fma(V::splat(a[i * S + k]), vb[k], sum);
      sum.store(c + i * ldc + j);
    }
  }
}

// C[M, N] = A B + bias with rows of A (along k) and rows of B (along the columns) contiguous. The numbers of A and C in work are
// copied together: rows whose distance is a power of two would drive each other out of the cache.
template <class T>
void few_rows_by_axpy(int64_t M, int64_t N, int64_t K, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc,
                      const T* bias) {
  constexpr int64_t kPiece = 1024 / sizeof(T), kPitchC = kPiece + Vec<T>::lanes, kStep = kPanelRows > 8 ? 16 : 8;  // rows of B in registers
  parallel_for(ceil_div(N, kPiece), 1, [&](int64_t begin, int64_t end) {
    alignas(64) T sums[kFewRows * kPitchC], few[kFewRows * kStep];
    for (int64_t j = begin * kPiece; j < min64(N, end * kPiece); j += kPiece) {
      const int64_t columns = min64(N - j, kPiece);
      const auto bytes = static_cast<size_t>(columns) * sizeof(T);
      if (bias)
        for (int64_t i = 0; i < M; ++i) std::memcpy(sums + i * kPitchC, bias + j, bytes);
      else
        std::memset(sums, 0, static_cast<size_t>(M * kPitchC) * sizeof(T));
      int64_t k = 0;
      for (; k + kStep <= K; k += kStep) {
        for (int64_t i = 0; i < M; ++i) std::memcpy(few + i * kStep, a + i * lda + k, kStep * sizeof(T));
        axpy_kernel<T, kStep>(few, b + k * ldb + j, ldb, sums, kPitchC, M, columns);
      }
      for (; k < K; ++k) {
        for (int64_t i = 0; i < M; ++i) few[i] = a[i * lda + k];
        axpy_kernel<T, 1>(few, b + k * ldb + j, ldb, sums, kPitchC, M, columns);
      }
      for (int64_t i = 0; i < M; ++i) std::memcpy(c + i * ldc + j, sums + i * kPitchC, bytes);
    }
  });
}

}  // namespace
}  // namespace pydl
