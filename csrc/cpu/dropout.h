// Dropout: elements kept or dropped by counter-based random numbers. Nothing is stored: backward draws the same numbers again.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

// Random numbers come in groups of 16 Philox blocks: element e is dropped if word (e / 16) % 4 of block
// offset + e / 64 * 16 + e % 16 is below p * 2^32.
constexpr int64_t kDropoutGroup = 64;
constexpr int64_t dropout_blocks(int64_t n) { return (n + kDropoutGroup - 1) / kDropoutGroup * (kDropoutGroup / 4); }

struct DropoutArgs {
  Array x, y;                 // C order, one shape and dtype
  double p;                   // probability to drop, 0 to 1
  double scale, shift, fill;  // y = x * scale + shift where kept, fill where dropped
  uint64_t seed, offset;
};
PYDL_KERNEL(dropout_elements, void(const DropoutArgs& args));

}  // namespace pydl
