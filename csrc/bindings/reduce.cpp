#include "cpu/reduce.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

PYDL_BINDINGS(reduce) {
  py::dict kinds;
  const char* names[] = {"sum", "sum_squares", "sum_abs", "prod", "max", "min", "argmax", "argmin"};
  for (int i = 0; i < 8; ++i) kinds[names[i]] = i;
  m.attr("REDUCTIONS") = kinds;
  m.def("reduce", [](int kind, const py::object& in, const py::object& out) {
    PYDL_CHECK(kind >= 0 && kind <= static_cast<int>(Reduce::argmin), "unknown reduction");
    const ReduceArgs args{static_cast<Reduce>(kind), view(in), view(out, true)};
    launch(reduce_array, args);
  });
  m.def("cumsum", [](const py::object& in, const py::object& out) {
    const CumsumArgs args{view(in), view(out, true)};
    launch(cumsum_array, args);
  });
}

}  // namespace pydl
