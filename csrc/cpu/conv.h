// Convolution with 1 to 3 spatial axes (fewer are lifted with unit axes): forward, gradient for the data (also the forward
// of transposed convolution), gradient for the weight. Data is channels-last: [N, D, H, W, C] in memory.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

// How 3x3 and 5x5 convolutions of stride 1 in float32 may be computed; others are sums of products in any case.
enum class ConvMethod : uint8_t { automatic, gemm, winograd2, winograd4 };

enum class Direction : uint8_t { forward, data_gradient, weight_gradient };

struct ConvArgs {
  int64_t batch, channels_in, channels_out, groups;
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3];
  int64_t pad[3];  // before the first element; what lies after follows from `out`
  Array x;         // [N, D, H, W, C], C order
  Array weight;    // [O, C / groups, KD, KH, KW], any strides
  Array bias;      // contiguous [O] for forward, [C] for the data gradient; or no data
  Array y;         // [N, OD, OH, OW, O], C order
  ConvMethod method = ConvMethod::automatic;
  // Forward only: what results meet before they are stored, in this order. Vectors are contiguous [O] or have no data.
  struct {
    Array weight, bias, mean, var;
    double eps;
  } norm{};        // batch norm by these statistics
  Array residual;  // of y's shape, C order, or no data
  bool relu = false;
  Array scale;     // set by conv_forward for its parts: the norm is y * scale + bias
};

// The gradient behind the ReLU of a forward pass: dx = y > 0 ? dy : 0, and sums[c] = the sum of dx over all positions.
struct ReluArgs {
  int64_t rows, channels;
  Array dy, y, dx;  // contiguous, rows x channels; dx may be dy
  Array sums;       // contiguous [channels], or no data
};

PYDL_KERNEL(conv_forward, void(const ConvArgs& args));          // writes y
PYDL_KERNEL(conv_data_gradient, void(const ConvArgs& args));    // writes x from y
PYDL_KERNEL(conv_relu_gradient, void(const ReluArgs& args));    // writes dx and sums
PYDL_KERNEL(conv_weight_gradient, void(const ConvArgs& args));  // writes weight from x and y

}  // namespace pydl
