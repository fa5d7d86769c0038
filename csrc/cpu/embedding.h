// Rows of a table by index, their gradients, and bags of rows reduced at once. An index out of range is reported, not read.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

struct EmbeddingArgs {
  Array weight;  // [rows, features], C order
  Array index;   // [n], int64
  Array out;     // [n, features]
};
// The position of the first index outside [0, rows), then nothing is written; or -1.
PYDL_KERNEL(embedding_forward, int64_t(const EmbeddingArgs& args));

struct EmbeddingGradArgs {
  Array grad;        // [m, features]
  Array index;       // [n], int64, all in range
  Array source;      // [n], int64: the row of grad that belongs to a position; optional, then m = n and it is the position
  Array scale;       // [n], factor of that row; optional
  Array out;         // [rows, features]: out[index[i]] is the sum of scale[i] * grad[source[i]] in the order of i
  int64_t padding;   // this row gets no gradient; -1: none
  bool by_frequency;  // each row divided by how often it is named
};
PYDL_KERNEL(embedding_backward, void(const EmbeddingGradArgs& args));

enum class Bag : int { sum, mean, max };

struct EmbeddingBagArgs {
  Bag mode;
  Array weight;    // [rows, features]
  Array index;     // [n], int64
  Array offsets;   // [bags + 1], int64: bag b is index[offsets[b]] to index[offsets[b + 1] - 1]
  Array scale;     // [n], factors, sum only; optional
  int64_t padding;  // positions with this index do not count; -1: none
  Array out;       // [bags, features]; an empty bag gives 0
  Array largest;   // max only: [bags, features], int64, the position in `index` that gave the maximum (the first), or -1
};
PYDL_KERNEL(embedding_bag_forward, int64_t(const EmbeddingBagArgs& args));  // as embedding_forward

struct EmbeddingMaxGradArgs {
  Array grad, largest;  // [bags, features]
  Array index;          // [n]
  Array out;            // [rows, features]
};
PYDL_KERNEL(embedding_max_backward, void(const EmbeddingMaxGradArgs& args));

struct EmbeddingDotArgs {
  Array grad, weight;   // [m, features], [rows, features]
  Array index, source;  // [n]
  Array out;            // [n]: the scalar product of grad[source[i]] and weight[index[i]]
  int64_t padding;      // 0 where the index is this
};
PYDL_KERNEL(embedding_dots, void(const EmbeddingDotArgs& args));

}  // namespace pydl
