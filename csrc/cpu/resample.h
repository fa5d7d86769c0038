// Resampling with up to three spatial axes: each output is a weighted sum of neighbouring inputs, the weights a product of
// one factor per axis. Interpolation of every kind and its gradient (with the tables transposed) are this one kernel.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

// Output o reads inputs start[o] + k with weights[o, k] for k in [0, count[o]); start must not fall.
struct ResampleAxis {
  Array start, count;  // int64 [out]
  Array weights;       // float64 [out, taps]
};

struct ResampleArgs {
  Array x, y;  // [N, D, H, W, C] in C order
  ResampleAxis axis[3];
};

PYDL_KERNEL(resample, void(const ResampleArgs& args));

}  // namespace pydl
