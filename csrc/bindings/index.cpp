#include "cpu/index.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

PYDL_BINDINGS(index) {
  m.def("index_gather", [](const py::object& array, const py::object& index, const py::object& out) {
    const IndexArgs args{view(array), view(index), view(out, true)};
    launch(index_gather, args);
  });
  m.def("index_scatter_add", [](const py::object& out, const py::object& index, const py::object& values) {
    const IndexArgs args{view(out, true), view(index), view(values)};
    launch(index_scatter_add, args);
  });
}

}  // namespace pydl
