#include "cpu/probe.h"

#include "bindings/array.h"

namespace pydl {

namespace {

float* floats(const py::object& object, int64_t n, bool writable) {
  const Array a = view(object, writable);
  PYDL_CHECK(a.contiguous() && a.size() >= n, "expected a contiguous float32 array of the common size");
  return a.as<float>();
}

}  // namespace

PYDL_BINDINGS(probe) {
  m.def("probe_fma", [](const std::string& isa, int64_t chunks, int64_t steps) {
    const Isa level = isa_from_name(isa);
    PYDL_CHECK(cpu_supports(level), "this CPU does not have that instruction set");
    const auto f = probe_fma.table[static_cast<int>(level)];
    PYDL_CHECK(f, "no probe for that instruction set");
    py::gil_scoped_release release;
    return f(chunks, steps);
  });
  m.def("probe_read", [](const py::object& x) {
    const int64_t n = view(x).size();
    const float* p = floats(x, n, false);
    py::gil_scoped_release release;
    return probe_read(p, n);
  });
  m.def("probe_write", [](const py::object& x) {
    const int64_t n = view(x).size();
    float* p = floats(x, n, true);
    py::gil_scoped_release release;
    probe_write(p, n);
  });
  m.def("probe_triad", [](const py::object& a, const py::object& b, const py::object& c) {
    const int64_t n = view(a).size();
    float* out = floats(a, n, true);
    const float *left = floats(b, n, false), *right = floats(c, n, false);
    py::gil_scoped_release release;
    probe_triad(out, left, right, n);
  });
}

}  // namespace pydl
