#include "bindings/array.h"

#include <cstdint>
#include <map>
#include <string>

#include "bindings/tape.h"
#include "core/allocator.h"

namespace pydl {

namespace {

DType dtype_from(const py::dtype& d) {
  const char kind = d.kind();
  const auto size = d.itemsize();
  if (d.byteorder() == '>') fail("array", "big-endian data; convert with .astype(dtype.newbyteorder('='))");
  if (kind == 'f' && size == 4) return DType::f32;
  if (kind == 'f' && size == 8) return DType::f64;
  if (kind == 'i' && size == 8) return DType::i64;
  if (kind == 'i' && size == 4) return DType::i32;
  if (kind == 'u' && size == 1) return DType::u8;
  if (kind == 'b') return DType::boolean;
  fail("array", "dtype " + std::string(py::str(py::object(d))) +
                    " has no native kernels; expected float32, float64, int64, int32, uint8 or bool");
}

// The owner of an array's memory is a capsule: its pointer is the block, its context the size.
void release_block(PyObject* capsule) {
  memory::release(PyCapsule_GetPointer(capsule, nullptr), reinterpret_cast<intptr_t>(PyCapsule_GetContext(capsule)));
}

std::map<std::string, Bindings::Function>& registry() {
  static std::map<std::string, Bindings::Function> families;
  return families;
}

}  // namespace

Bindings::Bindings(const char* family, Function f) { registry()[family] = f; }

void bind_all(py::module_& m) {
  for (auto& [name, f] : registry()) f(m);
}

Array optional_view(const py::handle& a, bool writable) { return a.is_none() ? Array{} : view(a, writable); }

Array view(const py::handle& object, bool writable) {
  if (!py::isinstance<py::array>(object))
    fail("array", "expected a numpy.ndarray, got " + std::string(py::str(py::type::of(object).attr("__name__"))));
  const auto a = py::reinterpret_borrow<py::array>(object);
  if (writable && !a.writeable()) fail("array", "the output array is read-only");
  Array v;
  v.dtype = dtype_from(a.dtype());
  v.data = const_cast<void*>(a.data());
  v.ndim = static_cast<int>(a.ndim());
  if (v.ndim > kMaxDims) fail("array", "more than 16 dimensions");
  const int64_t item = item_size(v.dtype);
  for (int i = 0; i < v.ndim; ++i) {
    v.shape[i] = a.shape(i);
    const int64_t bytes = a.strides(i);
    if (bytes % item != 0 && v.shape[i] > 1)
      fail("array", "a stride that is no multiple of the item size (a field of a structured array?); copy it first");
    v.strides[i] = bytes / item;
  }
  if (reinterpret_cast<uintptr_t>(v.data) % static_cast<uintptr_t>(item) != 0)
    fail("array", "the data is not aligned to its item size; copy it first");
  if (t_tape) t_tape->use(object, v.data, writable);
  return v;
}

std::vector<Array> views(const py::sequence& arrays, bool writable) {
  std::vector<Array> result;
  result.reserve(arrays.size());
  for (const auto& a : arrays) result.push_back(view(a, writable));
  return result;
}

py::array empty(int ndim, const py::ssize_t* shape, const py::ssize_t* strides, int64_t bytes, const py::dtype& dtype) {
  void* const block = memory::allocate(bytes);
  PyObject* const owner = PyCapsule_New(block, nullptr, release_block);
  if (!owner) {
    memory::release(block, bytes);
    throw py::error_already_set();
  }
  PyCapsule_SetContext(owner, reinterpret_cast<void*>(static_cast<intptr_t>(bytes)));
  const auto& numpy = py::detail::npy_api::get();
  PyObject* const array = numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, dtype.inc_ref().ptr(), ndim, shape, strides, block,
                                                      py::detail::npy_api::NPY_ARRAY_WRITEABLE_, nullptr);
  if (!array) {
    Py_DECREF(owner);
    throw py::error_already_set();
  }
  numpy.PyArray_SetBaseObject_(array, owner);  // takes the reference to the owner
  return py::reinterpret_steal<py::array>(array);
}

py::array empty(const std::vector<int64_t>& shape, const py::dtype& dtype, const std::vector<int>& order) {
  const size_t ndim = shape.size();
  if (ndim > kMaxDims) fail("empty", "more than 16 dimensions");
  if (!order.empty() && order.size() != ndim) fail("empty", "order must list every axis once");
  py::ssize_t sizes[kMaxDims], strides[kMaxDims];
  int64_t bytes = static_cast<int64_t>(dtype.itemsize());
  for (size_t k = ndim; k-- > 0;) {
    const size_t axis = order.empty() ? k : static_cast<size_t>(order[k]);
    if (axis >= ndim) fail("empty", "order names an axis that does not exist");
    if (shape[axis] < 0) fail("empty", "a negative dimension");
    sizes[axis] = shape[axis];
    strides[axis] = bytes;
    if (__builtin_mul_overflow(bytes, shape[axis] ? shape[axis] : int64_t{1}, &bytes)) throw std::bad_alloc();
  }
  return empty(static_cast<int>(ndim), sizes, strides, bytes, dtype);
}

}  // namespace pydl
