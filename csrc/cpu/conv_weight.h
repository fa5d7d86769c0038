// The weight of a convolution in the order in which products read it. Internal linkage: compiled per instruction set.
#pragma once
#include "cpu/conv.h"
#include "cpu/gemm.h"

namespace pydl {
namespace {

// The weight with its columns side by side: row c of the depth in rows of ld, zeros beyond the last column; each further tap of
// the kernel lies `tap` elements beyond, each further panel of two vectors of columns `panel`. PyTorch's order, where taps are
// adjacent, is turned around in registers.
template <class T>
void order_weight(const Array& w, const T* weight, int64_t depth, int64_t depth_stride, int64_t columns, int64_t column_stride,
                  T* to, int64_t ld, int64_t tap, int64_t panel) {
  constexpr int64_t L = Vec<T>::lanes, W = 2 * L;
  const int64_t *k = w.shape + 2, *s = w.strides + 2;
  const int64_t taps = k[0] * k[1] * k[2];
  const bool adjacent = s[2] == 1 && (s[1] == k[2] || k[1] == 1) && (s[0] == k[1] * k[2] || k[0] == 1);
  parallel_for(depth, 8, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      for (int64_t j = 0; j < ceil_div(columns, W) * W; j += L) {
        const T* from = weight + c * depth_stride + j * column_stride;
        T* first = to + c * ld + j / W * panel + j % W;
        const int64_t n = max64(0, min64(columns - j, L));
        if (adjacent) {
          for (int64_t t = 0; t < taps; t += L)
            transpose_square(from + t, column_stride, n, min64(taps - t, L), first + t * tap, tap, true);
          continue;
        }
        for (int64_t t = 0; t < taps; ++t) {
          const T* source = from + t / (k[1] * k[2]) * s[0] + t / k[2] % k[1] * s[1] + t % k[2] * s[2];
          T* row = first + t * tap;
          for (int64_t i = 0; i < L; ++i) row[i] = i < n ? source[i * column_stride] : T(0);
        }
      }
  });
}

}  // namespace
}  // namespace pydl
