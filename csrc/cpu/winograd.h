// Winograd convolution (Winograd 1980; Lavin and Gray 2015, arXiv:1509.09308) for 3x3 and 5x5 filters of stride 1 in float32: a
// tile of M x M outputs costs (M + K - 1)^2 products per pair of channels instead of K^2 M^2, so a quarter for K = 3, M = 4 and
// 36 % for K = 5, M = 2.
#pragma once
#include "cpu/conv.h"

namespace pydl {

// Writes y, x or the weight as the kernels of conv.h do; `tile` is 2 or 4 (5x5 filters have tiles of 2 in any case). The caller
// has checked the arguments, and that winograd_fits (winograd_choice.h).
PYDL_KERNEL(winograd_forward, void(const ConvArgs& args, int tile));
PYDL_KERNEL(winograd_data_gradient, void(const ConvArgs& args, int tile));
PYDL_KERNEL(winograd_weight_gradient, void(const ConvArgs& args, int tile));

}  // namespace pydl
