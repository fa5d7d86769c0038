// The product of one time step: few rows (the batch) times recurrent weights that were packed once for all steps.
// Unlike gemm.h the left side is read in place and the number of rows per register tile follows the batch.
#pragma once
#include <utility>

#include "cpu/gemm.h"

namespace pydl {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kTileVectors = 28;  // sums in registers
#else
constexpr int64_t kTileVectors = 12;
#endif
constexpr int64_t kRowBlock = 56;   // rows of a step that are handled together: their sums stay in L1
constexpr int64_t kMostPanels = 4;  // panels side by side in a tile of sums

// Elements between the rows of a buffer that multiply_panels reads: rows must not fall into the same cache sets.
constexpr int64_t pitch_of(int64_t n) { return ceil_div(n, 16) * 16 + 16; }

// Whether R rows x N panels of sums fit into registers, with the operands.
constexpr bool fits(int64_t R, int64_t N) { return R * kPanelVectors * N + (N > 1 ? 2 * N : 0) <= kTileVectors; }

// c[n][i][:] (+)= sum over k of a[i][k] b[n][k][:]; n counts panels, k the packed elements of the format.
template <class Format, class T, int64_t R, int64_t N>
[[gnu::noinline]] void panel_kernel(const T* __restrict a, int64_t lda, const T* __restrict b, int64_t b_stride, int64_t kc,
                                    T* __restrict c, int64_t c_stride, bool accumulate) {
  using V = Vec<T>;
  constexpr int64_t C = kPanelVectors * N, L = V::lanes, W = kPanelVectors * L;
  V sum[R][C];
#pragma GCC unroll 14
  for (int64_t i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int64_t j = 0; j < C; ++j) sum[i][j] = V::zero();
  for (int64_t k = 0; k < kc; ++k) {
    V vb[C];
#pragma GCC unroll 8
    for (int64_t j = 0; j < C; ++j) vb[j] = V::load(b + j / kPanelVectors * b_stride + k * W + j % kPanelVectors * L);
#pragma GCC unroll 14
    for (int64_t i = 0; i < R; ++i) {
      const V va = Format::splat(a + i * lda + k);
#pragma GCC unroll 8
      for (int64_t j = 0; j < C; ++j) sum[i][j] = Format::multiply(va, vb[j], sum[i][j]);
    }
  }
#pragma GCC unroll 14
  for (int64_t i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int64_t j = 0; j < C; ++j) {
      T* to = c + j / kPanelVectors * c_stride + i * W + j % kPanelVectors * L;
      (accumulate ? sum[i][j] + V::load(to) : sum[i][j]).store(to);
    }
}

template <class T>
using PanelKernel = void (*)(const T*, int64_t, const T*, int64_t, int64_t, T*, int64_t, bool);

template <class Format, class T, int64_t N, int64_t... I>
PanelKernel<T> panel_kernel_for(int64_t rows, std::integer_sequence<int64_t, I...>) {
  static constexpr PanelKernel<T> table[] = {panel_kernel<Format, T, fits(I + 1, N) ? I + 1 : 1, N>...};
  return table[rows - 1];
}

template <class Format, class T>
PanelKernel<T> panel_kernel_for(int64_t rows, int64_t panels) {
  using Rows = std::make_integer_sequence<int64_t, kPanelRows>;
  if (panels == 4) return panel_kernel_for<Format, T, 4>(rows, Rows{});
  if (panels == 2) return panel_kernel_for<Format, T, 2>(rows, Rows{});
  return panel_kernel_for<Format, T, 1>(rows, Rows{});
}

// tile[p][row][:] = a[row][0:K] times panel p, in packed elements of the format. At most kRowBlock rows and kMostPanels panels.
// The order of each sum over k depends on K alone.
template <class Format, class T>
void multiply_panels(const T* a, int64_t lda, int64_t rows, const T* b, int64_t b_stride, int64_t panels, int64_t K, T* tile,
                     int64_t tile_stride) {
  constexpr int64_t W = Tile<T>::columns;
  const int64_t blocks = ceil_div(rows, kPanelRows), most = ceil_div(rows, max64(blocks, 1));
  for (int64_t p = 0; p < panels;) {
    int64_t n = kMostPanels;  // few rows: several panels at once keep the multipliers busy
    while (n > 1 && (n > panels - p || !fits(most, n))) n /= 2;
    for (int64_t k0 = 0; k0 < K; k0 += kBlockK) {
      for (int64_t i = 0, done = 0; i < blocks; ++i) {
        const int64_t r = ceil_div(rows - done, blocks - i);
        panel_kernel_for<Format, T>(r, n)(a + done * lda + k0, lda, b + p * b_stride + k0 * W, b_stride, min64(K - k0, kBlockK),
                                  tile + p * tile_stride + done * W, tile_stride, k0 > 0);
        done += r;
      }
    }
    p += n;
  }
}

// Weights packed for multiply_panels: K rows in panels of Tile::columns columns; in pairs of rows where this thread computes in
// bfloat16.
template <class T>
struct Panels {
  int64_t K, blocks, group;  // `group` panels (one per gate) belong to a block of units
  const bool pairs;
  Scratch<T> data;

  // source(panel): address, stride of rows (k), stride of columns, number of columns.
  struct Source {
    const T* from;
    int64_t k_stride, column_stride, columns;
  };
  template <class F>
  Panels(int64_t K_, int64_t blocks_, int64_t group_, const F& source)
      : K(K_), blocks(blocks_), group(group_), pairs(in_pairs<T>()), data(K_ * blocks_ * group_ * Tile<T>::columns) {
    parallel_for(blocks * group, max64(1, 65536 / (K * Tile<T>::columns)), [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const Source s = source(p);
        T* panel = data.data + p * stride();
        pack_b_strided(panel, s.from, s.k_stride, s.column_stride, s.columns, K);
        with_format<T>([&](auto format) { format.pack_columns(panel, Tile<T>::columns, K, panel); });
      }
    });
  }
  int64_t stride() const { return K * Tile<T>::columns; }
  // Panel p from row k (even, where rows are paired) on.
  const T* panel(int64_t p, int64_t k = 0) const {
    return data.data + p * stride() + (pairs ? k / 2 : k) * Tile<T>::columns;
  }

  struct Rows {
    const T* data;
    int64_t ld;
  };
  // n rows of K_ numbers as `multiply` reads them: where they lie, or in pairs in `to`, whose rows are pitch_of(K_) apart.
  Rows rows_of(const T* a, int64_t lda, int64_t n, int64_t K_, T* to) const {
    if (!pairs) return {a, lda};
    const int64_t ld = pitch_of(K_);
    with_format<T>([&](auto format) {
      for (int64_t i = 0; i < n; ++i) format.pack_row(a + i * lda, K_, to + i * ld);
    });
    return {to, ld};
  }

  // tile[panel][row][:] = the products of rows of a, as `rows_of` gives them, with K_ rows of `count` panels from panel p, row k on.
  void multiply(const T* a, int64_t lda, int64_t rows, int64_t p, int64_t count, int64_t k, int64_t K_, T* tile,
                int64_t tile_stride) const {
    with_format<T>([&](auto format) {
      using Format = decltype(format);
      multiply_panels<Format>(a, lda, rows, panel(p, k), stride(), count, ceil_div(K_, Format::step), tile, tile_stride);
    });
  }
};

}  // namespace
}  // namespace pydl
