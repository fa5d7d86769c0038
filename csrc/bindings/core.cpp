// The module pydl._core: memory, threads, instruction set; the families register themselves.
#include "bindings/array.h"
#include "core/allocator.h"
#include "core/cpu.h"
#include "core/parallel.h"
#include "core/philox.h"
#include "core/precision.h"

namespace pydl {

void bind_all(py::module_& m);

// Whether channels (axis 1) are adjacent and the array dense, for (N, C, spatial...).
static bool is_channels_last(const py::array& a) {
  if (a.size() == 0) return a.ndim() >= 2;
  py::ssize_t expected = a.itemsize();
  const auto fits = [&](py::ssize_t axis) {
    if (a.shape(axis) == 1) return true;
    if (a.strides(axis) != expected) return false;
    expected *= a.shape(axis);
    return true;
  };
  if (a.ndim() < 2 || !fits(1)) return false;
  for (py::ssize_t axis = a.ndim() - 1; axis > 1; --axis)
    if (!fits(axis)) return false;
  return fits(0);
}

PYDL_BINDINGS(core) {
  m.def("is_channels_last", &is_channels_last);
  // A view [N, positions, C], or [1, N * positions, C] with the batch `joined`, of (N, C, spatial...) that is channels-last.
  m.def("channel_rows", [](const py::array& a, bool joined) {
    if (!is_channels_last(a)) throw py::value_error("[channel_rows] the array is not channels-last");
    const py::ssize_t batch = a.shape(0), channels = a.shape(1), item = a.itemsize();
    py::ssize_t positions = 1;
    for (py::ssize_t axis = 2; axis < a.ndim(); ++axis) positions *= a.shape(axis);
    const py::ssize_t sets = joined ? 1 : batch, rows = joined ? batch * positions : positions;
    return py::array(a.dtype(), {sets, rows, channels}, {rows * channels * item, channels * item, item}, a.data(), a);
  }, py::arg("array"), py::arg("joined"));
  m.def("empty", py::overload_cast<const std::vector<int64_t>&, const py::dtype&, const std::vector<int>&>(&empty),
         py::arg("shape"), py::arg("dtype"), py::arg("order") = std::vector<int>{});
  m.def("memory_statistics", [] {
    const auto s = memory::statistics();
    py::dict d;
    d["current"] = s.current;
    d["peak"] = s.peak;
    d["reserved"] = s.reserved;
    d["allocations"] = s.allocations;
    d["system_allocations"] = s.system_allocations;
    return d;
  });
  m.def("memory_current", [] { return memory::statistics().current; });
  m.def("memory_peak", [] { return memory::statistics().peak; });
  m.def("memory_reset_peak", &memory::reset_peak);
  m.def("memory_trim", &memory::trim, py::arg("keep_bytes") = 0);
  m.def("memory_set_cap", &memory::set_cap);
  m.def("memory_cap", &memory::cap);
  m.def("memory_enabled", &memory::enabled);
  m.def("memory_set_enabled", &memory::set_enabled);
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads);
  m.def("available_cpus", &available_cpus);
  m.def("set_thread_serial", &set_thread_serial);
  m.def("isa", [] { return std::string(isa_name(active_isa())); });
  m.def("set_isa", [](const std::string& name) { set_active_isa(isa_from_name(name)); });
  m.def("tiles_emulated", &tiles_emulated);
  m.def("why_no_bfloat16", &why_no_bfloat16);
  m.def("precision", [] { return static_cast<int>(precision()); });
  m.def("process_precision", [] { return static_cast<int>(process_precision()); });
  m.def("set_process_precision", [](int p) { set_process_precision(static_cast<Precision>(p)); });
  m.def("set_thread_precision", &set_thread_precision);
  m.def("supported_isas", [] {
    std::vector<std::string> names;
    for (int i = 0; i < kIsaCount; ++i)
      if (cpu_supports(static_cast<Isa>(i))) names.emplace_back(isa_name(static_cast<Isa>(i)));
    return names;
  });
  m.def("philox_block", [](uint64_t key, uint64_t low, uint64_t high) {
    const auto b = Philox(key)(static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32),
                               static_cast<uint32_t>(high), static_cast<uint32_t>(high >> 32));
    return std::vector<uint32_t>(b.v, b.v + 4);
  });
}

}  // namespace pydl

PYBIND11_MODULE(_core, m) {
  m.doc() = "Native kernels of pydl. Private: the public functions are in pydl.ops.";
  py::register_exception<pydl::Error>(m, "NativeError", PyExc_ValueError);
  if (const char* name = std::getenv("PYDL_ISA"); name && *name) pydl::set_active_isa(pydl::isa_from_name(name));
  m.attr("__version__") = PYDL_VERSION;
  pydl::bind_all(m);
}
