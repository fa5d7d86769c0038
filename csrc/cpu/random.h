// Random numbers from Philox4x32-10: element i of a fill depends on (seed, offset + i) alone.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

enum class Distribution : int { uniform, normal, bernoulli };

struct RandomArgs {
  Distribution kind;
  uint64_t seed, offset;  // offset counts blocks of four 32-bit numbers
  double a, b;            // uniform [a, b); normal mean a, deviation b; bernoulli P(1) = a
  Array out;              // C order, float32 or float64
};
PYDL_KERNEL(random_fill, void(const RandomArgs& args));

// Blocks that a fill of n elements uses: the next fill starts there.
constexpr int64_t random_blocks(int64_t n) { return (n + 1) / 2; }

}  // namespace pydl
