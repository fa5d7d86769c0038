#include "cpu/warp.h"

#include <algorithm>
#include <array>

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

PYDL_BINDINGS(warp) {
  m.def("warp", [](const py::object& x, const py::object& y, const std::array<double, 9>& matrix, const py::object& fill,
                   bool linear, int border) {
    PYDL_CHECK(border >= 0 && border <= static_cast<int>(WarpBorder::reflect), "unknown border");
    WarpArgs args{view(x), view(y, true), {}, view(fill), linear, static_cast<WarpBorder>(border)};
    std::copy(matrix.begin(), matrix.end(), args.matrix);
    launch(warp, args);
  });
}

}  // namespace pydl
