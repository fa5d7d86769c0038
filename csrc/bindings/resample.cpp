#include "cpu/resample.h"

#include <array>

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

PYDL_BINDINGS(resample) {
  using Tables = std::array<std::array<py::object, 3>, 3>;  // per axis: start, count, weights
  m.def("resample", [](const py::object& x, const py::object& y, const Tables& tables) {
    ResampleArgs args{view(x), view(y, true), {}};
    for (size_t d = 0; d < 3; ++d) args.axis[d] = {view(tables[d][0]), view(tables[d][1]), view(tables[d][2])};
    launch(resample, args);
  });
}

}  // namespace pydl
