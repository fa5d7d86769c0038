// Softmax and log-softmax over the middle axis of [outer, n, inner].
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

struct SoftmaxArgs {
  Array x, y;  // [outer, n, inner], C order
  bool log;
};
PYDL_KERNEL(softmax_forward, void(const SoftmaxArgs& args));

struct SoftmaxGradArgs {
  Array g, y, dx;  // gradient and result of the forward pass
  bool log;
};
PYDL_KERNEL(softmax_backward, void(const SoftmaxGradArgs& args));

}  // namespace pydl
