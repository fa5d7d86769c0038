// Reading and adding by position along one axis, of arrays seen as [outer, n, inner].
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

struct IndexArgs {
  Array array;   // [outer, n, inner]: read by gather (any strides), added to by scatter_add (C order)
  Array index;   // int64 [outer, m, inner], any strides (0 repeats): positions along n
  Array values;  // [outer, m, inner]: written by gather (C order), read by scatter_add (any strides)
};
// values[o, i, k] = array[o, index[o, i, k], k]; any element type of 1, 4 or 8 bytes.
PYDL_KERNEL(index_gather, void(const IndexArgs& args));
// array[o, index[o, i, k], k] += values[o, i, k]; each element receives its values in the order of i.
PYDL_KERNEL(index_scatter_add, void(const IndexArgs& args));

}  // namespace pydl
