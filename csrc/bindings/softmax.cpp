#include "cpu/softmax.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

PYDL_BINDINGS(softmax) {
  m.def("softmax", [](const py::object& x, const py::object& y, bool log) {
    const SoftmaxArgs args{view(x), view(y, true), log};
    launch(softmax_forward, args);
  });
  m.def("softmax_backward", [](const py::object& g, const py::object& y, const py::object& dx, bool log) {
    const SoftmaxGradArgs args{view(g), view(y), view(dx, true), log};
    launch(softmax_backward, args);
  });
}

}  // namespace pydl
