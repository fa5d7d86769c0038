// Loops over arrays of any strides: the axes are sorted by the output's strides and merged, so that a dense array of
// any axis order (NCHW, channels-last) becomes one long row.
#pragma once
#include "core/array.h"

namespace pydl {
namespace {

// The common iteration space of an output and its (broadcast) inputs.
template <int kArrays>
struct Space {
  int ndim = 0;
  int64_t shape[kMaxDims];
  int64_t strides[kArrays][kMaxDims];  // [0] is the output
  int64_t total = 1;
};

// Strides of `a` seen with the shape of `out`; a missing or unit axis repeats (stride 0).
inline void broadcast_strides(const Array& a, const Array& out, int64_t* strides) {
  const int shift = out.ndim - a.ndim;
  PYDL_CHECK(shift >= 0, "an input has more axes than the output");
  for (int i = 0; i < out.ndim; ++i) {
    const bool present = i >= shift;
    const int64_t n = present ? a.shape[i - shift] : 1;
    PYDL_CHECK(n == out.shape[i] || n == 1, "an input cannot be broadcast to the output");
    strides[i] = present && n != 1 ? a.strides[i - shift] : 0;
  }
}

template <int kArrays>
inline Space<kArrays> make_space(const Array& out, const Array* const (&inputs)[kArrays - 1]) {
  Space<kArrays> s;
  int64_t strides[kArrays][kMaxDims];
  for (int i = 0; i < out.ndim; ++i) strides[0][i] = out.shape[i] == 1 ? 0 : out.strides[i];
  for (int k = 1; k < kArrays; ++k) broadcast_strides(*inputs[k - 1], out, strides[k]);
  int order[kMaxDims];
  int n = 0;
  for (int i = 0; i < out.ndim; ++i) {
    s.total *= out.shape[i];
    if (out.shape[i] != 1) order[n++] = i;
  }
  // Slowest axis first, by the output's strides (by the first input's where these are equal): insertion sort.
  const auto magnitude = [&](int k, int axis) { return strides[k][axis] < 0 ? -strides[k][axis] : strides[k][axis]; };
  for (int i = 1; i < n; ++i)
    for (int j = i; j > 0; --j) {
      const int a = order[j - 1], b = order[j];
      const bool swap = magnitude(0, a) < magnitude(0, b) ||
                        (kArrays > 1 && magnitude(0, a) == magnitude(0, b) && magnitude(1, a) < magnitude(1, b));
      if (!swap) break;
      order[j - 1] = b;
      order[j] = a;
    }
  for (int i = 0; i < n; ++i) {
    const int axis = order[i];
    bool merge = s.ndim > 0;
    for (int k = 0; merge && k < kArrays; ++k)
      merge = s.strides[k][s.ndim - 1] == strides[k][axis] * out.shape[axis];
    const int to = merge ? s.ndim - 1 : s.ndim++;
    s.shape[to] = merge ? s.shape[to] * out.shape[axis] : out.shape[axis];
    for (int k = 0; k < kArrays; ++k) s.strides[k][to] = strides[k][axis];
  }
  if (s.ndim == 0) {
    s.ndim = 1;
    s.shape[0] = 1;
    for (int k = 0; k < kArrays; ++k) s.strides[k][0] = 0;
  }
  return s;
}

// Calls row(offsets, n) for each run of at most `longest` elements along the innermost axis in [begin, end).
template <int kArrays, class F>
[[gnu::always_inline]] inline void for_each_row(const Space<kArrays>& s, int64_t begin, int64_t end, int64_t longest,
                                                const F& row) {
  const int inner = s.ndim - 1;
  const int64_t length = s.shape[inner];
  int64_t index[kMaxDims];
  int64_t rest = begin;
  int64_t offset[kArrays] = {};
  for (int d = inner; d >= 0; --d) {
    index[d] = rest % s.shape[d];
    rest /= s.shape[d];
    for (int k = 0; k < kArrays; ++k) offset[k] += index[d] * s.strides[k][d];
  }
  for (int64_t i = begin; i < end;) {
    int64_t n = length - index[inner];
    if (n > end - i) n = end - i;
    if (n > longest) n = longest;
    row(offset, n);
    i += n;
    index[inner] += n;
    for (int k = 0; k < kArrays; ++k) offset[k] += n * s.strides[k][inner];
    for (int d = inner; d > 0 && index[d] == s.shape[d]; --d) {
      index[d] = 0;
      ++index[d - 1];
      for (int k = 0; k < kArrays; ++k) offset[k] += s.strides[k][d - 1] - s.shape[d] * s.strides[k][d];
    }
  }
}

}  // namespace
}  // namespace pydl
