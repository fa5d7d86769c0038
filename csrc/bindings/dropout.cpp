#include "cpu/dropout.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

PYDL_BINDINGS(dropout) {
  m.def("dropout_blocks", &dropout_blocks);
  m.def("dropout", [](const py::object& x, const py::object& y, double p, double scale, double shift, double fill,
                      uint64_t seed, uint64_t offset) {
    const DropoutArgs args{view(x), view(y, true), p, scale, shift, fill, seed, offset};
    launch_random(dropout_elements, args, [](DropoutArgs& a) -> DropoutArgs& { return a; });
  });
}

}  // namespace pydl
