#include "cpu/elementwise.h"

#include <algorithm>
#include <cstring>

#include "bindings/api.h"
#include "bindings/array.h"
#include "bindings/tape.h"

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
  launch(map_elements, args);
}

// The same value everywhere: a copy from an array without extent.
struct Fill {
  struct Args {
    Array out;
    int64_t value;  // its bytes
  };
  const char* name = "fill_elements";
  void operator()(const Args& args) const {
    CopyArgs copy{args.out, args.out};
    copy.in.data = const_cast<int64_t*>(&args.value);
    for (auto& stride : copy.in.strides) stride = 0;
    copy_elements(copy);
  }
};
constexpr Fill kFill;

void fill(const py::object& out, const py::object& value) {
  const Array number = view(value);
  Fill::Args args{view(out, true), 0};
  PYDL_CHECK(number.size() == 1 && number.dtype == args.out.dtype, "expected one number of the array's dtype");
  std::memcpy(&args.value, number.data, static_cast<size_t>(item_size(number.dtype)));
  launch(kFill, args);
}

constexpr int64_t kKeepGil = 1 << 14;  // elements below which handing the GIL over costs more than it gives

// Whether the elements fill their memory without gaps or overlap, in any axis order.
bool dense(const py::detail::PyArray_Proxy& a, int64_t item) {
  if (a.flags & py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_) return true;
  bool used[kMaxDims] = {};
  int64_t expected = item;
  for (int k = 0; k < a.nd; ++k) {
    int next = -1;
    for (int i = 0; i < a.nd; ++i)
      if (!used[i] && (a.dimensions[i] == 1 || a.strides[i] == expected)) next = i;
    if (next < 0) return false;
    used[next] = true;
    expected *= a.dimensions[next];
  }
  return true;
}

// As a row of all elements, if it has the shape and memory order of `like`; as a constant, if it has no axes.
bool as_row(PyObject* object, const py::detail::PyArray_Proxy& like, DType dtype, int64_t size, Array& row) {
  if (!is_array(object)) return false;
  const auto& a = *py::detail::array_proxy(object);
  if (a.descr != like.descr || !(a.flags & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) return false;
  row.data = a.data;
  row.dtype = dtype;
  row.ndim = a.nd == 0 ? 0 : 1;
  row.shape[0] = size;
  row.strides[0] = 1;
  if (a.nd == 0) return true;
  if (a.nd != like.nd) return false;
  for (int i = 0; i < a.nd; ++i)
    if (a.dimensions[i] != like.dimensions[i] || (a.dimensions[i] > 1 && a.strides[i] != like.strides[i])) return false;
  return true;
}

PyObject* map_rows(int function, int count, PyObject* const* arrays, const double* constants, int constant_count) {
  PyObject* widest = arrays[0];
  for (int k = 0; k < count; ++k) {
    if (!is_array(arrays[k])) return nullptr;
    if (py::detail::array_proxy(arrays[k])->nd > py::detail::array_proxy(widest)->nd) widest = arrays[k];
  }
  const auto& like = *py::detail::array_proxy(widest);
  static const PyObject* const float32 = py::dtype::of<float>().release().ptr();
  static const PyObject* const float64 = py::dtype::of<double>().release().ptr();
  if ((like.descr != float32 && like.descr != float64) || like.nd > kMaxDims) return nullptr;
  MapArgs args;
  const DType dtype = like.descr == float32 ? DType::f32 : DType::f64;
  if (!dense(like, item_size(dtype))) return nullptr;
  int64_t size = 1;
  for (int i = 0; i < like.nd; ++i) size *= like.dimensions[i];
  for (int k = 0; k < count; ++k)
    if (!as_row(arrays[k], like, dtype, size, args.in[k])) return nullptr;
  try {
    auto out = empty(like.nd, like.dimensions, like.strides, size * item_size(dtype), py::reinterpret_borrow<py::dtype>(like.descr));
    args.map = static_cast<Map>(function);
    args.inputs = count;
    as_row(out.ptr(), like, dtype, size, args.out);
    args.out.ndim = 1;
    for (int i = 0; i < constant_count; ++i) args.params[i] = constants[i];
    if (t_tape)
      for (int k = 0; k < count; ++k) t_tape->use(arrays[k], args.in[k].data, false);
    if (size < kKeepGil)
      launch_held(map_elements, args);
    else
      launch(map_elements, args);
    return out.release().ptr();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

int add_into(PyObject* sum, PyObject* more) {
  if (!is_array(sum) || !is_array(more)) return 0;
  const auto& like = *py::detail::array_proxy(sum);
  if (like.nd > kMaxDims) return 0;
  const bool single = like.descr == py::dtype::of<float>().ptr();
  if (!single && like.descr != py::dtype::of<double>().ptr()) return 0;
  const DType dtype = single ? DType::f32 : DType::f64;
  if (!dense(like, item_size(dtype))) return 0;
  int64_t size = 1;
  for (int i = 0; i < like.nd; ++i) size *= like.dimensions[i];
  MapArgs args;
  if (!as_row(sum, like, dtype, size, args.in[0]) || !as_row(more, like, dtype, size, args.in[1])) return 0;
  if (args.in[0].ndim != args.in[1].ndim) return 0;
  args.map = Map::add;
  args.inputs = 2;
  args.out = args.in[0];
  args.out.ndim = 1;
  try {
    if (t_tape) {
      t_tape->use(sum, args.out.data, true);
      t_tape->use(more, args.in[1].data, false);
    }
    if (size < kKeepGil)
      launch_held(map_elements, args);
    else
      launch(map_elements, args);
    return 1;
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return -1;
}

int same_shape(PyObject* a, PyObject* b) {
  if (!is_array(a) || !is_array(b)) return 0;
  const auto &x = *py::detail::array_proxy(a), &y = *py::detail::array_proxy(b);
  if (x.nd != y.nd) return 0;
  for (int i = 0; i < x.nd; ++i)
    if (x.dimensions[i] != y.dimensions[i]) return 0;
  return 1;
}

PyObject* scalar(double value, PyObject* like) {
  if (!is_array(like)) return nullptr;
  const auto dtype = py::reinterpret_borrow<py::dtype>(py::detail::array_proxy(like)->descr);
  const bool single = dtype.ptr() == py::dtype::of<float>().ptr();
  if (!single && dtype.ptr() != py::dtype::of<double>().ptr()) return nullptr;
  try {
    const memory::Open open;  // a recorded step's numbers are constants, outside of its memory
    auto out = empty(0, nullptr, nullptr, dtype.itemsize(), dtype);
    if (single)
      *static_cast<float*>(out.mutable_data()) = static_cast<float>(value);
    else
      *static_cast<double*>(out.mutable_data()) = value;
    return out.release().ptr();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return nullptr;
  }
}

// Dense memory as a matrix whose rows are what lies together along an axis; an array in channels-last order is cut at its channels.
// Says whether it is that.
bool as_rows(Array& a, int axis, bool channels_last) {
  PYDL_CHECK(axis >= 0 && axis < a.ndim && (!channels_last || axis == 1), "join: no such axis");
  if (channels_last) {
    std::rotate(a.shape + 1, a.shape + 2, a.shape + a.ndim);
    std::rotate(a.strides + 1, a.strides + 2, a.strides + a.ndim);
    axis = a.ndim - 1;
  }
  if (!a.contiguous()) return false;
  int64_t rows = 1, width = 1;
  for (int i = 0; i < a.ndim; ++i) (i < axis ? rows : width) *= a.shape[i];
  a.ndim = 2;
  a.shape[0] = rows;
  a.shape[1] = a.strides[0] = width;
  a.strides[1] = 1;
  return true;
}

int current_precision() { return static_cast<int>(precision()); }

const Api kApi{map_rows, scalar, add_into, same_shape, current_precision, set_thread_precision};

}  // namespace

PYDL_BINDINGS(elementwise) {
  py::dict names;
  for (int i = 0; i < kMapCount; ++i) names[kNames[i]] = i;
  m.attr("MAPS") = names;
  m.attr("_api") = py::capsule(&kApi, "pydl._core._api");
  m.def("map", &call_map, py::arg("map"), py::arg("inputs"), py::arg("out"), py::arg("params") = std::vector<double>{});
  m.def("where", [](const py::object& condition, const py::object& a, const py::object& b, const py::object& out) {
    const WhereArgs args{view(condition), view(a), view(b), view(out, true)};
    launch(where_elements, args);
  });
  m.def("join", [](const py::sequence& inputs, const py::object& out, int axis, bool channels_last) {
    JoinArgs args{views(inputs), view(out, true)};
    bool fits = as_rows(args.out, axis, channels_last);
    for (Array& a : args.in) fits = fits && as_rows(a, axis, channels_last);
    if (fits) launch(join_rows, args);
    return fits;
  });
  m.def("fill", &fill);
  m.def("copy", [](const py::object& in, const py::object& out) {
    const CopyArgs args{view(in), view(out, true)};
    launch(copy_elements, args);
  });
}

}  // namespace pydl
