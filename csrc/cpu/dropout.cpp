#include "cpu/dropout.h"

#include "core/parallel.h"
#include "core/simd.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace pydl {
namespace {

constexpr int64_t kLanes = kDropoutGroup / 4;
constexpr int64_t kGrain = 256;  // groups of a parallel chunk

// 64-bit lanes of which the low half counts: the widening product of the low halves is one instruction on x86.
typedef uint64_t Lanes __attribute__((vector_size(PYDL_VECTOR_BYTES)));
typedef uint32_t Words __attribute__((vector_size(PYDL_VECTOR_BYTES / 2)));
constexpr int64_t kWide = PYDL_VECTOR_BYTES / 8;

PYDL_INLINE Lanes multiply_low(Lanes a, Lanes b) {
#if defined(__AVX512F__)
  return (Lanes)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);  // unmasked, gcc 12 warns of its own header
#elif defined(__AVX2__)
  return (Lanes)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Lanes)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffff) * (b & 0xffffffff);
#endif
}

// 16 blocks of Philox4x32-10 (core/philox.h is one) side by side. The lanes' high halves fill with rubbish that nothing reads.
PYDL_INLINE void philox_group(uint64_t seed, uint64_t counter, uint32_t* out) {
  constexpr int64_t N = kLanes / kWide;
  Lanes c0[N], c1[N], c2[N], c3[N], index = {};
  for (int64_t i = 0; i < kWide; ++i) index[i] = static_cast<uint64_t>(i);
  for (int64_t j = 0; j < N; ++j) {
    c0[j] = index + (counter + static_cast<uint64_t>(j * kWide));
    c1[j] = c0[j] >> 32;
    c2[j] = c3[j] = Lanes{};
  }
  const Lanes m0 = Lanes{} + 0xD2511F53u, m1 = Lanes{} + 0xCD9E8D57u;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int64_t j = 0; j < N; ++j) {
      const Lanes p0 = multiply_low(m0, c0[j]), p1 = multiply_low(m1, c2[j]);
      c0[j] = (p1 >> 32) ^ c1[j] ^ k0;
      c2[j] = (p0 >> 32) ^ c3[j] ^ k1;
      c1[j] = p1;
      c3[j] = p0;
    }
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  for (int64_t j = 0; j < N; ++j) {
    const Words w[4] = {__builtin_convertvector(c0[j], Words), __builtin_convertvector(c1[j], Words),
                        __builtin_convertvector(c2[j], Words), __builtin_convertvector(c3[j], Words)};
    for (int64_t k = 0; k < 4; ++k) std::memcpy(out + k * kLanes + j * kWide, &w[k], sizeof w[k]);
  }
}

template <class T>
void run(const DropoutArgs& a) {
  using V = Vec<T>;
  typedef uint32_t U __attribute__((vector_size(V::lanes * sizeof(uint32_t))));
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  const int64_t n = a.x.size();
  const double limit = std::nearbyint(a.p * 4294967296.0);
  const bool none = limit >= 4294967296.0;  // p = 1: no 32-bit number reaches the limit
  const uint32_t threshold = none ? 0 : static_cast<uint32_t>(limit);
  const T scale = static_cast<T>(a.scale), shift = static_cast<T>(a.shift), fill = static_cast<T>(a.fill);
  parallel_for((n + kDropoutGroup - 1) / kDropoutGroup, kGrain, [&](int64_t begin, int64_t end) {
    uint32_t random[kDropoutGroup];
    for (int64_t g = begin; g < end; ++g) {
      const int64_t first = g * kDropoutGroup, count = n - first < kDropoutGroup ? n - first : kDropoutGroup;
      const T* from = x + first;
      T* to = y + first;
      if (none) {
        for (int64_t i = 0; i < count; ++i) to[i] = fill;
        continue;
      }
      philox_group(a.seed, a.offset + static_cast<uint64_t>(g * kLanes), random);
      for (int64_t i = 0; i < count; i += V::lanes) {
        const int64_t k = count - i < V::lanes ? count - i : V::lanes;
        U words;
        std::memcpy(&words, random + i, sizeof words);
        const Mask<T> keep{__builtin_convertvector(words >= threshold, typename Raw<T>::bits)};
        select(keep, V::load_n(from + i, k) * V::splat(scale) + V::splat(shift), V::splat(fill)).store_n(to + i, k);
      }
    }
  });
}

void dropout_elements_impl(const DropoutArgs& a) {
  PYDL_CHECK(a.x.contiguous() && a.y.contiguous() && a.x.size() == a.y.size() && a.x.dtype == a.y.dtype,
             "expected two arrays of one size and dtype in C order");
  PYDL_CHECK(a.p >= 0 && a.p <= 1, "the probability must lie in [0, 1]");
  if (a.x.dtype == DType::f32) return run<float>(a);
  PYDL_CHECK(a.x.dtype == DType::f64, "expected float32 or float64");
  run<double>(a);
}

PYDL_REGISTER(dropout_elements, dropout_elements_impl);

}  // namespace
}  // namespace pydl
