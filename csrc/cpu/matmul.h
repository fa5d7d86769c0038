// Batched matrix product: out[b] = a[b] x b[b] (+ bias per column), then perhaps ReLU.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

struct MatmulArgs {
  Array a;     // [batch, M, K], any strides (0 repeats a matrix over the batch)
  Array b;     // [batch, K, N], any strides
  Array bias;  // [N] contiguous, or no axes and no data
  Array out;   // [batch, M, N], rows contiguous
  bool relu = false;  // negative sums become 0 where they are stored
};
PYDL_KERNEL(matmul_batched, void(const MatmulArgs& args));

}  // namespace pydl
