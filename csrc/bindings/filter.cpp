#include "cpu/filter.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

PYDL_BINDINGS(filter) {
  m.def("filter_planes", [](const py::object& x, const py::object& kernel, const py::object& y) {
    const FilterArgs args{view(x), view(kernel), view(y, true)};
    launch(filter_planes, args);
  });
}

}  // namespace pydl
