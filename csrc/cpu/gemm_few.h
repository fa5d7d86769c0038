// Products with few rows: inference, and linear layers on small batches. Here the time is that of reading the weights, which
// are read once, and as they lie. Internal linkage: compiled per instruction set.
#pragma once
#include "cpu/gemm.h"

namespace pydl {
namespace {

constexpr int64_t kMostRowsOfAxpy = 8, kMostRowsOfDots = 12;

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

// C[M, N] = A B' + bias with rows of A and B (numbers along k) contiguous, for up to kMostRowsOfDots rows of A. The part of A in
// work is copied together: rows whose distance is a power of two would drive each other out of the cache.
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

// C[M, N] = A B + bias with rows of A (along k) and rows of B (along the columns) contiguous, for up to kMostRowsOfAxpy rows of A.
// The numbers of A and C in work are copied together: rows whose distance is a power of two would drive each other out of the cache.
template <class T>
void few_rows_by_axpy(int64_t M, int64_t N, int64_t K, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc,
                      const T* bias) {
  constexpr int64_t kPiece = 1024 / sizeof(T), kPitchC = kPiece + Vec<T>::lanes, kStep = kPanelRows > 8 ? 16 : 8;  // rows of B in registers
  parallel_for(ceil_div(N, kPiece), 1, [&](int64_t begin, int64_t end) {
    alignas(64) T sums[kMostRowsOfAxpy * kPitchC], few[kMostRowsOfAxpy * kStep];
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

// Asks, a line of each at a time, for the rows that are packed next.
template <class T>
struct RowsAhead {
  const T* from;
  int64_t ld;
  PYDL_INLINE void advance() {
#pragma GCC unroll 14
    for (int64_t i = 0; i < kPanelRows; ++i) __builtin_prefetch(from + i * ld, 0, 2);
    from += Prefetch<T>::line;
  }
};

// Whether few_rows_by_panels is faster than what reads B for each few rows, or turns it into panels. Measured: with more than 32
// rows where B is so large that it comes from memory.
template <class T>
bool few_rows_fit_panels(int64_t M, int64_t N, int64_t K) {
  constexpr int64_t kMostRows = 128, kFewRows = 32, kFromMemory = 1 << 20;
  return N >= 4 * kPanelRows && (M <= kFewRows || (M <= kMostRows && N * K >= kFromMemory && !packing_speeds_up<T>(M, N, K)));
}

// C[M, N] = A B', with rows of A and B (numbers along k) contiguous, as C' = B A': the few rows of A are turned into panels, and a
// panel of rows of B, which come from memory while the one before is multiplied, needs no turning.
template <class T>
void few_rows_by_panels(int64_t M, int64_t N, int64_t K, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc,
                        const Finish<T>& finish) {
  constexpr int64_t R = kPanelRows, W = Tile<T>::columns, L = Vec<T>::lanes, kRows = ceil_div(R, L) * L;
  const int64_t panels = ceil_div(M, W), blocks = ceil_div(K, kBlockK), pitch = panels * W;
  Scratch<T> columns(panels * K * W);
  parallel_for(panels * blocks, 8, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t p = t / blocks, k = t % blocks * kBlockK;
      pack_b_strided(columns.data + (p * K + k) * W, a + p * W * lda + k, 1, lda, min64(W, M - p * W), min64(kBlockK, K - k));
    }
  });
  parallel_for(ceil_div(N, R), 4, [&](int64_t begin, int64_t end) {
    Scratch<T> rows(Tile<T>::a_panel), sums(kRows * pitch);
    alignas(64) T turned[L * L];
    for (int64_t j = begin * R; j < min64(N, end * R); j += R) {
      const int64_t n = min64(R, N - j);
      for (int64_t k = 0; k < K; k += kBlockK) {
        const int64_t kc = min64(K - k, kBlockK);
        const T *from = b + j * ldb + k, *next = k + kBlockK < K ? from + kBlockK : b + (j + R) * ldb;
        pack_a_strided(rows.data, from, ldb, 1, n, kc);
        for (int64_t p = 0; p < panels; ++p) {
          const T* column = columns.data + (p * K + k) * W;
          const Store<T> store{sums.data + p * W, pitch, k > 0};
          const int64_t width = min64(W, M - p * W);  // of the turned product
          if (p == 0)  // once: the other panels ask only for their own lines
            multiply_panel<Numbers<T>, kPitch, 1>(rows.data, column, kc, store, R, width, RowsAhead<T>{next, ldb});
          else
            multiply_panel<Numbers<T>, kPitch, 1>(rows.data, column, kc, store, R, width, Ahead<T>{column});
        }
      }
      for (int64_t i = 0; i < M; i += L)
        for (int64_t r = 0; r < n; r += L) {
          const int64_t height = min64(L, M - i), width = min64(L, n - r);
          transpose_square(sums.data + r * pitch + i, pitch, L, height, turned, L, true);
          for (int64_t q = 0; q < height; ++q) {
            T* to = c + (i + q) * ldc + j + r;
            finish(Vec<T>::load(turned + q * L), to, j + r, width).store_n(to, width);
          }
        }
    }
  });
}

}  // namespace
}  // namespace pydl
