#include "cpu/loss.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

PYDL_BINDINGS(loss) {
  m.def("cross_entropy", [](const py::object& x, const py::object& target, const py::object& weight, int64_t ignore_index,
                            double smoothing, bool mean, const py::object& loss, const py::object& out, const py::object& divisor,
                            const py::object& stats) {
    const CrossEntropyArgs args{view(x), view(target), view(weight), ignore_index, smoothing, mean,
                                optional_view(loss, true), optional_view(out, true), optional_view(divisor, true),
                                view(stats, true)};
    return launch(cross_entropy_forward, args);
  });
  m.def("cross_entropy_backward", [](const py::object& x, const py::object& target, const py::object& weight,
                                     int64_t ignore_index, double smoothing, const py::object& stats, const py::object& g,
                                     const py::object& dx, const py::object& divisor) {
    const CrossEntropyGradArgs args{view(x), view(target), view(weight), ignore_index, smoothing,
                                    view(stats), view(g), view(dx, true), optional_view(divisor)};
    launch(cross_entropy_backward, args);
  });
}

}  // namespace pydl
