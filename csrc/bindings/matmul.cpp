#include "cpu/matmul.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

// A matrix as a stack of one.
static Array stacked(Array a) {
  if (a.ndim != 2) return a;
  for (int i = 2; i > 0; --i) {
    a.shape[i] = a.shape[i - 1];
    a.strides[i] = a.strides[i - 1];
  }
  a.ndim = 3;
  a.shape[0] = 1;
  a.strides[0] = 0;
  return a;
}

PYDL_BINDINGS(matmul) {
  m.def("matmul", [](const py::object& a, const py::object& b, const py::object& bias, const py::object& out, bool relu) {
    const MatmulArgs args{stacked(view(a)), stacked(view(b)), optional_view(bias), stacked(view(out, true)),
                          relu};
    launch(matmul_batched, args);
  }, py::arg("a"), py::arg("b"), py::arg("bias"), py::arg("out"), py::arg("relu") = false);
}

}  // namespace pydl
