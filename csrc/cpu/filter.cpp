#include "cpu/filter.h"

#include "core/parallel.h"
#include "core/simd.h"

namespace pydl {
namespace {

constexpr int64_t kGrain = 1 << 16;  // multiplications per chunk

struct Plan {
  int64_t height, width, kh, kw, out_height, out_width;
};

// kVecs vectors of neighbouring outputs in registers, while all taps go by.
template <class T, int kVecs>
void block(const Plan& p, const T* x, const T* kernel, T* y, int64_t last) {
  using V = Vec<T>;
  V sum[kVecs];
  for (int b = 0; b < kVecs; ++b) sum[b] = V::zero();
  for (int64_t u = 0; u < p.kh; ++u) {
    const T* row = x + u * p.width;
    for (int64_t v = 0; v < p.kw; ++v) {
      const V tap = V::splat(kernel[u * p.kw + v]);
      for (int b = 0; b < kVecs - 1; ++b) sum[b] = fma(tap, V::load(row + v + b * V::lanes), sum[b]);
      // The last vector may stick out of the row: only `last` lanes are read and written.
      constexpr int b = kVecs - 1;
      sum[b] = fma(tap, V::load_n(row + v + b * V::lanes, last), sum[b]);
    }
  }
  for (int b = 0; b < kVecs - 1; ++b) sum[b].store(y + b * V::lanes);
  sum[kVecs - 1].store_n(y + (kVecs - 1) * V::lanes, last);
}

template <class T>
void one_row(const Plan& p, const T* x, const T* kernel, T* y) {
  constexpr int64_t lanes = Vec<T>::lanes;
  int64_t j = 0;
  for (; p.out_width - j >= 4 * lanes; j += 4 * lanes) block<T, 4>(p, x + j, kernel, y + j, lanes);
  for (; j < p.out_width; j += lanes)
    block<T, 1>(p, x + j, kernel, y + j, p.out_width - j < lanes ? p.out_width - j : lanes);
}

template <class T>
void run(const FilterArgs& a) {
  const Plan p{a.x.shape[1], a.x.shape[2], a.kernel.shape[0], a.kernel.shape[1], a.y.shape[1], a.y.shape[2]};
  const T* x = a.x.as<T>();
  const T* kernel = a.kernel.as<T>();
  T* y = a.y.as<T>();
  const int64_t work = p.out_width * p.kh * p.kw;
  parallel_for(a.y.shape[0] * p.out_height, kGrain / work + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t n = r / p.out_height, i = r % p.out_height;
      one_row(p, x + (n * p.height + i) * p.width, kernel, y + r * p.out_width);
    }
  });
}

void filter_planes_impl(const FilterArgs& a) {
  PYDL_CHECK(a.x.ndim == 3 && a.y.ndim == 3 && a.kernel.ndim == 2, "expected x [N, H, W], kernel [KH, KW], y [N, H', W']");
  PYDL_CHECK(a.x.contiguous() && a.y.contiguous() && a.kernel.contiguous(), "arrays must be in C order");
  PYDL_CHECK(a.x.dtype == a.y.dtype && a.x.dtype == a.kernel.dtype, "arrays of unequal dtype");
  PYDL_CHECK(a.kernel.shape[0] > 0 && a.kernel.shape[1] > 0, "an empty kernel");
  PYDL_CHECK(a.y.shape[0] == a.x.shape[0] && a.y.shape[1] == a.x.shape[1] - a.kernel.shape[0] + 1 &&
                 a.y.shape[2] == a.x.shape[2] - a.kernel.shape[1] + 1,
             "the output's shape does not follow from the input and the kernel");
  if (a.y.size() == 0) return;
  if (a.x.dtype == DType::f32) return run<float>(a);
  PYDL_CHECK(a.x.dtype == DType::f64, "expected float32 or float64");
  run<double>(a);
}

}  // namespace

PYDL_REGISTER(filter_planes, &filter_planes_impl);

}  // namespace pydl
