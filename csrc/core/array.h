// A view of an n-dimensional array: what kernels are given instead of a Python object.
#pragma once
#include <cstdint>

#include "core/error.h"

namespace pydl {

enum class DType : uint8_t { f32, f64, i64, i32, u8, boolean };

constexpr int64_t item_size(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    default: return 1;
  }
}

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> { static constexpr DType value = DType::f32; };
template <>
struct dtype_of<double> { static constexpr DType value = DType::f64; };
template <>
struct dtype_of<int64_t> { static constexpr DType value = DType::i64; };
template <>
struct dtype_of<int32_t> { static constexpr DType value = DType::i32; };
template <>
struct dtype_of<uint8_t> { static constexpr DType value = DType::u8; };
template <>
struct dtype_of<bool> { static constexpr DType value = DType::boolean; };

constexpr int kMaxDims = 16;

struct Array {
  void* data = nullptr;
  DType dtype = DType::f32;
  int ndim = 0;
  int64_t shape[kMaxDims] = {};
  int64_t strides[kMaxDims] = {};  // in elements, not bytes

  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < ndim; ++i) n *= shape[i];
    return n;
  }
  bool contiguous() const {
    if (size() == 0) return true;
    int64_t expected = 1;
    for (int i = ndim - 1; i >= 0; --i) {
      if (shape[i] != 1 && strides[i] != expected) return false;
      expected *= shape[i];
    }
    return true;
  }
  template <class T>
  T* as() const {
    PYDL_CHECK(dtype == dtype_of<T>::value, "array of another dtype than the kernel was called for");
    return static_cast<T*>(data);
  }
};

}  // namespace pydl
