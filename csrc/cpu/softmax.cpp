#include "cpu/softmax.h"

#include "core/parallel.h"
#include "core/simd_math.h"

namespace pydl {
namespace {

// A row is one softmax. With inner == 1 its elements are adjacent and become lanes; otherwise a lane is one softmax and
// the rows of a plane are walked. Both are the same code: `Lanes` says how many softmaxes are done at once.
constexpr int64_t kGrain = 8192;

// f(first, lanes) for the vectors of a row: whole ones in a loop of their own.
template <class T, class F>
PYDL_INLINE void for_each_vector(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + Vec<T>::lanes <= n; i += Vec<T>::lanes) f(i, Vec<T>::lanes);
  if (i < n) f(i, n - i);
}

// exp(x - max) / sum for one contiguous row.
template <class T>
void row_forward(const T* x, T* y, int64_t n, bool log_result) {
  using V = Vec<T>;
  const T least = -std::numeric_limits<T>::infinity();
  V top = V::splat(least);
  int64_t i = 0;
  for (; i + V::lanes <= n; i += V::lanes) top = max(V::load(x + i), top);
  T m = max_lanes(top);
  for (; i < n; ++i) m = x[i] > m ? x[i] : m;
  V sum = V::zero();
  T tail = 0;
  for_each_vector<T>(n, [&](int64_t at, int64_t k) __attribute__((always_inline)) {
    const V e = exp(V::load_n(x + at, k) - V::splat(m));
    if (!log_result) e.store_n(y + at, k);
    if (k == V::lanes)
      sum += e;
    else
      for (int64_t j = 0; j < k; ++j) tail += e.v[j];
  });
  const T total = sum_lanes(sum) + tail;
  // The maximum goes first: m + log(total) would round away the digits of the logarithm where m is large.
  const T logarithm = std::log(total), scale = T(1) / total;
  for_each_vector<T>(n, [&](int64_t at, int64_t k) __attribute__((always_inline)) {
    if (log_result)
      ((V::load_n(x + at, k) - V::splat(m)) - V::splat(logarithm)).store_n(y + at, k);
    else
      (V::load_n(y + at, k) * V::splat(scale)).store_n(y + at, k);
  });
}

// `lanes` neighbouring softmaxes whose elements are `stride` apart.
template <class T>
void column_forward(const T* x, T* y, int64_t n, int64_t stride, int64_t lanes, bool log_result) {
  using V = Vec<T>;
  V m = V::load_n(x, lanes);
  for (int64_t i = 1; i < n; ++i) m = max(V::load_n(x + i * stride, lanes), m);
  V sum = V::zero();
  for (int64_t i = 0; i < n; ++i) {
    const V e = exp(V::load_n(x + i * stride, lanes) - m);
    if (!log_result) e.store_n(y + i * stride, lanes);
    sum += e;
  }
  const V logarithm = log(sum), scale = 1.0 / sum;
  for (int64_t i = 0; i < n; ++i)
    (log_result ? (V::load_n(x + i * stride, lanes) - m) - logarithm : V::load_n(y + i * stride, lanes) * scale)
        .store_n(y + i * stride, lanes);
}

// softmax: dx = y (g - sum(g y)); log-softmax: dx = g - exp(y) sum(g).
template <class T>
void row_backward(const T* g, const T* y, T* dx, int64_t n, bool log_result) {
  using V = Vec<T>;
  V sum = V::zero();
  for_each_vector<T>(n, [&](int64_t i, int64_t k) __attribute__((always_inline)) {
    sum = log_result ? sum + V::load_n(g + i, k) : fma(V::load_n(g + i, k), V::load_n(y + i, k), sum);
  });
  const V total = V::splat(sum_lanes(sum));
  for_each_vector<T>(n, [&](int64_t i, int64_t k) __attribute__((always_inline)) {
    const V vg = V::load_n(g + i, k), vy = V::load_n(y + i, k);
    (log_result ? vg - exp(vy) * total : vy * (vg - total)).store_n(dx + i, k);
  });
}

template <class T>
void column_backward(const T* g, const T* y, T* dx, int64_t n, int64_t stride, int64_t lanes, bool log_result) {
  using V = Vec<T>;
  V sum = V::zero();
  for (int64_t i = 0; i < n; ++i) {
    const V vg = V::load_n(g + i * stride, lanes);
    sum = log_result ? sum + vg : fma(vg, V::load_n(y + i * stride, lanes), sum);
  }
  for (int64_t i = 0; i < n; ++i) {
    const V vg = V::load_n(g + i * stride, lanes), vy = V::load_n(y + i * stride, lanes);
    (log_result ? vg - exp(vy) * sum : vy * (vg - sum)).store_n(dx + i * stride, lanes);
  }
}

// Calls row(offset) or column(offset, lanes) for every softmax of [outer, n, inner].
template <class T, class Row, class Column>
void for_each_softmax(const Array& shape, const Row& row, const Column& column) {
  const int64_t outer = shape.shape[0], n = shape.shape[1], inner = shape.shape[2];
  if (inner == 1) {
    parallel_for(outer, kGrain / (n + 1) + 1, [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) row(o * n);
    });
    return;
  }
  constexpr int64_t L = Vec<T>::lanes;
  const int64_t groups = (inner + L - 1) / L;
  parallel_for(outer * groups, kGrain / (n * L + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t c = t % groups * L;
      column(t / groups * n * inner + c, inner - c < L ? inner - c : L);
    }
  });
}

template <class T>
void forward(const SoftmaxArgs& a) {
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  const int64_t n = a.x.shape[1], inner = a.x.shape[2];
  for_each_softmax<T>(
      a.x, [&](int64_t o) { row_forward<T>(x + o, y + o, n, a.log); },
      [&](int64_t o, int64_t lanes) { column_forward<T>(x + o, y + o, n, inner, lanes, a.log); });
}

template <class T>
void backward(const SoftmaxGradArgs& a) {
  const T *g = a.g.as<T>(), *y = a.y.as<T>();
  T* dx = a.dx.as<T>();
  const int64_t n = a.y.shape[1], inner = a.y.shape[2];
  for_each_softmax<T>(
      a.y, [&](int64_t o) { row_backward<T>(g + o, y + o, dx + o, n, a.log); },
      [&](int64_t o, int64_t lanes) { column_backward<T>(g + o, y + o, dx + o, n, inner, lanes, a.log); });
}

void check_pair(const Array& a, const Array& b) {
  PYDL_CHECK(a.ndim == 3 && b.ndim == 3 && a.contiguous() && b.contiguous() && a.dtype == b.dtype, "expected canonical arrays");
  for (int i = 0; i < 3; ++i) PYDL_CHECK(a.shape[i] == b.shape[i], "shapes do not fit");
  PYDL_CHECK(a.dtype == DType::f32 || a.dtype == DType::f64, "expected float32 or float64");
}

void softmax_forward_impl(const SoftmaxArgs& a) {
  check_pair(a.x, a.y);
  if (a.x.size() == 0) return;
  a.x.dtype == DType::f32 ? forward<float>(a) : forward<double>(a);
}

void softmax_backward_impl(const SoftmaxGradArgs& a) {
  check_pair(a.g, a.y);
  check_pair(a.g, a.dx);
  if (a.y.size() == 0) return;
  a.y.dtype == DType::f32 ? backward<float>(a) : backward<double>(a);
}

PYDL_REGISTER(softmax_forward, softmax_forward_impl);
PYDL_REGISTER(softmax_backward, softmax_backward_impl);

}  // namespace
}  // namespace pydl
