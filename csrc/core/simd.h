// Vectors whose width is the instruction set's: written once with the compilers' vector extension (gcc, clang; x86,
// ARM), compiled per level. Everything here has internal linkage: a file built for AVX-512 must never lend a function
// to one that runs on an older CPU.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define PYDL_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define PYDL_VECTOR_BYTES 32
#else
#define PYDL_VECTOR_BYTES 16
#endif

#define PYDL_INLINE inline __attribute__((always_inline))

namespace pydl {
namespace {

template <class T>
struct Raw;
template <>
struct Raw<float> {
  typedef float type __attribute__((vector_size(PYDL_VECTOR_BYTES)));
  typedef int32_t bits __attribute__((vector_size(PYDL_VECTOR_BYTES)));
  using integer = int32_t;
};
template <>
struct Raw<double> {
  typedef double type __attribute__((vector_size(PYDL_VECTOR_BYTES)));
  typedef int64_t bits __attribute__((vector_size(PYDL_VECTOR_BYTES)));
  using integer = int64_t;
};

// The first n < lanes elements of a vector from and to memory: by masked instructions where the level has them, else by halves,
// quarters and so on. (A memcpy of unknown length is a call, and reading its result back stalls.)
template <class T>
PYDL_INLINE void store_pieces(T* p, const T* from, int64_t n, int64_t lanes) {
  for (int64_t half = lanes / 2; half > 0; half /= 2)
    if (n & half) {
      std::memcpy(p, from, static_cast<size_t>(half) * sizeof(T));
      p += half;
      from += half;
    }
}
#if defined(__AVX512F__)
PYDL_INLINE uint32_t first_bits(int64_t n) { return (1u << n) - 1; }
PYDL_INLINE Raw<float>::type load_first(const float* p, int64_t n) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>(first_bits(n)), p);
}
PYDL_INLINE Raw<double>::type load_first(const double* p, int64_t n) {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(first_bits(n)), p);
}
PYDL_INLINE void store_first(float* p, Raw<float>::type v, int64_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>(first_bits(n)), v);
}
PYDL_INLINE void store_first(double* p, Raw<double>::type v, int64_t n) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>(first_bits(n)), v);
}
#elif defined(__AVX2__)
PYDL_INLINE __m256i first_lanes(const float*, int64_t n) {
  const Raw<float>::bits lane = {0, 1, 2, 3, 4, 5, 6, 7};
  return (__m256i)(lane < static_cast<int32_t>(n));
}
PYDL_INLINE __m256i first_lanes(const double*, int64_t n) {
  const Raw<double>::bits lane = {0, 1, 2, 3};
  return (__m256i)(lane < n);
}
PYDL_INLINE Raw<float>::type load_first(const float* p, int64_t n) { return _mm256_maskload_ps(p, first_lanes(p, n)); }
PYDL_INLINE Raw<double>::type load_first(const double* p, int64_t n) { return _mm256_maskload_pd(p, first_lanes(p, n)); }
PYDL_INLINE void store_first(float* p, Raw<float>::type v, int64_t n) { _mm256_maskstore_ps(p, first_lanes(p, n), v); }
PYDL_INLINE void store_first(double* p, Raw<double>::type v, int64_t n) { _mm256_maskstore_pd(p, first_lanes(p, n), v); }
#else
template <class T>
PYDL_INLINE typename Raw<T>::type load_first(const T* p, int64_t n) {
  typename Raw<T>::type v{};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
template <class T>
PYDL_INLINE void store_first(T* p, typename Raw<T>::type v, int64_t n) {
  T from[PYDL_VECTOR_BYTES / sizeof(T)];
  std::memcpy(from, &v, sizeof v);
  store_pieces(p, from, n, PYDL_VECTOR_BYTES / static_cast<int64_t>(sizeof(T)));
}
#endif

template <class T>
struct Vec {
  using type = typename Raw<T>::type;
  using bits = typename Raw<T>::bits;
  static constexpr int64_t lanes = PYDL_VECTOR_BYTES / static_cast<int64_t>(sizeof(T));
  type v;

  // x - 0 is x for every x, so the compiler is left with the broadcast alone (0 + x is not: it changes -0).
  static PYDL_INLINE Vec splat(T x) { return {x - type{}}; }
  static PYDL_INLINE Vec zero() { return {type{}}; }
  static PYDL_INLINE Vec load(const T* p) {
    Vec r;
    std::memcpy(&r.v, p, sizeof r.v);
    return r;
  }
  // The first n lanes (n <= lanes) from memory, the others zero: the tail of a loop through the same code.
  static PYDL_INLINE Vec load_n(const T* p, int64_t n) {
    return n >= lanes ? load(p) : Vec{load_first(p, n)};
  }
  PYDL_INLINE void store(T* p) const { std::memcpy(p, &v, sizeof v); }
  PYDL_INLINE void store_n(T* p, int64_t n) const {
    if (n >= lanes) return store(p);
    store_first(p, v, n);
  }
};

template <class T>
struct Mask {
  typename Raw<T>::bits m;
};

template <class T> PYDL_INLINE Vec<T> operator+(Vec<T> a, Vec<T> b) { return {a.v + b.v}; }
template <class T> PYDL_INLINE Vec<T> operator-(Vec<T> a, Vec<T> b) { return {a.v - b.v}; }
template <class T> PYDL_INLINE Vec<T> operator*(Vec<T> a, Vec<T> b) { return {a.v * b.v}; }
template <class T> PYDL_INLINE Vec<T> operator/(Vec<T> a, Vec<T> b) { return {a.v / b.v}; }
template <class T> PYDL_INLINE Vec<T> operator-(Vec<T> a) { return {-a.v}; }
template <class T> PYDL_INLINE Vec<T>& operator+=(Vec<T>& a, Vec<T> b) { a.v += b.v; return a; }
// Scalars meet vectors as doubles in formulas: 0.5 * x reads like the paper and is rounded to T once.
template <class T> PYDL_INLINE Vec<T> operator+(Vec<T> a, double b) { return {a.v + static_cast<T>(b)}; }
template <class T> PYDL_INLINE Vec<T> operator-(Vec<T> a, double b) { return {a.v - static_cast<T>(b)}; }
template <class T> PYDL_INLINE Vec<T> operator*(Vec<T> a, double b) { return {a.v * static_cast<T>(b)}; }
template <class T> PYDL_INLINE Vec<T> operator/(Vec<T> a, double b) { return {a.v / static_cast<T>(b)}; }
template <class T> PYDL_INLINE Vec<T> operator+(double a, Vec<T> b) { return {static_cast<T>(a) + b.v}; }
template <class T> PYDL_INLINE Vec<T> operator-(double a, Vec<T> b) { return {static_cast<T>(a) - b.v}; }
template <class T> PYDL_INLINE Vec<T> operator*(double a, Vec<T> b) { return {static_cast<T>(a) * b.v}; }
template <class T> PYDL_INLINE Vec<T> operator/(double a, Vec<T> b) { return {static_cast<T>(a) / b.v}; }

template <class T> PYDL_INLINE Mask<T> operator>(Vec<T> a, Vec<T> b) { return {a.v > b.v}; }
template <class T> PYDL_INLINE Mask<T> operator<(Vec<T> a, Vec<T> b) { return {a.v < b.v}; }
template <class T> PYDL_INLINE Mask<T> operator>(Vec<T> a, double b) { return {a.v > static_cast<T>(b)}; }
template <class T> PYDL_INLINE Mask<T> operator<(Vec<T> a, double b) { return {a.v < static_cast<T>(b)}; }
template <class T> PYDL_INLINE Mask<T> operator>=(Vec<T> a, Vec<T> b) { return {a.v >= b.v}; }
template <class T> PYDL_INLINE Mask<T> operator>=(Vec<T> a, double b) { return {a.v >= static_cast<T>(b)}; }
template <class T> PYDL_INLINE Mask<T> operator<=(Vec<T> a, double b) { return {a.v <= static_cast<T>(b)}; }
template <class T> PYDL_INLINE Mask<T> operator<=(Vec<T> a, Vec<T> b) { return {a.v <= b.v}; }
template <class T> PYDL_INLINE Mask<T> operator==(Vec<T> a, Vec<T> b) { return {a.v == b.v}; }
template <class T> PYDL_INLINE Mask<T> operator!=(Vec<T> a, Vec<T> b) { return {a.v != b.v}; }
template <class T> PYDL_INLINE Mask<T> operator&(Mask<T> a, Mask<T> b) { return {a.m & b.m}; }
template <class T> PYDL_INLINE Mask<T> operator|(Mask<T> a, Mask<T> b) { return {a.m | b.m}; }

template <class T> PYDL_INLINE Vec<T> select(Mask<T> m, Vec<T> a, Vec<T> b) { return {m.m ? a.v : b.v}; }
// Keeps a load apart from the mask that is then applied: as one masked load it would wait for the numbers that the mask is
// made of, and two misses of the cache would follow each other.
template <class T>
PYDL_INLINE Vec<T> loaded(Vec<T> a) {
#if defined(__AVX512F__)
  asm("" : "+v"(a.v));
#endif
  return a;
}

template <class T> PYDL_INLINE Mask<T> is_nan(Vec<T> a) { return {a.v != a.v}; }
// a * b + c; contracted to one FMA where the instruction set has it.
template <class T> PYDL_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) { return {a.v * b.v + c.v}; }
// NaN in `a` gives `b`; a NaN in `b` gives NaN (as the x86 instruction): kernels that must keep NaN say so themselves.
template <class T> PYDL_INLINE Vec<T> max(Vec<T> a, Vec<T> b) { return {a.v > b.v ? a.v : b.v}; }
template <class T> PYDL_INLINE Vec<T> min(Vec<T> a, Vec<T> b) { return {a.v < b.v ? a.v : b.v}; }
#if defined(__AVX512F__)  // gcc makes a comparison and a masked copy of the above
PYDL_INLINE Vec<float> max(Vec<float> a, Vec<float> b) { return {_mm512_maskz_max_ps(0xffff, a.v, b.v)}; }
PYDL_INLINE Vec<float> min(Vec<float> a, Vec<float> b) { return {_mm512_maskz_min_ps(0xffff, a.v, b.v)}; }
#endif
// Bounds that let NaN through: a comparison with NaN is false and gives the second argument.
template <class T> PYDL_INLINE Vec<T> at_most(Vec<T> a, double b) { return min(Vec<T>::splat(static_cast<T>(b)), a); }
template <class T> PYDL_INLINE Vec<T> at_least(Vec<T> a, double b) { return max(Vec<T>::splat(static_cast<T>(b)), a); }
template <class T> PYDL_INLINE Vec<T> abs(Vec<T> a) {
  constexpr auto sign = std::numeric_limits<typename Raw<T>::integer>::min();
  return {(typename Raw<T>::type)((typename Raw<T>::bits)a.v & ~(typename Raw<T>::bits{} + sign))};
}
template <class T> PYDL_INLINE Vec<T> copysign(Vec<T> magnitude, Vec<T> from) {
  constexpr auto sign = std::numeric_limits<typename Raw<T>::integer>::min();
  const auto mask = typename Raw<T>::bits{} + sign;
  return {(typename Raw<T>::type)(((typename Raw<T>::bits)magnitude.v & ~mask) | ((typename Raw<T>::bits)from.v & mask))};
}

// Lane by lane through a scalar function: where precision matters more than speed (float64, rare functions).
template <class T, class F>
PYDL_INLINE Vec<T> per_lane(Vec<T> a, F f) {
  for (int64_t i = 0; i < Vec<T>::lanes; ++i) a.v[i] = f(a.v[i]);
  return a;
}
template <class T> PYDL_INLINE Vec<T> sqrt(Vec<T> a) {
  return per_lane(a, [](T x) { return std::sqrt(x); });
}

// Lanes from a (index below L) or b (index - L), chosen when compiled.
#if defined(__clang__)
template <class T, int... I>
PYDL_INLINE Vec<T> pick(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  return {__builtin_shufflevector(a.v, b.v, I...)};
}
#else
template <class T, int... I>
PYDL_INLINE Vec<T> pick(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  return {__builtin_shuffle(a.v, b.v, typename Vec<T>::bits{I...})};
}
#endif

// Joins the lanes in halves by f(a, b): the upper half onto the lower one, then a quarter onto a quarter ...
template <int64_t kHalf, class T, class F, int... I>
PYDL_INLINE Vec<T> fold(Vec<T> a, const F& f, std::integer_sequence<int, I...> lanes) {
  if constexpr (kHalf == 0) {
    return a;
  } else {
    constexpr int L = static_cast<int>(sizeof...(I)), half = static_cast<int>(kHalf);
    return fold<kHalf / 2>(f(a, pick(a, a, std::integer_sequence<int, (I + half) % L...>{})), f, lanes);
  }
}
template <class T, class F> PYDL_INLINE T fold_lanes(Vec<T> a, const F& f) {
  constexpr int64_t L = Vec<T>::lanes;
  return fold<L / 2>(a, f, std::make_integer_sequence<int, static_cast<int>(L)>{}).v[0];
}
template <class T> PYDL_INLINE T sum_lanes(Vec<T> a) {
  return fold_lanes(a, [](Vec<T> x, Vec<T> y) { return x + y; });
}
template <class T> PYDL_INLINE T max_lanes(Vec<T> a) {
  return fold_lanes(a, [](Vec<T> x, Vec<T> y) { return max(x, y); });
}

// Bytes to and from the width of float. gcc takes the conversion of vectors apart lane by lane: ten times slower.
typedef uint8_t Bytes __attribute__((vector_size(Vec<float>::lanes)));
#if defined(__AVX512F__)
PYDL_INLINE Vec<float>::bits widen(Bytes b) { return (Vec<float>::bits)_mm512_maskz_cvtepu8_epi32(0xffff, (__m128i)b); }
PYDL_INLINE Bytes narrow(Vec<float>::bits v) { return (Bytes)_mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)v); }
#else
#if defined(__AVX2__)
PYDL_INLINE Vec<float>::bits widen(Bytes b) {
  int64_t low;
  std::memcpy(&low, &b, sizeof low);
  return (Vec<float>::bits)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(low));
}
#else
PYDL_INLINE Vec<float>::bits widen(Bytes b) { return __builtin_convertvector(b, Vec<float>::bits); }
#endif
PYDL_INLINE Bytes narrow(Vec<float>::bits v) { return __builtin_convertvector(v, Bytes); }
#endif

}  // namespace
}  // namespace pydl
