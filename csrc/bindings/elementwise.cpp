#include "cpu/elementwise.h"

#include "bindings/array.h"

namespace pydl {

namespace {

constexpr const char* kNames[] = {
#define X(name, arity) #name,
    PYDL_MAPS(X)
#undef X
};
constexpr int kArity[] = {
#define X(name, arity) arity,
    PYDL_MAPS(X)
#undef X
};

void call_map(int map, const py::sequence& inputs, const py::object& out, const std::vector<double>& params) {
  PYDL_CHECK(map >= 0 && map < kMapCount, "unknown function");
  PYDL_CHECK(static_cast<int>(inputs.size()) == kArity[map], "wrong number of inputs");
  PYDL_CHECK(params.size() <= kMaxParams, "too many constants");
  MapArgs args;
  args.map = static_cast<Map>(map);
  args.inputs = kArity[map];
  args.out = view(out, true);
  for (int k = 0; k < args.inputs; ++k) {
    args.in[k] = view(inputs[k]);
    PYDL_CHECK(args.in[k].dtype == args.out.dtype, "inputs and output of unequal dtype");
  }
  for (size_t i = 0; i < params.size(); ++i) args.params[i] = params[i];
  py::gil_scoped_release release;
  map_elements(args);
}

}  // namespace

PYDL_BINDINGS(elementwise) {
  py::dict names;
  for (int i = 0; i < kMapCount; ++i) names[kNames[i]] = i;
  m.attr("MAPS") = names;
  m.def("map", &call_map, py::arg("map"), py::arg("inputs"), py::arg("out"), py::arg("params") = std::vector<double>{});
  m.def("where", [](const py::object& condition, const py::object& a, const py::object& b, const py::object& out) {
    const WhereArgs args{view(condition), view(a), view(b), view(out, true)};
    py::gil_scoped_release release;
    where_elements(args);
  });
  m.def("copy", [](const py::object& in, const py::object& out) {
    const CopyArgs args{view(in), view(out, true)};
    py::gil_scoped_release release;
    copy_elements(args);
  });
}

}  // namespace pydl
