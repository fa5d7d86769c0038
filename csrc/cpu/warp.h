// Images seen through a projective map: each output pixel looks up its place in the input (rotation, shear, perspective).
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

enum class WarpBorder : int { constant, edge, reflect };

struct WarpArgs {
  Array x, y;         // [C, H, W] and [C, H', W'] in C order, of one dtype
  double matrix[9];   // from (column, row, 1) of the output to that of the input; whole numbers are pixel centres
  Array fill;         // float64 [C]: what lies outside under WarpBorder::constant
  bool linear;        // bilinear (float32, float64, uint8), or the nearest pixel (any dtype)
  WarpBorder border;
};

PYDL_KERNEL(warp, void(const WarpArgs& args));

}  // namespace pydl
