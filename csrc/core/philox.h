// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11): a counter-based generator.
// Number i of a stream is a function of (seed, offset + i) alone, so results depend on neither threads nor timing.
#pragma once
#include <cstdint>

namespace pydl {

struct Philox {
  uint32_t key0, key1;

  explicit constexpr Philox(uint64_t seed)
      : key0(static_cast<uint32_t>(seed)), key1(static_cast<uint32_t>(seed >> 32)) {}

  struct Block {
    uint32_t v[4];
  };

  constexpr Block operator()(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) const {
    uint32_t k0 = key0, k1 = key1;
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
      const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
      const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c1 = static_cast<uint32_t>(p1);
      c3 = static_cast<uint32_t>(p0);
      c0 = n0;
      c2 = n2;
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    return {{c0, c1, c2, c3}};
  }

  constexpr Block operator()(uint64_t counter) const {
    return (*this)(static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0);
  }
};

}  // namespace pydl
