#include "cpu/optim.h"

#include "bindings/array.h"

namespace pydl {

PYDL_BINDINGS(optim) {
  m.def("optim_step", [](int kind, const py::sequence& p, const py::sequence& g, const py::sequence& s1, const py::sequence& s2,
                         const py::sequence& s3, const py::dict& o) {
    PYDL_CHECK(kind >= 0 && kind <= static_cast<int>(Optimizer::adagrad), "unknown optimizer");
    const auto number = [&](const char* name) { return o.contains(name) ? o[name].cast<double>() : 0.0; };
    const auto flag = [&](const char* name) { return o.contains(name) && o[name].cast<bool>(); };
    const OptimArgs args{static_cast<Optimizer>(kind), views(p, true), views(g), views(s1, true), views(s2, true),
                         views(s3, true), flag("first"), flag("nesterov"), flag("decoupled"), flag("maximize"),
                         flag("amsgrad"), flag("centered"), number("lr"), number("weight_decay"), number("momentum"),
                         number("dampening"), number("beta1"), number("beta2"), number("eps"), number("correction1"),
                         number("correction2")};
    py::gil_scoped_release release;
    optim_step(args);
  });
}

}  // namespace pydl
