#include "cpu/norm.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

namespace {

using Object = const py::object&;

Array optional(Object a, bool writable = false) { return a.is_none() ? Array{} : view(a, writable); }

}  // namespace

PYDL_BINDINGS(norm) {
  m.def("column_norm", [](Object x, Object y, Object weight, Object bias, Object running_mean, Object running_var,
                          Object mean, Object rstd, bool training, double momentum, double eps, Object residual, bool relu,
                          bool known) {
    const ColumnNormArgs args{view(x), view(y, true), optional(weight), optional(bias), optional(running_mean, training),
                              optional(running_var, training), view(mean, !known), view(rstd, !known), training, momentum, eps,
                              optional(residual), relu, known};
    launch(column_norm_forward, args);
  });
  m.def("column_norm_backward", [](Object dy, Object x, Object weight, Object mean, Object rstd, Object dx, Object dweight,
                                   Object dbias, bool training, bool relu, Object y, Object bias,
                                   Object dresidual) {
    const ColumnNormGradArgs args{view(dy), view(x), optional(weight), view(mean), view(rstd),
                                  optional(dx, true), optional(dweight, true), optional(dbias, true), training,
                                  relu, optional(y), optional(bias), optional(dresidual, true)};
    launch(column_norm_backward, args);
  });
  m.def("row_norm", [](Object x, Object y, Object weight, Object bias, Object mean, Object rstd, double eps) {
    const RowNormArgs args{view(x), view(y, true), optional(weight), optional(bias), optional(mean, true), view(rstd, true),
                           eps};
    launch(row_norm_forward, args);
  });
  m.def("row_norm_backward", [](Object dy, Object x, Object weight, Object mean, Object rstd, Object dx, Object dweight,
                                Object dbias) {
    const RowNormGradArgs args{view(dy), view(x), optional(weight), optional(mean), view(rstd),
                               optional(dx, true), optional(dweight, true), optional(dbias, true)};
    launch(row_norm_backward, args);
  });
  m.def("local_norm", [](Object x, Object y, int64_t size, double alpha, double beta, double k) {
    const LocalNormArgs args{view(x), view(y, true), Array{}, size, alpha, beta, k};
    launch(local_norm_forward, args);
  });
  m.def("local_norm_backward", [](Object dy, Object x, Object dx, int64_t size, double alpha, double beta, double k) {
    const LocalNormArgs args{view(x), view(dx, true), view(dy), size, alpha, beta, k};
    launch(local_norm_backward, args);
  });
}

}  // namespace pydl
