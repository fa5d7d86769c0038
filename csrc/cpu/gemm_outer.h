// Products A' B of factors with a row for each k, as in weight gradients: nothing is transposed.
// Internal linkage: compiled per instruction set.
#pragma once
#include <type_traits>

#include "cpu/gemm.h"

namespace pydl {
namespace {

// sums[i][j] = sum over k of a[k][i] * b[k][j] for R rows and C vectors of columns, of which rows from `first` on are stored:
// both factors have a row for each k (each pair, with that format). Whole vectors of b are read.
template <class T, int64_t R, int64_t C, class Format = Numbers<T>>
[[gnu::noinline]] void outer_kernel(const T* __restrict a, int64_t lda, const T* __restrict b, int64_t ldb, int64_t kc,
                                    const Store<T>& store, int64_t first, int64_t columns, Stream<T> next) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes, steps = Prefetch<T>::steps;
  V sum[R][C];
#pragma GCC unroll 14
  for (int64_t i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int64_t j = 0; j < C; ++j) sum[i][j] = V::zero();
  // As many lines as advance() asks for at a time, but most evenly: of each line one part after the other.
  for (int64_t k = 0; k < kc; ++k, a += lda, b += ldb, next.from += next.lines) {
    __builtin_prefetch(next.from, 0, 2);
    __builtin_prefetch(a + steps * lda);
#pragma GCC unroll 2
    for (int64_t j = 0; j < C; ++j) __builtin_prefetch(b + steps * ldb + j * L);
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

// A factor whose panel p begins at data + min(p * panel, last), and its rows `ld` elements apart.
template <class T>
struct Panels {
  const T* data;
  int64_t ld, panel, last;
  const T* operator()(int64_t p) const { return data + min64(p * panel, last); }
};

// sums[rows][columns] of one block of k, by `panel` rows at a time, as outer_panel chooses them. The last panel of A overlaps the
// one before. ahead(number): what to ask for during the product of that number.
template <class T, class Format, class StreamOf>
void outer_panels(const Panels<T>& a, const Panels<T>& b, int64_t panel, int64_t rows, int64_t columns, int64_t kc,
                  const Store<T>& store, const StreamOf& ahead) {
  constexpr int64_t C = Tile<T>::columns;
  const int64_t a_panels = ceil_div(rows, panel);
  for (int64_t j = 0; j < ceil_div(columns, C); ++j)
    for (int64_t i = 0; i < a_panels; ++i) {
      const int64_t at = min64(i * panel, rows - panel), first = i * panel - at, n = min64(columns - j * C, C);
      const Store<T> tile{store.c + at * store.ldc + j * C, store.ldc, store.accumulate};
      const Stream<T> next = ahead(j * a_panels + i);
      with_panel(panel, [&](auto r) {
        if (n <= Vec<T>::lanes)
          outer_kernel<T, decltype(r)::value, 1, Format>(a(i), a.ld, b(j), b.ld, kc, tile, first, n, next);
        else
          outer_kernel<T, decltype(r)::value, kPanelVectors, Format>(a(i), a.ld, b(j), b.ld, kc, tile, first, n, next);
      });
    }
}

// The same with both factors as they lie in memory, in rows of lda and ldb.
template <class T, class Format = Numbers<T>>
void outer_block(const T* a, int64_t lda, const T* b, int64_t ldb, int64_t panel, int64_t rows, int64_t columns, int64_t kc,
                 const Store<T>& store) {
  outer_panels<T, Format>({a, lda, panel, rows - panel}, {b, ldb, Tile<T>::columns, columns}, panel, rows, columns, kc, store,
                          [&](int64_t) { return Stream<T>{a, 0}; });
}

// The same in a format for tiles, at most kBlockK rows of each factor: both are packed here.
template <class Format>
void outer_block_packed(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t rows, int64_t columns, int64_t kc,
                        const Store<float>& store) {
  constexpr int64_t R = Tile<float>::rows, C = Tile<float>::columns;
  constexpr int64_t kPanelA = PanelSize<Format, float, true>::a, kPanelB = PanelSize<Format, float, true>::b;
  const int64_t a_panels = ceil_div(rows, R), b_panels = ceil_div(columns, C);
  Scratch<float> packed_a(a_panels * kPanelA), packed_b(kPanelB);
  const auto fill_a = [&](auto format, float* panel, int64_t i, int64_t, int64_t) {
    fill_panel<decltype(format), false, kColumnStep>(panel, 0, kc, kc, [&](float* to, int64_t k, int64_t n) {
      pack_a_columns(to, a + k * lda + i * R, lda, min64(rows - i * R, R), n);
    });
  };
  const auto fill_b = [&](auto format, float* panel, int64_t j, int64_t, int64_t) {
    fill_panel<decltype(format), true, C>(panel, 0, kc, kc, [&](float* to, int64_t k, int64_t n) {
      pack_b_strided(to, b + k * ldb + j * C, ldb, 1, min64(columns - j * C, C), n);
    });
  };
  const auto place = [&](int64_t i, int64_t j) {
    return Place<float>{{store.c + i * R * store.ldc + j * C, store.ldc, store.accumulate}, min64(rows - i * R, R),
                        min64(columns - j * C, C)};
  };
  for (int64_t i = 0; i < a_panels; ++i) fill_a(Format{}, packed_a.data + i * kPanelA, i, 0, kBlockK);
  for (int64_t j = 0; j < b_panels; ++j) {
    fill_b(Format{}, packed_b.data, j, 0, kBlockK);
    multiply_rows_of_panels<Format, true>(packed_a.data, kPanelA, packed_b.data, kc, 0, a_panels, j, Ahead<float>{packed_b.data},
                                          place, fill_a, fill_b);
  }
}

// C[M, N] = A' B from a long K (weight gradients), as gemm_long_k; C is contiguous. A[K, M] lies in memory in rows of lda; rows
// of B are gathered by fill_b(to, ld, first_column, columns, first_k, rows), or lie in rows of N at `b`, if that is given. A
// block of k of both factors is copied into panels, row by row, and while it is multiplied the next one comes from memory.
template <class T, class FillB>
void sum_outer_products(int64_t M, int64_t N, int64_t K, const T* a, int64_t lda, const FillB& fill_b, const T* b, T* c) {
  const int64_t size = M * N;
  if (size == 0) return;
  constexpr int64_t C = Tile<T>::columns, L = Vec<T>::lanes, kTogether = 8;  // rows that are gathered at a time
  constexpr int64_t kMostElements = int64_t{1} << 17;                        // a block of both factors takes half of an L2
  int64_t chunks = max64(1, min64(16, ceil_div(K, 4 * kBlockK)));
  // Few chunks: threads share the columns too.
  const int64_t panels = ceil_div(N, C), pieces = min64(panels, chunks >= 8 ? 1 : ceil_div(16, chunks));
  const int64_t b_panels = ceil_div(panels, pieces), piece = b_panels * C;
  const int64_t rows = max64(kTogether, min64(kBlockK, kMostElements / (M + piece) / kTogether * kTogether));
  const int64_t per_chunk = max64(1, ceil_div(ceil_div(K, rows), chunks)) * rows;
  chunks = max64(1, ceil_div(K, per_chunk));  // K = 0: one empty chunk writes the zeros
  const int64_t panel = outer_panel(M), a_panels = ceil_div(M, panel), size_a = rows * kColumnStep, size_b = rows * C;
  const int64_t ahead_a = lda == M ? rows * M : 0, ahead_b = b && pieces == 1 ? rows * N : 0;
  const int64_t lines = ceil_div(ahead_a + ahead_b, a_panels * b_panels * rows);
  Scratch<T> copies(chunks > 1 ? chunks * size : 1);
  parallel_for(chunks * pieces, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> own_a(a_panels * size_a), own_b(b_panels * size_b), gathered(b ? 0 : kTogether * piece);
    for (int64_t t = begin; t < end; ++t) {
      const int64_t chunk = t / pieces, j0 = t % pieces * piece, columns = min64(N - j0, piece);
      if (columns <= 0) continue;
      T* to = (chunks > 1 ? copies.data + chunk * size : c) + j0;
      const int64_t k_begin = chunk * per_chunk, k_end = min64(K, k_begin + per_chunk);
      for (int64_t k0 = k_begin; k0 == k_begin || k0 < k_end; k0 += rows) {
        const int64_t kc = max64(0, min64(k_end - k0, rows)), next = k0 + rows;
        for (int64_t k = 0; k < kc; ++k) {
          const T* row = a + (k0 + k) * lda;
          for (int64_t p = 0; p < a_panels; ++p)
            for (int64_t i = 0, at = min64(p * panel, M - panel); i < kColumnStep; i += L)
              Vec<T>::load_n(row + at + i, max64(0, M - at - i)).store(own_a.data + p * size_a + k * kColumnStep + i);
          if (!b && k % kTogether == 0) fill_b(gathered.data, piece, j0, columns, k0 + k, min64(kc - k, kTogether));
          row = b ? b + (k0 + k) * N + j0 : gathered.data + k % kTogether * piece;
          for (int64_t j = 0; j < columns; j += L)
            Vec<T>::load_n(row + j, columns - j).store(own_b.data + j / C * size_b + k * C + j % C);
        }
        outer_panels<T, Numbers<T>>(
            {own_a.data, kColumnStep, size_a, a_panels * size_a}, {own_b.data, C, size_b, b_panels * size_b}, panel, M, columns,
            kc, {to, N, k0 > k_begin}, [&](int64_t product) {
              const int64_t at = product * rows * lines;
              if (next >= K || at >= ahead_a + ahead_b) return Stream<T>{own_a.data, 0};
              return Stream<T>{at < ahead_a ? a + next * M + at : b + next * N + (at - ahead_a), lines};
            });
      }
    }
  });
  if (chunks > 1) add_copies(copies.data, chunks, size, c);
}

}  // namespace
}  // namespace pydl
