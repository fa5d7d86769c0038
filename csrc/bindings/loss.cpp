#include "cpu/loss.h"

#include "bindings/array.h"

namespace pydl {

PYDL_BINDINGS(loss) {
  m.def("cross_entropy", [](const py::object& x, const py::object& target, const py::object& weight, int64_t ignore_index,
                            double smoothing, const py::object& loss, const py::object& stats) {
    const CrossEntropyArgs args{view(x), view(target), view(weight), ignore_index, smoothing,
                                loss.is_none() ? Array{} : view(loss, true), view(stats, true)};
    CrossEntropyResult r;
    {
      py::gil_scoped_release release;
      r = cross_entropy_forward(args);
    }
    return py::make_tuple(r.wrong, r.loss, r.weight);
  });
  m.def("cross_entropy_backward", [](const py::object& x, const py::object& target, const py::object& weight,
                                     int64_t ignore_index, double smoothing, const py::object& stats, const py::object& g,
                                     const py::object& dx) {
    const CrossEntropyGradArgs args{view(x), view(target), view(weight), ignore_index, smoothing,
                                    view(stats), view(g), view(dx, true)};
    py::gil_scoped_release release;
    cross_entropy_backward(args);
  });
}

}  // namespace pydl
