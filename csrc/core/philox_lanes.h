// Philox4x32-10 (core/philox.h) for neighbouring counters side by side. Internal linkage: compiled per instruction set.
#pragma once
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "core/philox.h"
#include "core/simd.h"

namespace pydl {
namespace {

// 64-bit lanes of which the low half counts: the widening product of the low halves is one instruction on x86.
typedef uint64_t Wide __attribute__((vector_size(PYDL_VECTOR_BYTES)));
constexpr int64_t kWide = PYDL_VECTOR_BYTES / 8;

PYDL_INLINE Wide multiply_low(Wide a, Wide b) {
#if defined(__AVX512F__)
  return (Wide)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);  // unmasked, gcc 12 warns of its own header
#elif defined(__AVX2__)
  return (Wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Wide)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffff) * (b & 0xffffffff);
#endif
}

// The blocks of N * kWide counters: word w of block counter + j * kWide + i becomes the low half of words[w][j][i]. The high halves
// fill with rubbish, which nothing reads.
template <int64_t N>
PYDL_INLINE void philox_lanes(const Philox& key, uint64_t counter, Wide (&words)[4][N]) {
  Wide(&c0)[N] = words[0], (&c1)[N] = words[1], (&c2)[N] = words[2], (&c3)[N] = words[3];
  Wide index{};
  for (int64_t i = 0; i < kWide; ++i) index[i] = static_cast<uint64_t>(i);
  for (int64_t j = 0; j < N; ++j) {
    c0[j] = index + (counter + static_cast<uint64_t>(j * kWide));
    c1[j] = c0[j] >> 32;
    c2[j] = c3[j] = Wide{};
  }
  const Wide m0 = Wide{} + 0xD2511F53u, m1 = Wide{} + 0xCD9E8D57u;
  uint32_t k0 = key.key0, k1 = key.key1;
  for (int round = 0; round < 10; ++round) {
    for (int64_t j = 0; j < N; ++j) {
      const Wide p0 = multiply_low(m0, c0[j]), p1 = multiply_low(m1, c2[j]);
      c0[j] = (p1 >> 32) ^ c1[j] ^ k0;
      c2[j] = (p0 >> 32) ^ c3[j] ^ k1;
      c1[j] = p1;
      c3[j] = p0;
    }
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
}

}  // namespace
}  // namespace pydl
