// Conversion between ndarrays and kernel views, for all binding files.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "core/array.h"

namespace py = pybind11;

namespace pydl {

using Object = const py::object&;

// A view of `a` for reading (or for writing, when `writable`); checks type, dtype, rank and stride.
Array view(const py::handle& a, bool writable = false);
Array optional_view(const py::handle& a, bool writable = false);  // of None an empty view
std::vector<Array> views(const py::sequence& arrays, bool writable = false);

inline bool is_array(PyObject* object) { return py::detail::npy_api::get().PyArray_Check_(object); }

// An uninitialised array in pooled memory. `order` lists the axes from the slowest to the fastest in memory;
// empty means C order.
py::array empty(const std::vector<int64_t>& shape, const py::dtype& dtype, const std::vector<int>& order = {});
// The same for strides that are known: a dense array of `bytes` bytes.
py::array empty(int ndim, const py::ssize_t* shape, const py::ssize_t* strides, int64_t bytes, const py::dtype& dtype);

// One file per family: PYDL_BINDINGS(conv) { m.def(...); } registers itself, no central list to edit.
struct Bindings {
  using Function = void (*)(py::module_&);
  Bindings(const char* family, Function f);
};

}  // namespace pydl

#define PYDL_BINDINGS(family)                                            \
  static void bind_##family(py::module_& m);                             \
  static const ::pydl::Bindings bindings_##family(#family, bind_##family); \
  static void bind_##family(py::module_& m)
