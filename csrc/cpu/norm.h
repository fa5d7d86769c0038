// Normalisation. Three shapes of problem:
//   columns: [groups, rows, channels], statistics over the rows (batch and instance norm) and over runs of channels (group norm);
//   rows:    [rows, features], statistics of each row (layer and RMS norm);
//   local:   [rows, channels], the sum of squares of neighbouring channels (local response normalisation).
// Sums are formed in short blocks and joined in float64 in a fixed order. Kernels overwrite their outputs; an Array without
// data is an absent option.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

struct ColumnNormArgs {
  Array x, y;                       // [groups, rows, channels], C order
  Array weight, bias;               // [channels], optional
  Array running_mean, running_var;  // [channels], optional in training; one set for each group of channels otherwise
  Array mean, rstd;                 // [groups, sets], float64: mean and 1/sqrt(var + eps) of channels/sets neighbours, written
  bool training;                    // statistics of x, running ones moved by `momentum`; else the running ones
  double momentum, eps;
  Array residual;                   // like x, optional: added to the result
  bool relu;                        // and then negative values become 0
  bool known;                       // mean and rstd are given, as an earlier call wrote them: no statistics are taken or moved
};
PYDL_KERNEL(column_norm_forward, void(const ColumnNormArgs& args));

struct ColumnNormGradArgs {
  Array dy, x;        // as in forward
  Array weight;       // [channels], optional
  Array mean, rstd;   // as written by forward
  Array dx, dweight, dbias;  // each optional; dx may be dy
  bool training;
  bool relu;         // ReLU followed: dy counts where the result was positive
  Array y;           // that result; without it (and without a residual) the result is computed again from x
  Array bias;        // for that
  Array dresidual;   // optional, with y and dx: that dy, the gradient of the residual
};
PYDL_KERNEL(column_norm_backward, void(const ColumnNormGradArgs& args));

struct RowNormArgs {
  Array x, y;          // [rows, features], C order
  Array weight, bias;  // [features], optional
  Array mean, rstd;    // [rows], float64, written; without `mean` the root of the mean square (RMS norm)
  double eps;
};
PYDL_KERNEL(row_norm_forward, void(const RowNormArgs& args));

struct RowNormGradArgs {
  Array dy, x;
  Array weight;      // optional
  Array mean, rstd;  // as written by forward
  Array dx, dweight, dbias;  // each optional
};
PYDL_KERNEL(row_norm_backward, void(const RowNormGradArgs& args));

struct LocalNormArgs {
  Array x, y;            // [rows, channels], C order; for the gradient y is dx
  Array dy;              // gradient only
  int64_t size;          // channels c - size/2 .. c + (size-1)/2 are squared and summed; those outside count as 0
  double alpha, beta, k;  // y = x (k + alpha/size * sum)^-beta
};
PYDL_KERNEL(local_norm_forward, void(const LocalNormArgs& args));
PYDL_KERNEL(local_norm_backward, void(const LocalNormArgs& args));

}  // namespace pydl
