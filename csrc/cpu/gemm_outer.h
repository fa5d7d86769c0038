// Products A' B of factors that lie in memory with a row for each k, as in weight gradients: nothing is transposed.
// Internal linkage: compiled per instruction set.
#pragma once
#include <type_traits>

#include "cpu/gemm.h"

namespace pydl {
namespace {

// A line to ask for at each step of k, before it is read: rows of the same block a few steps ahead, as the processor's own
// prefetching does not follow lines that lie far apart, or those of the next block. Asked for one by one between the products,
// lines come from memory while the processor multiplies; asked for many at a time, or by reading them, it waits.
template <class T>
struct Ahead {
  const T* line;
  int64_t step;
};

// sums[i][j] = sum over k of a[k][i] * b[k][j] for R rows and C vectors of columns, of which rows from `first` on are stored:
// both factors as they lie in memory, a row for each k (each pair, with that format). Whole vectors of b are read.
template <class T, int64_t R, int64_t C, class Format = Numbers<T>>
[[gnu::noinline]] void outer_kernel(const T* __restrict a, int64_t lda, const T* __restrict b, int64_t ldb, int64_t kc,
                                    const Store<T>& store, int64_t first, int64_t columns, Ahead<T> next_a, Ahead<T> next_b) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  V sum[R][C];
#pragma GCC unroll 14
  for (int64_t i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int64_t j = 0; j < C; ++j) sum[i][j] = V::zero();
  for (int64_t k = 0; k < kc; ++k, a += lda, b += ldb, next_a.line += next_a.step, next_b.line += next_b.step) {
    __builtin_prefetch(next_a.line);
#pragma GCC unroll 2
    for (int64_t j = 0; j < C; ++j) __builtin_prefetch(next_b.line + j * L);
    V vb[C];
#pragma GCC unroll 2
    for (int64_t j = 0; j < C; ++j) vb[j] = V::load(b + j * L);
#pragma GCC unroll 14
    for (int64_t i = 0; i < R; ++i) {
      const V va = Format::splat(a + i);
#pragma GCC unroll 2
      for (int64_t j = 0; j < C; ++j) sum[i][j] = Format::multiply(va, vb[j], sum[i][j]);
    }
  }
  store_sums<T, R, C>(sum, store, first, R - first, columns);
}

// The rows of a panel of A that cover `rows` with the least waste; a panel costs about one row more than it has.
inline int64_t outer_panel(int64_t rows) {
  int64_t best = 1;
  for (int64_t n = min64(kPanelRows, rows); n > 0; --n)
    if (ceil_div(rows, n) * (n + 1) < ceil_div(rows, best) * (best + 1)) best = n;
  return best;
}

// f(std::integral_constant) for n from 1 to N.
template <int64_t N = kPanelRows, class F>
PYDL_INLINE void with_panel(int64_t n, const F& f) {
  if constexpr (N > 1)
    if (n < N) return with_panel<N - 1>(n, f);
  f(std::integral_constant<int64_t, N>{});
}

// sums[rows][columns] of one block of k. The last panel of A overlaps the one before. next_a and next_b, if given, are the
// rows of the block that follows, in the caller's arrays.
template <class T, class Format = Numbers<T>>
void outer_block(const T* a, int64_t lda, const T* b, int64_t ldb, int64_t rows, int64_t columns, int64_t kc,
                 const Store<T>& store, const T* next_a = nullptr, const T* next_b = nullptr, int64_t next_ldb = 0) {
  constexpr int64_t steps = Prefetch<T>::steps;
  const int64_t panel = outer_panel(rows);
  for (int64_t j = 0; j < columns; j += Tile<T>::columns)
    for (int64_t i = 0; i < rows; i += panel) {
      const int64_t at = min64(i, rows - panel), n = min64(columns - j, Tile<T>::columns);
      const Store<T> tile{store.c + at * store.ldc + j, store.ldc, store.accumulate};
      const Ahead<T> of_a = next_a && j == 0 ? Ahead<T>{next_a + at, lda} : Ahead<T>{a + steps * lda + at, lda};
      const Ahead<T> of_b = next_b && i == 0 ? Ahead<T>{next_b + j, next_ldb} : Ahead<T>{b + steps * ldb + j, ldb};
      with_panel(panel, [&](auto r) {
        if (n <= Vec<T>::lanes)
          outer_kernel<T, decltype(r)::value, 1, Format>(a + at, lda, b + j, ldb, kc, tile, i - at, n, of_a, of_b);
        else
          outer_kernel<T, decltype(r)::value, kPanelVectors, Format>(a + at, lda, b + j, ldb, kc, tile, i - at, n, of_a, of_b);
      });
    }
}

// The same in a format for tiles, at most kBlockK rows of each factor: both are packed here.
template <class Format>
void outer_block_packed(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t rows, int64_t columns, int64_t kc,
                        const Store<float>& store) {
  constexpr int64_t R = Tile<float>::rows, C = Tile<float>::columns;
  constexpr int64_t kPanelA = PanelSize<Format, float, true>::a, kPanelB = PanelSize<Format, float, true>::b;
  const int64_t a_panels = ceil_div(rows, R), b_panels = ceil_div(columns, C);
  Scratch<float> packed_a(a_panels * kPanelA), packed_b(kPanelB);
  const auto fill_a = [&](auto format, float* panel, int64_t i, int64_t) {
    fill_panel<decltype(format), false, kColumnStep>(panel, 0, kc, kc, [&](float* to, int64_t k, int64_t n) {
      pack_a_columns(to, a + k * lda + i * R, lda, min64(rows - i * R, R), n);
    });
  };
  const auto fill_b = [&](auto format, float* panel, int64_t j, int64_t) {
    fill_panel<decltype(format), true, C>(panel, 0, kc, kc, [&](float* to, int64_t k, int64_t n) {
      pack_b_strided(to, b + k * ldb + j * C, ldb, 1, min64(columns - j * C, C), n);
    });
  };
  const auto place = [&](int64_t i, int64_t j) {
    return Place<float>{{store.c + i * R * store.ldc + j * C, store.ldc, store.accumulate}, min64(rows - i * R, R),
                        min64(columns - j * C, C)};
  };
  for (int64_t i = 0; i < a_panels; ++i) fill_a(Format{}, packed_a.data + i * kPanelA, i, 0);
  for (int64_t j = 0; j < b_panels; ++j) {
    fill_b(Format{}, packed_b.data, j, 0);
    multiply_rows_of_panels<Format, true>(packed_a.data, kPanelA, packed_b.data, kc, 0, a_panels, j, packed_b.data, place, fill_a,
                                          fill_b);
  }
}

// C[M, N] = A' B from a long K (weight gradients), as gemm_long_k but without packing: A[K, M] lies in memory in rows of lda,
// rows of B are gathered by fill_b(to, ld, first_column, columns, first_k, kc). If they lie in memory as well, `b` says where,
// in rows of N. C is contiguous.
template <class T, class FillB>
void sum_outer_products(int64_t M, int64_t N, int64_t K, const T* a, int64_t lda, const FillB& fill_b, const T* b, T* c) {
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
  Scratch<T> copies(chunks > 1 ? chunks * size : 1);
  parallel_for(chunks * n_pieces, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> block(kRows * ldb);
    for (int64_t t = begin; t < end; ++t) {
      const int64_t chunk = t / n_pieces, j0 = t % n_pieces * piece;
      if (j0 >= N) continue;
      const int64_t columns = min64(N - j0, piece);
      T* to = (chunks > 1 ? copies.data + chunk * size : c) + j0;
      const int64_t k_begin = chunk * per_chunk, k_end = min64(K, k_begin + per_chunk);
      for (int64_t k0 = k_begin; k0 == k_begin || k0 < k_end; k0 += kRows) {
        const int64_t kc = max64(0, min64(k_end - k0, kRows)), next = k0 + kRows;
        fill_b(block.data, ldb, j0, columns, k0, kc);
        outer_block<T>(a + k0 * lda, lda, block.data, ldb, M, columns, kc, Store<T>{to, N, k0 > k_begin},
                       next < k_end ? a + next * lda : nullptr, next < k_end && b ? b + next * N + j0 : nullptr, N);
      }
    }
  });
  if (chunks > 1) add_copies(copies.data, chunks, size, c);
}

}  // namespace
}  // namespace pydl
