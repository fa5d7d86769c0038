#include "cpu/random.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

PYDL_BINDINGS(random) {
  m.def("random_fill", [](int kind, uint64_t seed, uint64_t offset, double a, double b, const py::object& out) {
    PYDL_CHECK(kind >= 0 && kind <= static_cast<int>(Distribution::bernoulli), "unknown distribution");
    const RandomArgs args{static_cast<Distribution>(kind), seed, offset, a, b, view(out, true)};
    launch_random(random_fill, args, [](RandomArgs& a) -> RandomArgs& { return a; });
    return random_blocks(args.out.size());
  });
}

}  // namespace pydl
