// The inner loops of attention that are no products: exp2, masks and dropout. Internal linkage: compiled per instruction set.
#pragma once
#include "core/philox_lanes.h"
#include "core/simd_math.h"
#include "cpu/attention.h"
#include "cpu/attention_products.h"

namespace pydl {
namespace {

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

// How many of `rows` queries from i on a product takes at once: a panel, or two on tiles if they see as many of these keys.
template <class Format, class T>
int64_t rows_at_once(const Visible<T>& visible, int64_t i, int64_t rows, int64_t key, int64_t block) {
  constexpr int64_t one = kPanelRows, most = kTogether<Format> * kPanelRows;
  if (rows <= one || most == one) return min64(rows, one);
  const int64_t all = min64(rows, most);
  return visible.keys(i + one - 1, key, block) == visible.keys(i + all - 1, key, block) ? all : one;
}

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
