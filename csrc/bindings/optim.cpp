#include "bindings/optim.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

void set_options(OptimArgs& args, const py::dict& o) {
  const auto number = [&](const char* name) { return o.contains(name) ? o[name].cast<double>() : 0.0; };
  const auto flag = [&](const char* name) { return o.contains(name) && o[name].cast<bool>(); };
  args.first = flag("first");
  args.nesterov = flag("nesterov");
  args.decoupled = flag("decoupled");
  args.maximize = flag("maximize");
  args.amsgrad = flag("amsgrad");
  args.centered = flag("centered");
  args.lr = number("lr");
  args.weight_decay = number("weight_decay");
  args.momentum = number("momentum");
  args.dampening = number("dampening");
  args.beta1 = number("beta1");
  args.beta2 = number("beta2");
  args.eps = number("eps");
  args.correction1 = number("correction1");
  args.correction2 = number("correction2");
}

PYDL_BINDINGS(optim) {
  m.def("optim_step", [](int kind, const py::sequence& p, const py::sequence& g, const py::sequence& s1, const py::sequence& s2,
                         const py::sequence& s3, const py::dict& options) {
    PYDL_CHECK(kind >= 0 && kind <= static_cast<int>(Optimizer::adagrad), "unknown optimizer");
    const auto args = std::make_shared<OptimArgs>();
    args->kind = static_cast<Optimizer>(kind);
    args->parameters = views(p, true);
    args->gradients = views(g);
    args->state1 = views(s1, true);
    args->state2 = views(s2, true);
    args->state3 = views(s3, true);
    set_options(*args, options);
    {
      const py::gil_scoped_release release;
      const memory::Open open;
      optim_step(*args);
    }
    if (!t_tape) return;
    t_tape->optimizers.push_back(args);
    t_tape->calls.push_back({[args] { optim_step(*args); return int64_t{0}; }, 0, optim_step.name, precision()});
  });
}

}  // namespace pydl
