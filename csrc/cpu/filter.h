// One small kernel slid over planes (grey images, single channels): y[n, i, j] = sum over u, v of k[u, v] x[n, i + u, j + v].
// Convolution layers mix many channels and vectorise over them (conv.h); here a vector is neighbouring columns of one plane.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

struct FilterArgs {
  Array x, kernel, y;  // [N, H, W], [KH, KW], [N, H - KH + 1, W - KW + 1], C order, one dtype (float32 or float64)
};

PYDL_KERNEL(filter_planes, void(const FilterArgs& args));

}  // namespace pydl
