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
  Array loss, used;     // [positions]: the loss, and the weight of its target (0 if ignored)
  Array stats;          // [2, positions]: the largest score, and log(sum(exp(score - largest)))
};
// Returns the first position whose class number does not exist, or -1.
PYDL_KERNEL(cross_entropy_forward, int64_t(const CrossEntropyArgs& args));

struct CrossEntropyGradArgs {
  Array x, target, weight;
  int64_t ignore_index;
  double smoothing;
  Array stats, g, dx;   // g [positions] is the gradient of each position's loss; dx is as x
};
PYDL_KERNEL(cross_entropy_backward, void(const CrossEntropyGradArgs& args));

}  // namespace pydl
