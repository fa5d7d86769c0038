#include "cpu/pool.h"

#include <array>

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

namespace {

using Axes = std::vector<std::array<int64_t, 4>>;  // per spatial axis: kernel, stride, pad, dilation

enum class PoolWrites { x, y, y_and_taps };

PoolArgs make_args(PoolWrites writes, const py::object& x, const py::object& y, const py::object& taps, const Axes& axes,
                   bool include_pad, int64_t divisor) {
  PoolArgs a{};
  a.x = view(x, writes == PoolWrites::x);
  a.y = view(y, writes != PoolWrites::x);
  a.taps = optional_view(taps, writes == PoolWrites::y_and_taps);
  PYDL_CHECK(axes.size() == 3, "expected three axes");
  for (size_t d = 0; d < 3; ++d) a.axis[d] = {axes[d][0], axes[d][1], axes[d][2], axes[d][3]};
  a.include_pad = include_pad;
  a.divisor = divisor;
  return a;
}

template <class K>
auto max_call(const K& kernel, PoolWrites writes) {
  return [&kernel, writes](const py::object& x, const py::object& y, const py::object& taps, const Axes& axes) {
    const PoolArgs args = make_args(writes, x, y, taps, axes, false, 0);
    launch(kernel, args);
  };
}

template <class K>
auto avg_call(const K& kernel, PoolWrites writes) {
  return [&kernel, writes](const py::object& x, const py::object& y, const Axes& axes, bool include_pad, int64_t divisor) {
    const PoolArgs args = make_args(writes, x, y, py::none(), axes, include_pad, divisor);
    launch(kernel, args);
  };
}

template <class K>
auto unpool_call(const K& kernel, PoolWrites writes) {
  return [&kernel, writes](const py::object& x, const py::object& indices, const py::object& y) {
    const UnpoolArgs args{view(x, writes == PoolWrites::x), view(indices), view(y, writes == PoolWrites::y)};
    return launch(kernel, args);
  };
}

}  // namespace

PYDL_BINDINGS(pool) {
  m.def("max_pool_forward", max_call(max_pool_forward, PoolWrites::y_and_taps));
  m.def("max_pool_scatter", max_call(max_pool_scatter, PoolWrites::x));
  m.def("max_pool_gather", max_call(max_pool_gather, PoolWrites::y));
  m.def("max_pool_indices", max_call(max_pool_indices, PoolWrites::y));
  m.def("avg_pool_forward", avg_call(avg_pool_forward, PoolWrites::y));
  m.def("avg_pool_backward", avg_call(avg_pool_backward, PoolWrites::x));
  m.def("max_unpool_forward", unpool_call(max_unpool_forward, PoolWrites::y));
  m.def("max_unpool_backward", unpool_call(max_unpool_backward, PoolWrites::x));
}

}  // namespace pydl
