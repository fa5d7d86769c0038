// The products of attention: of small matrices in cache, packed once and used by many panels, in any format of factors (numbers,
// pairs.h, tiles.h). Internal linkage: compiled per instruction set.
#pragma once
#include "cpu/gemm.h"

namespace pydl {
namespace {

constexpr int64_t kFew = 4;  // so few queries read numbers of keys and values in place

// Keys per block: whole tiles both as rows (gradients of keys and values) and as columns (scores).
#if defined(__AVX512F__)
constexpr int64_t kKeys = 224;
#else
constexpr int64_t kKeys = 240;
#endif
static_assert(kKeys % kPanelRows == 0 && kKeys % Tile<float>::columns == 0 && kKeys <= kBlockK && kKeys % 4 == 0);

constexpr int64_t round_up(int64_t n, int64_t to) { return ceil_div(n, to) * to; }

// f(format) with the format of this thread's products of L queries and S keys of so many features. Backward asks as forward did:
// only scores in the format of forward give probabilities that add up to 1.
template <class T, class F>
PYDL_INLINE void with_attention_format(int64_t L, int64_t S, int64_t features, const F& f) {
  // Measured in pairs, forward / backward: L = S = 32 1.0x / 0.8x to 0.9x, 64 1.1x / 1.0x to 1.1x, 128 1.2x, 1024 1.5x.
  constexpr int64_t kLeast = 64;
  if (min64(L, S) < kLeast) return f(Numbers<T>{});
  with_product_format<T>(L, S, features, f);
}

// Panels of rows that one product takes at once.
template <class Format>
constexpr int64_t kTogether = Format::tiled ? 2 : 1;

// ---------------------------------------------------------------------------------------------------- numbers and pairs
// c[i][j] (+)= sum over k of A(i, k) b[k][j] for R rows and one panel of columns. A(i, k) is a[i * kPitch + k], or
// a[k * kPitch + i] when kTransposed; b has rows of Tile::columns; `columns` of them are written. With pairs as format, kc and k
// count pairs. (Where the loop lies among cache lines is 1 % of attention's backward pass.)
template <class Format, class T, int64_t R, bool kTransposed>
[[gnu::noinline, gnu::aligned(64)]] void tile_product(const T* __restrict a, const T* __restrict b, int64_t kc,
                                                      T* __restrict c, int64_t ldc, int64_t rows, int64_t columns,
                                                      bool accumulate) {
  using V = Vec<T>;
  constexpr int64_t C = kPanelVectors, L = V::lanes;
  V sum[R][C];
#pragma GCC unroll 14
  for (int64_t i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int64_t j = 0; j < C; ++j) sum[i][j] = V::zero();
  for (int64_t k = 0; k < kc; ++k) {
    V vb[C];
#pragma GCC unroll 2
    for (int64_t j = 0; j < C; ++j) vb[j] = V::load(b + k * C * L + j * L);
#pragma GCC unroll 14
    for (int64_t i = 0; i < R; ++i) {
      const V va = Format::splat(a + (kTransposed ? k * kPitch + i : i * kPitch + k));
#pragma GCC unroll 2
      for (int64_t j = 0; j < C; ++j) sum[i][j] = Format::multiply(va, vb[j], sum[i][j]);
    }
  }
  store_sums<T, R, C>(sum, {c, ldc, accumulate}, 0, rows, columns);
}

// All columns of one panel of rows: c[rows][columns] (+)= A b; panels of b are `b_stride` elements apart.
template <class Format, class T, bool kTransposed>
void panel_product(const T* a, const T* b, int64_t b_stride, int64_t kc, T* c, int64_t ldc, int64_t rows, int64_t columns,
                   bool accumulate) {
  constexpr int64_t C = Tile<T>::columns;
  const auto tile = rows > 8 || kPanelRows < 8 ? tile_product<Format, T, kPanelRows, kTransposed>
                    : rows > 4                 ? tile_product<Format, T, 8, kTransposed>
                    : rows > 1                 ? tile_product<Format, T, 4, kTransposed>
                                               : tile_product<Format, T, 1, kTransposed>;
  for (int64_t j = 0; j < columns; j += C)
    tile(a, b + j / C * b_stride, kc, c + j, ldc, rows, min64(C, columns - j), accumulate);
}

// Rows of a matrix with a row and a column stride.
template <class T>
struct Rows {
  const T* data;
  int64_t row, column;
  const T* at(int64_t i) const { return data + i * row; }
};

// As a panel of the left operand: n rows of kc elements, times `factor`, kPitch apart; rows beyond n are zero.
template <class T>
void pack_left(const Rows<T>& x, int64_t n, int64_t kc, T factor, T* to) {
  using V = Vec<T>;
  for (int64_t i = 0; i < kPanelRows; ++i, to += kPitch) {
    if (i >= n) {
      std::memset(to, 0, static_cast<size_t>(kc) * sizeof(T));
    } else if (x.column == 1) {
      const T* from = x.at(i);
      for (int64_t e = 0; e < kc; e += V::lanes) {
        const int64_t m = min64(V::lanes, kc - e);
        (V::load_n(from + e, m) * V::splat(factor)).store_n(to + e, m);
      }
    } else {
      for (int64_t e = 0; e < kc; ++e) to[e] = x.at(i)[e * x.column] * factor;
    }
  }
}

// As the right operand: n rows of F elements in panels of Tile::columns columns, n rows each.
template <class T>
void pack_right(const Rows<T>& x, int64_t n, int64_t F, T* to) {
  using V = Vec<T>;
  constexpr int64_t C = Tile<T>::columns;
  for (int64_t f = 0; f < F; f += C, to += n * C) {
    const int64_t columns = min64(C, F - f);
    if (x.column != 1 || columns < C) {
      pack_b_strided(to, x.data + f * x.column, x.row, x.column, columns, n);
      continue;
    }
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < C; j += V::lanes) V::load(x.at(i) + f + j).store(to + i * C + j);
  }
}

// As the right operand transposed: n rows of E elements become panels of Tile::columns rows each, [E][columns].
template <class T>
void pack_right_transposed(const Rows<T>& x, int64_t n, int64_t E, T* to) {
  constexpr int64_t C = Tile<T>::columns;
  for (int64_t i0 = 0; i0 < n; i0 += C, to += E * C) pack_b_strided(to, x.at(i0), x.column, x.row, min64(C, n - i0), E);
}

// ---------------------------------------------------------------------------------------------------- factors
template <class Format, class T>
constexpr bool kPlain = std::is_same_v<Format, Numbers<T>>;

// Room for what a format makes of numbers: none for numbers as they are.
template <class T>
struct NoRoom {
  static constexpr T* data = nullptr;
  explicit NoRoom(int64_t) {}
};
template <class Format, class T>
using Packed = std::conditional_t<kPlain<Format, T>, NoRoom<T>, Scratch<T>>;

// The left factor: rows of numbers, [panel of kPanelRows][block of kBlockK columns][row][kPitch], and behind the same panels of
// what the format makes of them.
template <class Format, class T>
struct Left {
  static constexpr int64_t R = kPanelRows, kPanel = PanelSize<Format, T, false>::a;
  int64_t blocks;
  Scratch<T> numbers;
  Packed<Format, T> packed;

  Left(int64_t rows, int64_t depth)
      : blocks(max64(1, ceil_div(depth, kBlockK))), numbers(ceil_div(rows, R) * blocks * Tile<T>::a_panel),
        packed(ceil_div(rows, R) * blocks * kPanel) {}

  T* row(int64_t i, int64_t block = 0) const {
    return numbers.data + (i / R * blocks + block) * Tile<T>::a_panel + i % R * kPitch;
  }
  // The panel of the format that begins with row i.
  const T* panel(int64_t i) const { return kPlain<Format, T> ? row(i) : packed.data + i / R * blocks * kPanel; }

  // Rows [begin, begin + n), of which `depth` numbers count, in the format; `begin` is the first of a panel.
  void pack(int64_t begin, int64_t n, int64_t depth) const {
    if constexpr (!kPlain<Format, T>)
      for (int64_t i = begin; i < begin + n; i += R)
        for (int64_t b = 0; b < ceil_div(depth, kBlockK); ++b) {
          const int64_t rows = min64(R, begin + n - i), kc = min64(kBlockK, depth - b * kBlockK);
          T* to = packed.data + (i / R * blocks + b) * kPanel;
          if constexpr (Format::tiled) {
            for (int64_t r = rows; r < R; ++r) std::memset(row(i + r, b), 0, static_cast<size_t>(kc) * sizeof(T));
            split_panel_rows<Format::pieces>(row(i, b), kPitch, kc, to);
          } else {
            for (int64_t r = 0; r < rows; ++r) Format::pack_row(row(i + r, b), kc, to + r * kPitch);
          }
        }
  }

  // n rows of `depth` elements of x, times `factor`; rows beyond n in the last panel are zero.
  void fill(const Rows<T>& x, int64_t n, int64_t depth, T factor) const {
    for (int64_t i = 0; i < n; i += R)
      for (int64_t e = 0; e < depth; e += kBlockK)
        pack_left({x.at(i) + e * x.column, x.row, x.column}, min64(R, n - i), min64(kBlockK, depth - e), factor, row(i, e / kBlockK));
    pack(0, n, depth);
  }
};

// The transpose of rows of numbers, kPitch apart, as left factor: at most kBlockK rows are summed over. Numbers are read where
// they are, pairs lie along the rows in the same way; tiles want panels of kPanelRows columns.
template <class Format, class T>
struct LeftTransposed {
  static constexpr int64_t R = kPanelRows, kPanel = PanelSize<Format, T, false>::a;
  const T* numbers;
  Packed<Format, T> packed;

  LeftTransposed(const T* numbers_, int64_t rows, int64_t columns)
      : numbers(numbers_), packed(Format::tiled ? ceil_div(columns, R) * kPanel : ceil_div(rows, Format::step) * kPitch) {}

  const T* panel(int64_t i) const { return packed.data + i / R * kPanel; }

  void pack([[maybe_unused]] int64_t rows, [[maybe_unused]] int64_t columns) const {
    if constexpr (Format::tiled) {
      constexpr int64_t L = Vec<T>::lanes;
      alignas(64) T turned[L * kPitch];
      for (int64_t j = 0; j < columns; j += R) {
        const int64_t n = min64(R, columns - j);
        std::memset(turned + n * kPitch, 0, static_cast<size_t>((R - n) * kPitch) * sizeof(T));
        for (int64_t k = 0; k < rows; k += L)
          transpose_square(numbers + k * kPitch + j, kPitch, min64(L, rows - k), n, turned + k, kPitch, true);
        split_panel_rows<Format::pieces>(turned, kPitch, rows, packed.data + j / R * kPanel);
      }
    } else if constexpr (!kPlain<Format, T>) {
      Format::pack_columns(numbers, kPitch, rows, packed.data);
    }
  }
};

// The right factor: panels of Tile::columns columns of numbers, [panel][depth][column], and those of the format.
template <class Format, class T>
struct Right {
  static constexpr int64_t C = Tile<T>::columns;
  int64_t depth = 0;
  Scratch<T> numbers;
  Packed<Format, T> packed;

  Right(int64_t columns, int64_t most_depth)
      : numbers(round_up(columns, C) * most_depth), packed(ceil_div(columns, C) * stride(most_depth)) {}

  static constexpr int64_t stride(int64_t depth) {
    return Format::tiled ? ceil_div(depth, kBlockK) * PanelSize<Format, T, false>::b : ceil_div(depth, Format::step) * C;
  }
  int64_t stride() const { return stride(depth); }
  // The panel of column j.
  const T* numbers_of(int64_t j) const { return numbers.data + j / C * depth * C; }
  const T* panel(int64_t j) const { return kPlain<Format, T> ? numbers_of(j) : packed.data + j / C * stride(); }

  // n rows of F elements: a sum over the rows.
  void fill(const Rows<T>& x, int64_t n, int64_t F) {
    depth = n;
    pack_right<T>(x, n, F, numbers.data);
    pack(F);
  }
  // Transposed: a sum over the elements.
  void fill_transposed(const Rows<T>& x, int64_t n, int64_t E) {
    depth = E;
    pack_right_transposed<T>(x, n, E, numbers.data);
    pack(n);
  }

 private:
  void pack([[maybe_unused]] int64_t columns) const {
    if constexpr (!kPlain<Format, T>)
      for (int64_t j = 0; j < columns; j += C) {
        const T* from = numbers_of(j);
        T* to = packed.data + j / C * stride();
        if constexpr (Format::tiled)
          for (int64_t k = 0; k < depth; k += kBlockK, to += PanelSize<Format, T, false>::b)
            split_panel_b<Format::pieces>(from + k * C, min64(kBlockK, depth - k), to);
        else
          Format::pack_columns(from, C, depth, to);
      }
  }
};

// ---------------------------------------------------------------------------------------------------- products
// c (+)= A B for a panel of the left factor, in the format, and columns of the right one; K numbers are summed.
template <class Format, class T>
PYDL_INLINE void panel_sums(const T* a, const T* b, int64_t b_stride, int64_t K, const Place<T>& c) {
  for (int64_t k = 0; k == 0 || k < K; k += kBlockK)
    panel_product<Format, T, false>(a + k / kBlockK * Tile<T>::a_panel, b + k / Format::step * Tile<T>::columns, b_stride,
                                    ceil_div(min64(kBlockK, K - k), Format::step), c.store.c, c.store.ldc, c.rows, c.columns,
                                    c.store.accumulate || k > 0);
}

// c (+)= A B on tiles, for at most kTogether panels of the left factor. exactly(p, j, place) computes what tiles cannot: the sums of
// panel p and the columns from j on.
template <class Format, class T, class Exactly>
PYDL_INLINE void multiply_on_tiles(const T* a, int64_t a_stride, const Right<Format, T>& b, int64_t K, const Place<T>& c,
                                   const Exactly& exactly) {
  constexpr int64_t R = kPanelRows, C = Tile<T>::columns;
  for (int64_t j = 0; j < c.columns; j += C) {
    const auto place = [&](int64_t p) {
      return Place<T>{{c.store.c + p * R * c.store.ldc + j, c.store.ldc, c.store.accumulate}, min64(R, c.rows - p * R),
                      min64(C, c.columns - j)};
    };
    multiply_tiles<Format::pieces>(a, a_stride, ceil_div(c.rows, R), b.panel(j), K, place,
                                   [&](int64_t p) { exactly(p, j, place(p)); });
  }
}

// c (+)= A B for rows of A from row i on, at most kTogether panels of them; K numbers are summed.
template <class Format, class T>
void multiply(const Left<Format, T>& a, int64_t i, const Right<Format, T>& b, int64_t K, const Place<T>& c) {
  if constexpr (Format::tiled)
    multiply_on_tiles(a.panel(i), a.blocks * a.kPanel, b, K, c, [&](int64_t p, int64_t j, const Place<T>& to) {
      panel_sums<Numbers<T>>(a.row(i + p * a.R), b.numbers_of(j), 0, K, to);
    });
  else
    panel_sums<Format>(a.panel(i), b.panel(0), b.stride(), K, c);
}

// The same for A = W^T. K rows of W are summed; for a panel that begins with row i of A, those before first(i) are zeros.
template <class Format, class T, class First>
void multiply_transposed(const LeftTransposed<Format, T>& a, int64_t i, const Right<Format, T>& b, int64_t K, const Place<T>& c,
                         const First& first) {
  constexpr int64_t C = Tile<T>::columns;
  const auto sums = [&](auto format, const T* from, const T* panel, int64_t row, const Place<T>& to) {
    using F = decltype(format);
    const int64_t k = first(row) / F::step;
    panel_product<F, T, true>(from + k * kPitch + row, panel + k * C, b.stride(), ceil_div(K, F::step) - k, to.store.c, to.store.ldc,
                              to.rows, to.columns, to.store.accumulate);
  };
  if constexpr (Format::tiled)
    multiply_on_tiles(a.panel(i), a.kPanel, b, K, c, [&](int64_t p, int64_t j, const Place<T>& to) {
      sums(Numbers<T>{}, a.numbers, b.numbers_of(j), i + p * a.R, to);
    });
  else
    sums(Format{}, kPlain<Format, T> ? a.numbers : a.packed.data, b.panel(0), i, c);
}

// Scores of few queries, without packing: a dot product per pair. E <= kBlockK.
template <class T>
void few_scores(const T* q, const Rows<T>& keys, int64_t E, T* scores, int64_t rows, int64_t n) {
  using V = Vec<T>;
  constexpr int64_t kAtOnce = 4;  // sums in flight
  for (int64_t j = 0; j < n; j += kAtOnce)
    for (int64_t i = 0; i < rows; ++i) {
      const T* k[kAtOnce];
      V sum[kAtOnce];
      for (int64_t u = 0; u < kAtOnce; ++u) {
        k[u] = keys.at(min64(j + u, n - 1));
        sum[u] = V::zero();
      }
      int64_t e = 0;
      for (; e + V::lanes <= E; e += V::lanes)
        for (int64_t u = 0; u < kAtOnce; ++u) sum[u] = fma(V::load(q + i * kPitch + e), V::load(k[u] + e), sum[u]);
      if (e < E)
        for (int64_t u = 0; u < kAtOnce; ++u)
          sum[u] = fma(V::load_n(q + i * kPitch + e, E - e), V::load_n(k[u] + e, E - e), sum[u]);
      for (int64_t u = 0; u < kAtOnce && j + u < n; ++u) scores[i * kPitch + j + u] = sum_lanes(sum[u]);
    }
}

// out += weights * values for few queries; rows of `out` have room for whole panels.
template <class T>
void few_sums(const T* weights, const Rows<T>& values, int64_t F, T* out, int64_t ld, int64_t rows, int64_t n) {
  using V = Vec<T>;
  constexpr int64_t kAtOnce = 4;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t f = 0; f < F; f += kAtOnce * V::lanes) {
      const int64_t vectors = min64(kAtOnce, ceil_div(F - f, V::lanes));
      V sum[kAtOnce];
      for (int64_t u = 0; u < vectors; ++u) sum[u] = V::load(out + i * ld + f + u * V::lanes);
      for (int64_t j = 0; j < n; ++j) {
        const V w = V::splat(weights[i * kPitch + j]);
        for (int64_t u = 0; u < vectors; ++u)
          sum[u] = fma(w, V::load_n(values.at(j) + f + u * V::lanes, F - f - u * V::lanes), sum[u]);
      }
      for (int64_t u = 0; u < vectors; ++u) sum[u].store(out + i * ld + f + u * V::lanes);
    }
}

}  // namespace
}  // namespace pydl
