#include "cpu/norm.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

PYDL_BINDINGS(norm) {
  m.def("column_norm", [](Object x, Object y, Object weight, Object bias, Object running_mean, Object running_var,
                          Object mean, Object rstd, bool training, double momentum, double eps, Object residual, bool relu,
                          bool known) {
    const ColumnNormArgs args{view(x), view(y, true), optional_view(weight), optional_view(bias),
                              optional_view(running_mean, training), optional_view(running_var, training), view(mean, !known),
                              view(rstd, !known), training, momentum, eps, optional_view(residual), relu, known};
    launch(column_norm_forward, args);
  });
  m.def("column_norm_backward", [](Object dy, Object x, Object weight, Object mean, Object rstd, Object dx, Object dweight,
                                   Object dbias, bool training, bool relu, Object y, Object bias,
                                   Object dresidual) {
    const ColumnNormGradArgs args{view(dy), view(x), optional_view(weight), view(mean), view(rstd),
                                  optional_view(dx, true), optional_view(dweight, true), optional_view(dbias, true), training,
                                  relu, optional_view(y), optional_view(bias), optional_view(dresidual, true)};
    launch(column_norm_backward, args);
  });
  m.def("row_norm", [](Object x, Object y, Object weight, Object bias, Object mean, Object rstd, double eps) {
    const RowNormArgs args{view(x), view(y, true), optional_view(weight), optional_view(bias), optional_view(mean, true),
                           view(rstd, true), eps};
    launch(row_norm_forward, args);
  });
  m.def("row_norm_backward", [](Object dy, Object x, Object weight, Object mean, Object rstd, Object dx, Object dweight,
                                Object dbias) {
    const RowNormGradArgs args{view(dy), view(x), optional_view(weight), optional_view(mean), view(rstd),
                               optional_view(dx, true), optional_view(dweight, true), optional_view(dbias, true)};
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
