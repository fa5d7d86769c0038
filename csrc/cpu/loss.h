// Softmax cross-entropy with class numbers as targets; the probabilities are never stored.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

struct CrossEntropyArgs {
  Array x;              // scores [positions, classes], C order
  Array target;         // int64 [positions]
  Array weight;         // [classes], or empty: all 1
  int64_t ignore_index;
  double smoothing;
  Array loss;           // [positions], or none
  Array stats;          // [2, positions]: the largest score, and log(sum(exp(score - largest)))
};
struct CrossEntropyResult {
  int64_t wrong;        // the first position whose class number does not exist, or -1
  double loss, weight;  // sums over the positions: of the losses, and of their targets' weights (0 if ignored)
};
PYDL_KERNEL(cross_entropy_forward, CrossEntropyResult(const CrossEntropyArgs& args));

struct CrossEntropyGradArgs {
  Array x, target, weight;
  int64_t ignore_index;
  double smoothing;
  Array stats, g, dx;   // g is the gradient of each position's loss, [positions] or one for all; dx is as x
};
PYDL_KERNEL(cross_entropy_backward, void(const CrossEntropyGradArgs& args));

}  // namespace pydl
