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
constexpr int64_t kRowBlock = 3 * kMostTileRows;  // rows of a step that are handled together: their sums stay in L1
constexpr int64_t kMostPanels = 4;  // panels side by side in a tile of sums
// Between the tiles of two panels: one row more, so that they do not fall into the same cache sets.
template <class T>
constexpr int64_t kTileStride = (kRowBlock + 1) * Tile<T>::columns;

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
#pragma GCC unroll 4
    for (int64_t n = 0; n < N; ++n) Prefetch<T>::template of_b<W>(b + n * b_stride + k * W);
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

// Rows of a step as products read them: the numbers where they lie, and beside them pairs or pieces, if the format has them.
template <class T>
struct StepRows {
  const T* numbers;
  int64_t ld;
  const T* packed;
  int64_t packed_ld;  // between rows of pairs, or between panels of pieces
};

// Weights packed for the products of all steps: K rows in panels of Tile::columns columns; in pairs of rows where this thread
// computes in bfloat16, or in pieces for tiles (tiles.h).
template <class T>
struct Panels {
  static constexpr int64_t W = Tile<T>::columns;
  int64_t K, blocks, group;  // `group` panels (one per gate) belong to a block of units
  int64_t rows_for_tiles;    // of all steps together; 0 if tiles are out of the question
  Scratch<T> data;           // numbers or pairs
  Scratch<T> pieces;

  // source(panel): address, stride of rows (k), stride of columns, number of columns.
  struct Source {
    const T* from;
    int64_t k_stride, column_stride, columns;
  };
  // `rows` meet the weights in all steps together, at most `batch` in one; products begin at multiples of `k_step` (0: at 0).
  template <class F>
  Panels(int64_t rows, int64_t batch, int64_t k_step, int64_t K_, int64_t blocks_, int64_t group_, const F& source)
      : K(K_), blocks(blocks_), group(group_), rows_for_tiles(batch >= kMostTileRows && k_step % kTileDepth == 0 ? rows : 0),
        data(count() * stride()), pieces(in_own_format([&](auto format) { return count() * pieces_stride(format); })) {
    parallel_for(count(), max64(1, 65536 / stride()), [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const Source s = source(p);
        pack_b_strided(data.data + p * stride(), s.from, s.k_stride, s.column_stride, s.columns, K);
        in_own_format([&](auto format) { pack_panel(format, p); });
      }
    });
  }

  // Elements of n rows of K_ numbers, packed.
  int64_t rows_size(int64_t n, int64_t K_) const {
    return in_own_format([&](auto format) { return packed_size(format, n, K_); });
  }
  // n rows of K_ numbers; what is packed of them goes to `to`.
  StepRows<T> rows_of(const T* a, int64_t lda, int64_t n, int64_t K_, T* to) const {
    return in_own_format([&](auto format) { return StepRows<T>{a, lda, to, pack_rows(format, a, lda, n, K_, to)}; });
  }
  // tile[panel][row][:] = the products of rows [first, first + n) with K_ rows of `panels` panels from panel p, row k on. Whole
  // tiles of rows may be written; `first` is a multiple of kRowBlock.
  void multiply(const StepRows<T>& a, int64_t first, int64_t n, int64_t p, int64_t panels, int64_t k, int64_t K_, T* tile,
                int64_t tile_stride) const {
    in_own_format([&](auto format) { multiply_in(format, a, first, n, p, panels, k, K_, tile, tile_stride); });
  }

 private:
  int64_t count() const { return blocks * group; }
  int64_t stride() const { return K * W; }
  const T* numbers(int64_t p, int64_t k) const { return data.data + p * stride() + k * W; }

  template <class F>
  auto in_own_format(const F& f) const {
    return with_product_format<T>(rows_for_tiles, count() * W, K, f);
  }

  template <class Format>
  int64_t pieces_stride(Format) const { return 0; }
  template <class Format>
  void pack_panel(Format, int64_t p) {
    T* panel = data.data + p * stride();
    Format::pack_columns(panel, W, K, panel);
  }
  template <class Format>
  int64_t packed_size(Format, int64_t n, int64_t K_) const { return Format::step > 1 ? n * pitch_of(K_) : 0; }
  template <class Format>
  int64_t pack_rows(Format, const T* a, int64_t lda, int64_t n, int64_t K_, T* to) const {
    const int64_t ld = pitch_of(K_);
    if constexpr (Format::step > 1)
      for (int64_t i = 0; i < n; ++i) Format::pack_row(a + i * lda, K_, to + i * ld);
    return ld;
  }
  template <class Format>
  void multiply_in(Format, const StepRows<T>& a, int64_t first, int64_t n, int64_t p, int64_t panels, int64_t k, int64_t K_, T* tile,
                   int64_t tile_stride) const {
    constexpr bool packed = Format::step > 1;
    const int64_t ld = packed ? a.packed_ld : a.ld;
    multiply_panels<Format>((packed ? a.packed : a.numbers) + first * ld, ld, n, numbers(p, k / Format::step), stride(), panels,
                            ceil_div(K_, Format::step), tile, tile_stride);
  }

#if defined(PYDL_TILES)
  // Behind the pieces of a panel of weights: whether a column is tiny; behind those of a panel of rows: which rows are.
  template <int P>
  int64_t pieces_stride(Tiles<P>) const { return ceil_div(K, kTileDepth) * kChunkB<P> + kTinyMark; }
  template <int P>
  static int64_t panel_of_rows(int64_t K_) { return ceil_div(K_, kTileDepth) * kChunkA<P, kMostTileRows> + kMostTileRows; }
  template <int P>
  int64_t packed_size(Tiles<P>, int64_t n, int64_t K_) const { return ceil_div(n, kMostTileRows) * panel_of_rows<P>(K_); }

  template <int P>
  void pack_panel(Tiles<P> format, int64_t p) {
    T* to = pieces.data + p * pieces_stride(format);
    to[pieces_stride(format) - kTinyMark] = split_columns<P>(numbers(p, 0), K, to);
  }
  // Rows beyond n stay as they are: nobody reads their sums.
  template <int P>
  int64_t pack_rows(Tiles<P>, const T* a, int64_t lda, int64_t n, int64_t K_, T* to) const {
    constexpr int64_t R = kMostTileRows;
    const int64_t size = panel_of_rows<P>(K_);
    for (int64_t i = 0; i < n; ++i) {
      T* panel = to + i / R * size;
      panel[size - R + i % R] = split_row<P, R>(a + i * lda, K_, panel + i % R * kTileFloats);
    }
    return size;
  }
  // What tiles cannot compute is computed from the numbers, row by row: then no bit depends on which rows share a tile.
  template <int P>
  void multiply_in(Tiles<P> format, const StepRows<T>& a, int64_t first, int64_t n, int64_t p, int64_t panels, int64_t k, int64_t K_,
                   T* tile, int64_t tile_stride) const {
    constexpr int64_t R = kMostTileRows;
    const UseTiles<R> registers{};
    for (int64_t j = p; j < p + panels; ++j, tile += tile_stride) {
      const T* b = pieces.data + j * pieces_stride(format);
      const bool tiny = b[pieces_stride(format) - kTinyMark] != 0;
      for (int64_t i = 0; i < n; i += 2 * R)
        (n - i > R ? tile_kernel<P, true, R> : tile_kernel<P, false, R>)(a.packed + (first + i) / R * a.packed_ld, a.packed_ld, 0,
                                                                         b + k / kTileDepth * kChunkB<P>, 0, K_, K_, tile + i * W);
      if constexpr (P == 1) continue;
      for (int64_t i = 0; i < n; ++i) {
        const int64_t row = first + i;
        const bool tiny_row = a.packed[(row / R + 1) * a.packed_ld - R + row % R] != 0;
        if (tiny || tiny_row || !all_finite(tile + i * W, W))
          multiply_panels<Numbers<T>>(a.numbers + row * a.ld, a.ld, 1, numbers(j, k), stride(), 1, K_, tile + i * W, tile_stride);
      }
    }
  }
#endif
};

}  // namespace
}  // namespace pydl
