// Reductions over an array seen as [outer][reduced][inner]: sums, extrema with their positions, cumulative sums.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

enum class Reduce : int { sum, sum_squares, sum_abs, prod, max, min, argmax, argmin };

struct ReduceArgs {
  Reduce kind;
  Array in;   // [outer, reduced, inner], C order, float32 or float64
  Array out;  // [outer, inner], same dtype; int64 for argmax, argmin
};
PYDL_KERNEL(reduce_array, void(const ReduceArgs& args));

struct CumsumArgs {
  Array in, out;  // [outer, n, inner], C order
};
PYDL_KERNEL(cumsum_array, void(const CumsumArgs& args));

}  // namespace pydl
