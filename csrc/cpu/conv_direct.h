// Direct convolution for few input channels (first layers, LeNet-5, 1-d nets) and for strides: nothing is gathered into
// panels. A filter row of KW pixels with C channels is one run of KW * C adjacent numbers in a padded copy of the image, so
// the products read the image in place.
#pragma once
#include "cpu/conv.h"

namespace pydl {

constexpr int64_t kDirectChannels = 16;

// Whether the kernels below can take this convolution and are the fastest that there are. Empty arrays and extreme sizes,
// for which a padded row would take absurd memory, are left to the general kernels.
inline bool direct_pays(const ConvArgs& a, Direction direction) {
  const bool flat = a.in[0] == 1 && a.out[0] == 1 && a.kernel[0] == 1 && a.pad[0] == 0;
  const bool usual = a.kernel[1] <= 32 && a.kernel[2] <= 32 && a.stride[1] <= 32 && a.stride[2] <= 32 && a.pad[1] <= 64 &&
                     a.pad[2] <= 64 && a.dilation[1] <= 32 && a.in[2] <= 65536 && a.out[2] <= 65536;
  const bool any = a.batch > 0 && a.channels_in > 0 && a.channels_out > 0 && a.in[1] > 0 && a.in[2] > 0 && a.out[1] > 0 &&
                   a.out[2] > 0;
  if (!flat || !usual || !any || a.groups != 1 || a.dilation[2] != 1) return false;
  if (a.channels_in <= kDirectChannels) return true;
  // Many channels, measured: rows too short for a block of registers leave sums empty, and few pixels do not pay for ordering the
  // weight. Weight gradients are better off with whole panels; data gradients with a gather, unless it leaves out strides.
  constexpr int64_t kShortest = 10, kPixels = 1024;
  if (a.out[2] < kShortest || a.batch * a.out[1] * a.out[2] < kPixels) return false;
  if (direction == Direction::forward) return a.kernel[1] * a.kernel[2] > 1;
  return direction == Direction::data_gradient && (a.stride[1] > 1 || a.stride[2] > 1) && a.channels_in % 32 == 0;
}

PYDL_KERNEL(conv_direct_forward, void(const ConvArgs& args));
PYDL_KERNEL(conv_direct_data_gradient, void(const ConvArgs& args));
PYDL_KERNEL(conv_direct_weight_gradient, void(const ConvArgs& args));

}  // namespace pydl
