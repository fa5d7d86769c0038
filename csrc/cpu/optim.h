// One optimizer step over all parameters in one call.
#pragma once
#include <vector>

#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

enum class Optimizer : int { sgd, adam, rmsprop, adagrad };

struct OptimArgs {
  Optimizer kind;
  // One entry for each parameter; all arrays of an entry are dense with the same strides. Unused state is empty.
  std::vector<Array> parameters, gradients, state1, state2, state3;
  bool first;               // SGD: the momentum buffer is empty and starts at the gradient (PyTorch's rule)
  bool nesterov, decoupled, maximize, amsgrad, centered;
  double lr, weight_decay;
  double momentum, dampening;      // SGD, RMSprop (momentum)
  double beta1, beta2, eps;        // Adam; RMSprop: beta2 = alpha
  double correction1, correction2; // Adam: 1 - beta^t
};
PYDL_KERNEL(optim_step, void(const OptimArgs& args));

}  // namespace pydl
