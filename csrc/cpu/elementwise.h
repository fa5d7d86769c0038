// Element-wise maps: out[i] = f(in0[i], in1[i], ...), over arrays of any strides and broadcasting.
#pragma once
#include <vector>

#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

// The functions; the order is the numbering that Python gets from map_names().
#define PYDL_MAPS(X)                                                                                               \
  X(copy, 1) X(neg, 1) X(abs, 1) X(sign, 1) X(exp, 1) X(expm1, 1) X(log, 1) X(log1p, 1) X(sqrt, 1) X(rsqrt, 1)      \
  X(square, 1) X(reciprocal, 1) X(sin, 1) X(cos, 1) X(floor, 1) X(ceil, 1) X(round, 1) X(tanh, 1) X(sigmoid, 1)     \
  X(erf, 1) X(relu, 1) X(leaky_relu, 1) X(elu, 1) X(selu, 1) X(gelu, 1) X(gelu_tanh, 1) X(silu, 1) X(softplus, 1)   \
  X(softsign, 1) X(hardtanh, 1) X(hardsigmoid, 1) X(hardswish, 1) X(clamp, 1) X(step, 1) X(scale_shift, 1)          \
  X(add, 2) X(sub, 2) X(mul, 2) X(div, 2) X(pow, 2) X(maximum, 2) X(minimum, 2) X(add_scaled, 2) X(prelu, 2)        \
  X(sign_grad, 2) X(tanh_grad, 2) X(sigmoid_grad, 2) X(relu_grad, 2) X(leaky_relu_grad, 2) X(elu_grad, 2)           \
  X(selu_grad, 2) X(gelu_grad, 2) X(gelu_tanh_grad, 2) X(silu_grad, 2) X(softplus_grad, 2) X(softsign_grad, 2)      \
  X(hardtanh_grad, 2) X(hardsigmoid_grad, 2) X(hardswish_grad, 2)                                                   \
  X(clamp_grad, 2) X(erf_grad, 2) X(max_grad, 3) X(min_grad, 3) X(mul_add, 3) X(prelu_grad, 3)

enum class Map : int {
#define X(name, arity) name,
  PYDL_MAPS(X)
#undef X
};

constexpr int kMaxInputs = 3;
constexpr int kMaxParams = 4;

struct MapArgs {
  Map map;
  int inputs;
  Array in[kMaxInputs];         // broadcastable to out; same floating dtype as out
  Array out;                    // may be the same memory as an input with the same strides
  double params[kMaxParams] = {};  // the function's constants: slope, bounds, alpha ...
};

constexpr int kMapCount = static_cast<int>(Map::prelu_grad) + 1;

PYDL_KERNEL(map_elements, void(const MapArgs& args));

struct WhereArgs {
  Array condition;  // bool
  Array a, b, out;  // one dtype, any
};
PYDL_KERNEL(where_elements, void(const WhereArgs& args));

struct CopyArgs {
  Array in, out;  // same shape and dtype, any strides
};
PYDL_KERNEL(copy_elements, void(const CopyArgs& args));

// Rows side by side: out[r] = in[0][r], in[1][r], ... Matrices of any one dtype, their rows dense.
struct JoinArgs {
  std::vector<Array> in;
  Array out;
};
PYDL_KERNEL(join_rows, void(const JoinArgs& args));

}  // namespace pydl
