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
  bool mean;            // divide by the sum of the weights
  Array loss;           // [positions], or none: then
  Array out, divisor;   // one number each: the sum or the mean, and (float64) what the sum was divided by
  Array stats;          // [2, positions]: the largest score, and log(sum(exp(score - largest)))
};
// Returns the first position whose class number does not exist, or -1.
PYDL_KERNEL(cross_entropy_forward, int64_t(const CrossEntropyArgs& args));

struct CrossEntropyGradArgs {
  Array x, target, weight;
  int64_t ignore_index;
  double smoothing;
  Array stats, g, dx;   // g is the gradient of each position's loss, [positions] or one for all; dx is as x
  Array divisor;        // if given, g is one number that is divided by it first
};
PYDL_KERNEL(cross_entropy_backward, void(const CrossEntropyGradArgs& args));

}  // namespace pydl
