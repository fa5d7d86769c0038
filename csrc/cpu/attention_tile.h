// The inner loops of attention: register-blocked products of small matrices in cache, packing, exp2, masks and dropout.
// Internal linkage: compiled per instruction set.
#pragma once
#include "core/philox_lanes.h"
#include "core/simd_math.h"
#include "cpu/attention.h"
#include "cpu/gemm.h"

namespace pydl {
namespace {

// Keys per block: whole tiles both as rows (gradients of keys and values) and as columns (scores).
#if defined(__AVX512F__)
constexpr int64_t kKeys = 224;
#else
constexpr int64_t kKeys = 240;
#endif
static_assert(kKeys % kPanelRows == 0 && kKeys % Tile<float>::columns == 0 && kKeys <= kBlockK && kKeys % 4 == 0);

// c[i][j] (+)= sum over k of A(i, k) b[k][j] for R rows and one panel of columns. A(i, k) is a[i * kPitch + k], or
// a[k * kPitch + i] when kTransposed; b has rows of Tile::columns; `columns` of them are written.
template <class T, int64_t R, bool kTransposed>
[[gnu::noinline]] void tile_product(const T* __restrict a, const T* __restrict b, int64_t kc, T* __restrict c, int64_t ldc,
                                    int64_t rows, int64_t columns, bool accumulate) {
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
      const V va = V::splat(kTransposed ? a[k * kPitch + i] : a[i * kPitch + k]);
#pragma GCC unroll 2
      for (int64_t j = 0; j < C; ++j) sum[i][j] = fma(va, vb[j], sum[i][j]);
    }
  }
  if (columns == C * L) {
#pragma GCC unroll 14
    for (int64_t i = 0; i < R; ++i) {
      if (i >= rows) break;
#pragma GCC unroll 2
      for (int64_t j = 0; j < C; ++j) {
        T* to = c + i * ldc + j * L;
        (accumulate ? sum[i][j] + V::load(to) : sum[i][j]).store(to);
      }
    }
    return;
  }
#pragma GCC unroll 14
  for (int64_t i = 0; i < R; ++i) {
    if (i >= rows) break;
#pragma GCC unroll 2
    for (int64_t j = 0; j < C; ++j) {
      const int64_t n = columns - j * L;
      if (n <= 0) break;
      T* to = c + i * ldc + j * L;
      (accumulate ? sum[i][j] + V::load_n(to, n) : sum[i][j]).store_n(to, n);
    }
  }
}

// All columns of one panel of rows: c[rows][columns] (+)= A b; panels of b are `b_stride` elements apart.
template <class T, bool kTransposed>
void panel_product(const T* a, const T* b, int64_t b_stride, int64_t kc, T* c, int64_t ldc, int64_t rows, int64_t columns,
                   bool accumulate) {
  constexpr int64_t C = Tile<T>::columns;
  const auto tile = rows > 8 || kPanelRows < 8 ? tile_product<T, kPanelRows, kTransposed>
                    : rows > 4                 ? tile_product<T, 8, kTransposed>
                    : rows > 1                 ? tile_product<T, 4, kTransposed>
                                               : tile_product<T, 1, kTransposed>;
  for (int64_t j = 0; j < columns; j += C)
    tile(a, b + j / C * b_stride, kc, c + j, ldc, rows, min64(C, columns - j), accumulate);
}

// 2^x for x <= 0; exactly 0 below -126 (and for -inf). float32: polynomial of the Cephes library's exp2f on [-1/2, 1/2].
PYDL_INLINE Vec<float> exp2_negative(Vec<float> x) {
  constexpr float c[] = {1.535336188319500e-4f, 1.339887440266574e-3f, 9.618437357674640e-3f,
                         5.550332471162809e-2f, 2.402264791363012e-1f, 6.931472028550421e-1f};
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23: the low bits of x + magic are x rounded
  using Bits = Raw<float>::bits;
  const Vec<float> shifted = x + magic, r = x - (shifted - magic);
  const Vec<float> p = fma(polynomial(r, c), r, Vec<float>::splat(1.0f));
  const Vec<float> power{(Raw<float>::type)(((Bits)shifted.v << 23) + (127 << 23))};
  return select(x < -126.0, Vec<float>::zero(), p * power);
}
PYDL_INLINE Vec<double> exp2_negative(Vec<double> x) { return per_lane(x, [](double a) { return std::exp2(a); }); }

// ---------------------------------------------------------------------------------------------------- packing
// Rows of a matrix with a row and a column stride.
template <class T>
struct Rows {
  const T* data;
  int64_t row, column;
  const T* at(int64_t i) const { return data + i * row; }
};

// As the left operand: n rows of E elements, times `factor`, in blocks of kBlockK columns and panels of kPanelRows rows; rows
// beyond n in the last panel are zero. Element (i, e) of block e / kBlockK is at (block * padded_rows + i) * kPitch + e % kBlockK.
template <class T>
void pack_left(const Rows<T>& x, int64_t n, int64_t E, T factor, T* to) {
  using V = Vec<T>;
  const int64_t padded = ceil_div(n, kPanelRows) * kPanelRows;
  for (int64_t e0 = 0; e0 < E; e0 += kBlockK, to += padded * kPitch) {
    const int64_t kc = min64(kBlockK, E - e0);
    for (int64_t i = 0; i < padded; ++i) {
      T* row = to + i * kPitch;
      if (i >= n) {
        std::memset(row, 0, static_cast<size_t>(kc) * sizeof(T));
      } else if (x.column == 1) {
        const T* from = x.at(i) + e0;
        for (int64_t e = 0; e < kc; e += V::lanes) {
          const int64_t m = min64(V::lanes, kc - e);
          (V::load_n(from + e, m) * V::splat(factor)).store_n(row + e, m);
        }
      } else {
        for (int64_t e = 0; e < kc; ++e) row[e] = x.at(i)[(e0 + e) * x.column] * factor;
      }
    }
  }
}
constexpr int64_t left_size(int64_t n, int64_t E) {
  return ceil_div(n, kPanelRows) * kPanelRows * kPitch * max64(1, ceil_div(E, kBlockK));
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
template <class T>
constexpr int64_t right_size(int64_t n, int64_t F) {
  return ceil_div(F, Tile<T>::columns) * Tile<T>::columns * n;
}

// As the right operand transposed: n rows of E elements become panels of Tile::columns rows each, [E][columns].
template <class T>
void pack_right_transposed(const Rows<T>& x, int64_t n, int64_t E, T* to) {
  constexpr int64_t C = Tile<T>::columns;
  for (int64_t i0 = 0; i0 < n; i0 += C, to += E * C) pack_b_strided(to, x.at(i0), x.column, x.row, min64(C, n - i0), E);
}

// ---------------------------------------------------------------------------------------------------- masks
// scores[j] becomes -inf where allowed[j] is false.
template <class T>
void block_where_false(T* scores, const bool* allowed, int64_t n) {
  using V = Vec<T>;
  typedef uint8_t Bytes __attribute__((vector_size(V::lanes)));
  const V none = V::splat(-std::numeric_limits<T>::infinity());
  int64_t j = 0;
  for (; j + V::lanes <= n; j += V::lanes) {
    Bytes bytes;
    std::memcpy(&bytes, allowed + j, sizeof bytes);
    const Mask<T> on{__builtin_convertvector(bytes, typename V::bits) != 0};
    select(on, V::load(scores + j), none).store(scores + j);
  }
  for (; j < n; ++j)
    if (!allowed[j]) scores[j] = none.v[0];
}

// Which keys a query sees: of one head of one batch element.
template <class T>
struct Visible {
  bool causal;
  int64_t causal_offset;
  const bool* allowed = nullptr;  // one of the two, or neither
  const T* added = nullptr;
  int64_t row = 0, column = 0;    // strides of the mask

  Visible(const AttentionArgs& a, int64_t n, int64_t h) : causal(a.causal), causal_offset(a.causal_offset) {
    if (!a.mask.data) return;
    const auto stride = [&](int axis) { return a.mask.shape[axis] == 1 ? 0 : a.mask.strides[axis]; };
    const int64_t start = n * stride(0) + h * stride(1);
    row = stride(2);
    column = stride(3);
    if (a.mask.dtype == DType::boolean)
      allowed = a.mask.as<bool>() + start;
    else
      added = a.mask.as<T>() + start;
  }

  // How many of the keys [key, key + n) query i may see at most: all of them, or those of the causal triangle.
  int64_t keys(int64_t i, int64_t key, int64_t n) const {
    return causal ? max64(0, min64(n, i + causal_offset + 1 - key)) : n;
  }
  // The first query that sees this key.
  int64_t first_query(int64_t key) const { return causal ? max64(0, key - causal_offset) : 0; }

  // Puts the mask on the scores (in units of log 2) of query i and keys [key, key + n): -inf where a key is not seen, and up
  // to `padded` keys.
  void apply(T* scores, int64_t i, int64_t key, int64_t n, int64_t padded) const {
    const int64_t seen = keys(i, key, n);
    constexpr T none = -std::numeric_limits<T>::infinity();
    if (allowed) {
      const bool* p = allowed + i * row + key * column;
      if (column == 1)
        block_where_false(scores, p, seen);
      else
        for (int64_t j = 0; j < seen; ++j) scores[j] = p[j * column] ? scores[j] : none;
    } else if (added) {
      constexpr T log2e = static_cast<T>(1.44269504088896340736);
      const T* p = added + i * row + key * column;
      if (column == 1)
        for (int64_t j = 0; j < seen; ++j) scores[j] += p[j] * log2e;
      else
        for (int64_t j = 0; j < seen; ++j) scores[j] += p[j * column] * log2e;
    }
    for (int64_t j = seen; j < padded; ++j) scores[j] = none;
  }
};

// ---------------------------------------------------------------------------------------------------- dropout
// The numbers of `blocks` blocks (rounded up to kWide) from counter `first` on, block after block.
inline void philox_blocks(const Philox& philox, uint64_t first, int64_t blocks, uint32_t* numbers) {
  for (int64_t b = 0; b < blocks; b += kWide, numbers += 4 * kWide) {
    Wide c[4][1];
    philox_lanes(philox, first + static_cast<uint64_t>(b), c);
    const Wide c01 = (c[0][0] & 0xffffffff) | c[1][0] << 32, c23 = (c[2][0] & 0xffffffff) | c[3][0] << 32;
    for (int64_t i = 0; i < kWide; ++i) {
      const uint64_t pair[2] = {c01[i], c23[i]};
      std::memcpy(numbers + 4 * i, pair, sizeof pair);
    }
  }
}

struct Dropout {
  Philox philox;
  uint64_t offset;
  int64_t blocks_per_row;
  uint32_t threshold;  // numbers below are dropped
  double kept;         // factor of the others

  Dropout(const AttentionArgs& a)
      : philox(a.seed), offset(a.offset), blocks_per_row((a.k.shape[2] + 3) / 4),
        threshold(static_cast<uint32_t>(min64(int64_t{0xffffffff}, static_cast<int64_t>(a.dropout * 4294967296.0)))),
        kept(a.dropout < 1 ? 1 / (1 - a.dropout) : 0) {}

  // Multiplies the weights of a row by its factors.
  template <class T>
  void apply(T* weights, int64_t row, int64_t key, int64_t n) const {
    alignas(64) T factors[kKeys];
    this->row(factors, row, key, n);
    for (int64_t j = 0; j < n; ++j) weights[j] *= factors[j];
  }

  // factors[j] for the keys [key, key + n) of a row: 0 or `kept`. key % 4 == 0; room for a multiple of 4 factors.
  template <class T>
  void row(T* factors, int64_t row, int64_t key, int64_t n) const {
    const uint64_t first = offset + static_cast<uint64_t>(row * blocks_per_row + key / 4);
    const T keep = static_cast<T>(kept);
    const int64_t blocks = (n + 3) / 4;
    alignas(64) uint32_t numbers[kKeys + 4 * kWide];
    philox_blocks(philox, first, blocks, numbers);
    for (int64_t j = 0; j < 4 * blocks; ++j) factors[j] = numbers[j] < threshold ? T(0) : keep;
  }
};

}  // namespace
}  // namespace pydl
