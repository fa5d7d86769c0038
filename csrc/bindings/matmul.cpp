#include "cpu/matmul.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

PYDL_BINDINGS(matmul) {
  m.def("matmul", [](const py::object& a, const py::object& b, const py::object& bias, const py::object& out) {
    const MatmulArgs args{view(a), view(b), bias.is_none() ? Array{} : view(bias), view(out, true)};
    launch(matmul_batched, args);
  });
}

}  // namespace pydl
