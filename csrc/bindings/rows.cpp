#include "core/rows.h"

#include "bindings/array.h"

namespace pydl {

namespace {

py::array dense(const py::handle& object, const char* what) {
  PYDL_CHECK(py::isinstance<py::array>(object), std::string(what) + ": expected a numpy.ndarray");
  auto a = py::reinterpret_borrow<py::array>(object);
  PYDL_CHECK(a.flags() & py::array::c_style, std::string(what) + ": expected a C-contiguous array");
  PYDL_CHECK(a.dtype().kind() != 'O', std::string(what) + ": arrays of Python objects cannot be copied as bytes");
  return a;
}

py::array dense_output(const py::handle& object) {
  auto a = dense(object, "out");
  PYDL_CHECK(a.writeable() && a.ndim() > 0, "out: expected a writable array of at least one axis");
  return a;
}

void bind_stack(const py::sequence& arrays, const py::object& out) {
  auto to = dense_output(out);
  const auto count = static_cast<int64_t>(arrays.size());
  PYDL_CHECK(to.shape(0) == count, "out: its first axis must be the number of arrays");
  const int64_t row_bytes = count ? static_cast<int64_t>(to.nbytes()) / count : 0;
  std::vector<py::array> rows;  // keeps them alive while the GIL is released
  std::vector<const void*> pointers;
  for (const auto& object : arrays) {
    rows.push_back(dense(object, "arrays"));
    PYDL_CHECK(static_cast<int64_t>(rows.back().nbytes()) == row_bytes && rows.back().dtype().equal(to.dtype()),
               "arrays: each must have the shape and dtype of a row of out");
    pointers.push_back(rows.back().data());
  }
  void* target = to.mutable_data();
  py::gil_scoped_release release;
  stack_rows(pointers.data(), count, row_bytes, target);
}

void bind_take(const py::object& in, const py::object& index, const py::object& out) {
  const auto from = dense(in, "in");
  auto to = dense_output(out);
  const Array at = view(index);
  PYDL_CHECK(at.ndim == 1 && at.contiguous(), "index: expected a dense array of one axis");
  PYDL_CHECK(from.ndim() > 0 && from.dtype().equal(to.dtype()) && to.shape(0) == at.shape[0], "out: wrong dtype or length");
  const int64_t row_bytes = from.shape(0) ? static_cast<int64_t>(from.nbytes()) / from.shape(0) : 0;
  PYDL_CHECK(static_cast<int64_t>(to.nbytes()) == row_bytes * at.shape[0], "out: its rows must be those of in");
  const auto* positions = at.as<int64_t>();
  const void* source = from.data();
  void* target = to.mutable_data();
  py::gil_scoped_release release;
  take_rows(source, from.shape(0), row_bytes, positions, at.shape[0], target);
}

}  // namespace

PYDL_BINDINGS(rows) {
  m.def("stack_rows", &bind_stack, py::arg("arrays"), py::arg("out"));
  m.def("take_rows", &bind_take, py::arg("input"), py::arg("index"), py::arg("out"));
}

}  // namespace pydl
