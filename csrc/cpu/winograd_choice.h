// Which of the ways to convolve a call takes: the one whose estimated time is least.
#pragma once
#include "core/integer.h"
#include "cpu/conv.h"
#include "cpu/tiles.h"

namespace pydl {
namespace {

inline bool winograd_fits(const ConvArgs& a) {
  if (a.x.dtype != DType::f32 || a.groups != 1 || a.channels_in == 0) return false;
  if (a.in[0] != 1 || a.out[0] != 1 || a.kernel[0] != 1 || a.pad[0] != 0) return false;
  for (int d = 1; d < 3; ++d)
    if (a.kernel[d] != a.kernel[1] || a.stride[d] != 1 || a.dilation[d] != 1) return false;
  return a.kernel[1] == 3 || a.kernel[1] == 5;
}

// f(format) with the format in which F(kOutputs x kOutputs, kTaps x kTaps) multiplies rows (tiles; of the weight gradient, outputs) by
// columns (outputs; channels), summed over depth (channels; tiles). F(2x2, 3x3) may be computed in less than float32 (it makes
// sums of four inputs at most); the transforms of the others would multiply the rounding. For AMX, pieces of rows are made
// once for all columns: those must be many.
template <int64_t kOutputs, int64_t kTaps, class F>
PYDL_INLINE void with_winograd_format(int64_t rows, int64_t columns, int64_t depth, const F& f) {
  constexpr int64_t kManyColumns = 128;
  if (columns < kManyColumns) rows = 0;
  if constexpr (kOutputs == 2 && kTaps == 3)
    with_product_format<float>(rows, columns, depth, f);
  else
    with_float32_format(rows, columns, depth, f);
}

// Estimated work, in units of one multiplication of a matrix product (measured with AVX-512 on one core; other levels scale
// all of them alike).
inline double winograd_work(const ConvArgs& a, Direction direction, int64_t tile) {
  const bool data = direction == Direction::data_gradient, weight = direction == Direction::weight_gradient;
  const int64_t* image = data ? a.in : a.out;
  const int64_t count = a.batch * ceil_div(image[1], tile) * ceil_div(image[2], tile);
  double per_product = 1;
  const auto note = [&](auto format) { per_product = format.cost; };
  const int64_t outputs = data ? a.channels_in : a.channels_out, channels = data ? a.channels_out : a.channels_in;
  const int64_t rows = weight ? outputs : count, columns = weight ? channels : outputs, depth = weight ? count : channels;
  if (tile == 2 && a.kernel[1] == 3)
    with_winograd_format<2, 3>(rows, columns, depth, note);
  else
    with_winograd_format<4, 3>(rows, columns, depth, note);
  const double tiles = static_cast<double>(count);
  const double c = static_cast<double>(a.channels_in), o = static_cast<double>(a.channels_out);
  const int64_t size = tile + a.kernel[1] - 1;
  const double positions = static_cast<double>(size * size);
  const double per_value = 6, per_weight = 12;  // per transformed value
  return positions * (per_product * tiles * (c + 8) * (o + 8) + per_value * tiles * (c + o) + per_weight * c * o);
}

inline double product_work(const ConvArgs& a) {
  return static_cast<double>(a.kernel[1] * a.kernel[2]) * static_cast<double>(a.batch * a.out[1] * a.out[2]) *
         static_cast<double>(a.channels_in) * static_cast<double>(a.channels_out);
}

// 4 or 2: Winograd with tiles of so many outputs (2 for 5x5 filters); 0: products as they stand.
inline int winograd_tile(const ConvArgs& a, Direction direction) {
  if (a.method == ConvMethod::gemm || !winograd_fits(a)) return 0;
  if (a.method == ConvMethod::winograd2) return 2;
  if (a.method == ConvMethod::winograd4) return 4;
  if (a.channels_in < 16 || a.channels_out < 16) return 0;
  const double two = winograd_work(a, direction, 2), four = a.kernel[1] == 5 ? two : winograd_work(a, direction, 4);
  double cost = 1;
  with_product_format<float>(a.batch * a.out[1] * a.out[2], a.channels_out, a.channels_in, [&](auto format) { cost = format.cost; });
  if (cost * product_work(a) <= (two < four ? two : four)) return 0;
  return four < two ? 4 : 2;
}

}  // namespace
}  // namespace pydl
