#include "cpu/index.h"

#include "bindings/array.h"

namespace pydl {

PYDL_BINDINGS(index) {
  m.def("index_gather", [](const py::object& array, const py::object& index, const py::object& out) {
    const IndexArgs args{view(array), view(index), view(out, true)};
    py::gil_scoped_release release;
    index_gather(args);
  });
  m.def("index_scatter_add", [](const py::object& out, const py::object& index, const py::object& values) {
    const IndexArgs args{view(out, true), view(index), view(values)};
    py::gil_scoped_release release;
    index_scatter_add(args);
  });
}

}  // namespace pydl
