// Pooling with up to three spatial axes. Data is [N, D, H, W, C] in C order: channels-last, missing axes have size 1.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

// Output o reads the input at o * stride - pad + tap * dilation for taps [0, kernel), where that is inside.
// kernel == 0: adaptive, output o of n averages (or maximises) the input's o-th of n nearly equal, maybe overlapping parts.
struct PoolAxis {
  int64_t kernel, stride, pad, dilation;
};

// One struct for both directions: x is the input's side, y the output's; the direction says which of them is written.
struct PoolArgs {
  Array x, y;
  Array taps;            // max: like y, uint8 or int32: the tap that won, or the number of taps if the window saw nothing
  PoolAxis axis[3];
  bool include_pad;      // average: padding counts in the divisor
  int64_t divisor;       // average: this divisor instead; 0 for none
};

PYDL_KERNEL(max_pool_forward, void(const PoolArgs& args));   // x -> y and, if given, taps. The first of equals wins; NaN wins
PYDL_KERNEL(max_pool_scatter, void(const PoolArgs& args));   // x = sum of the y that chose it: the gradient
PYDL_KERNEL(max_pool_gather, void(const PoolArgs& args));    // y = x at the chosen tap: the gradient's adjoint
PYDL_KERNEL(max_pool_indices, void(const PoolArgs& args));   // y (int64) = flat position (d H + h) W + w of the chosen tap
PYDL_KERNEL(avg_pool_forward, void(const PoolArgs& args));   // x -> y
PYDL_KERNEL(avg_pool_backward, void(const PoolArgs& args));  // x = sum of its windows' y / divisor

// x and indices are [N, P, C], y is [N, Q, C]; false if an index is outside [0, Q) (it is skipped).
struct UnpoolArgs {
  Array x, indices, y;
};
PYDL_KERNEL(max_unpool_forward, bool(const UnpoolArgs& args));   // y = 0, then y[n, indices, c] = x; the last of equals stays
PYDL_KERNEL(max_unpool_backward, bool(const UnpoolArgs& args));  // x = y[n, indices, c]

}  // namespace pydl
