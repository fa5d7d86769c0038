// Products A' B of factors that lie in memory with a row for each k, as in weight gradients: nothing is transposed or packed.
// Internal linkage: compiled per instruction set.
#pragma once
#include "cpu/gemm.h"

namespace pydl {
namespace {

// sums[i][j] = sum over k of a[k][i] * b[k][j]: both factors as they lie in memory, a row for each k. Whole panels of a and
// b are read.
template <class T, int64_t C>
[[gnu::noinline]] void outer_kernel(const T* __restrict a, int64_t lda, const T* __restrict b, int64_t ldb, int64_t kc,
                                    const Store<T>& store, int64_t rows, int64_t columns) {
  using V = Vec<T>;
  constexpr int64_t R = kPanelRows, L = V::lanes;
  V sum[R][C];
#pragma GCC unroll 14
  for (int64_t i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int64_t j = 0; j < C; ++j) sum[i][j] = V::zero();
  for (int64_t k = 0; k < kc; ++k, a += lda, b += ldb) {
    V vb[C];
#pragma GCC unroll 2
    for (int64_t j = 0; j < C; ++j) vb[j] = V::load(b + j * L);
#pragma GCC unroll 14
    for (int64_t i = 0; i < R; ++i) {
      const V va = V::splat(a[i]);
#pragma GCC unroll 2
      for (int64_t j = 0; j < C; ++j) sum[i][j] = fma(va, vb[j], sum[i][j]);
    }
  }
#pragma GCC unroll 14
  for (int64_t i = 0; i < R; ++i) {
    if (i >= rows) break;
    T* c = store.c + i * store.ldc;
#pragma GCC unroll 2
    for (int64_t j = 0; j < C; ++j) {
      const int64_t n = columns - j * L;
      if (n <= 0) break;
      (store.accumulate ? sum[i][j] + V::load_n(c + j * L, n) : sum[i][j]).store_n(c + j * L, n);
    }
  }
}

// All tiles of sums[rows][columns] by the outer kernel, from `a` and `b` with whole panels to read. `last`, if given, stands for
// the last panel of a, in rows of Tile::rows.
template <class T>
void outer_block(const T* a, int64_t lda, const T* last, const T* b, int64_t ldb, int64_t rows, int64_t columns, int64_t kc,
                 const Store<T>& store) {
  constexpr int64_t R = Tile<T>::rows;
  for (int64_t j = 0; j < columns; j += Tile<T>::columns)
    for (int64_t i = 0; i < rows; i += R) {
      const bool in_place = !last || rows - i >= R;
      const Store<T> tile{store.c + i * store.ldc + j, store.ldc, store.accumulate};
      const int64_t m = min64(rows - i, R), n = columns - j;
      if (n <= Vec<T>::lanes)
        outer_kernel<T, 1>(in_place ? a + i : last, in_place ? lda : R, b + j, ldb, kc, tile, m, n);
      else
        outer_kernel<T, kPanelVectors>(in_place ? a + i : last, in_place ? lda : R, b + j, ldb, kc, tile, m, n);
    }
}

// C[M, N] = A' B from a long K (weight gradients), as gemm_long_k but without packing: A[K, M] lies in memory in rows of lda, rows of B are gathered by
// fill_b(to, ld, first_column, columns, first_k, kc). C is contiguous.
template <class T, class FillB>
void sum_outer_products(int64_t M, int64_t N, int64_t K, const T* a, int64_t lda, const FillB& fill_b, T* c) {
  const int64_t size = M * N;
  if (size == 0) return;
  constexpr int64_t kRows = 128, kMostColumns = 1024;             // a block of B stays in L2
  constexpr int64_t kMostElements = int64_t{1} << 23;             // of all copies together
  int64_t chunks = max64(1, min64(min64(16, ceil_div(K, 8 * kRows)), kMostElements / size));
  const int64_t per_chunk = max64(1, ceil_div(ceil_div(K, kRows), chunks)) * kRows;
  chunks = max64(1, ceil_div(K, per_chunk));  // K = 0: one empty chunk writes the zeros
  // Few chunks (a large C): threads share the columns too.
  const int64_t panels = ceil_div(N, Tile<T>::columns);
  const int64_t n_pieces = min64(panels, max64(ceil_div(N, kMostColumns), chunks >= 8 ? 1 : ceil_div(16, chunks)));
  const int64_t piece = ceil_div(panels, n_pieces) * Tile<T>::columns, ldb = piece + 16;
  const int64_t rest = M % Tile<T>::rows;  // outputs of the last panel of A: copied, for nothing beyond A may be read
  Scratch<T> copies(chunks > 1 ? chunks * size : 1);
  parallel_for(chunks * n_pieces, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> b(kRows * ldb), last(kRows * Tile<T>::rows);
    for (int64_t t = begin; t < end; ++t) {
      const int64_t chunk = t / n_pieces, j0 = t % n_pieces * piece;
      if (j0 >= N) continue;
      const int64_t columns = min64(N - j0, piece);
      T* to = (chunks > 1 ? copies.data + chunk * size : c) + j0;
      const int64_t k_begin = chunk * per_chunk, k_end = min64(K, k_begin + per_chunk);
      for (int64_t k0 = k_begin; k0 == k_begin || k0 < k_end; k0 += kRows) {
        const int64_t kc = max64(0, min64(k_end - k0, kRows));
        fill_b(b.data, ldb, j0, columns, k0, kc);
        for (int64_t k = 0; rest && k < kc; ++k)
          for (int64_t i = 0; i < Tile<T>::rows; ++i)
            last.data[k * Tile<T>::rows + i] = i < rest ? a[(k0 + k) * lda + M - rest + i] : T(0);
        outer_block<T>(a + k0 * lda, lda, rest ? last.data : nullptr, b.data, ldb, M, columns, kc,
                       Store<T>{to, N, k0 > k_begin});
      }
    }
  });
  if (chunks == 1) return;
  parallel_for(size, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T total = copies.data[i];
      for (int64_t k = 1; k < chunks; ++k) total += copies.data[k * size + i];
      c[i] = total;
    }
  });
}

}  // namespace
}  // namespace pydl
