// What packed factors of a product consist of: numbers, or pairs of bfloat16 numbers. Internal linkage: compiled per instruction
// set.
//
// A CPU with AVX512-BF16 multiplies two pairs (of neighbours along k) and adds both products to a float32 sum in the time of one
// float32 FMA: twice the products in half the memory. A pair lies in the 32 bits of a float, so that blocks, panels and
// micro-kernels are those of float32 with half as many steps along k; only packing and the innermost instruction differ.
#pragma once
#include "core/precision.h"
#include "core/simd.h"

namespace pydl {
namespace {

// Numbers as they are.
template <class T>
struct Numbers {
  static constexpr int64_t step = 1;  // numbers along k in one packed element
  static constexpr bool tiled = false;  // packed as tiles.h describes
  static constexpr double cost = 1;     // time of large products, relative to that of float32 numbers
  static PYDL_INLINE Vec<T> splat(const T* p) { return Vec<T>::splat(*p); }
  static PYDL_INLINE Vec<T> multiply(Vec<T> a, Vec<T> b, Vec<T> sum) { return fma(a, b, sum); }
  static void pack_row(const T* from, int64_t n, T* to) { std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T)); }
  static void pack_columns(const T*, int64_t, int64_t, T*, int64_t = 0) {}  // in place
};

#if defined(__AVX512BF16__)
// The upper half of 32 numbers among the lower: pairs of (0, 16), (1, 17), ...
PYDL_INLINE __m512i interleaved(__m512i halves) {
  alignas(64) static constexpr uint16_t kTurns[] = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
                                                    8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(kTurns), halves);
}

// Pairs of neighbours along k, rounded to nearest; a last number is paired with 0.
struct Pairs {
  static constexpr int64_t step = 2;
  static constexpr bool tiled = false;
  static constexpr double cost = 0.5;
  static PYDL_INLINE Vec<float> splat(const float* p) {
    int32_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return {_mm512_castsi512_ps(_mm512_set1_epi32(bits))};
  }
  static PYDL_INLINE Vec<float> multiply(Vec<float> a, Vec<float> b, Vec<float> sum) {
    return {_mm512_dpbf16_ps(sum.v, (__m512bh)a.v, (__m512bh)b.v)};
  }
  static void pack_row(const float* from, int64_t n, float* to);
  static void pack_columns(const float* from, int64_t width, int64_t n, float* to, int64_t to_width = 0);
};

// to[k / 2] = (from[k], from[k + 1])
inline void Pairs::pack_row(const float* from, int64_t n, float* to) {
  constexpr int64_t L = Vec<float>::lanes;
  for (int64_t k = 0; k < n; k += 2 * L) {
    const Vec<float> low = Vec<float>::load_n(from + k, n - k);
    const Vec<float> high = n - k > L ? Vec<float>::load_n(from + k + L, n - k - L) : Vec<float>::zero();
    const Vec<float> pairs{(Raw<float>::type)_mm512_cvtne2ps_pbh(high.v, low.v)};
    pairs.store_n(to + k / 2, (n - k + 1) / 2);
  }
}

// Of a panel with rows of `width` (whole vectors): row k / 2 of the result, whose rows are to_width apart (0: `width`), pairs the
// rows k and k + 1. `to` may be `from`.
inline void Pairs::pack_columns(const float* from, int64_t width, int64_t n, float* to, int64_t to_width) {
  constexpr int64_t L = Vec<float>::lanes;
  if (to_width == 0) to_width = width;
  for (int64_t k = 0; k < n; k += 2)
    for (int64_t j = 0; j < width; j += L) {
      const Vec<float> first = Vec<float>::load(from + k * width + j);
      const Vec<float> second = k + 1 < n ? Vec<float>::load(from + (k + 1) * width + j) : Vec<float>::zero();
      const auto both = (__m512i)_mm512_cvtne2ps_pbh(second.v, first.v);
      _mm512_storeu_si512(to + k / 2 * to_width + j, interleaved(both));
    }
}
#endif

// f(format) with the format of packed numbers in which this thread's products of T are computed.
template <class T, class F>
PYDL_INLINE auto with_format(const F& f) {
#if defined(__AVX512BF16__)
  if constexpr (sizeof(T) == sizeof(float))
    if (precision() == Precision::bfloat16) return f(Pairs{});
#endif
  return f(Numbers<T>{});
}

}  // namespace
}  // namespace pydl
