// Layer and RMS normalisation of the rows of [rows, features], and local response normalisation: see norm.h.
#include "cpu/norm.h"

#include <type_traits>

#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd_math.h"
#include "cpu/norm_common.h"

namespace pydl {
namespace {

constexpr int64_t kWork = 32768;     // elements of a parallel chunk
constexpr int64_t kBlock = 1024;     // elements summed in T before the sum goes to float64
constexpr int64_t kBlockRows = 32;   // rows whose part of the weights' gradient is summed in T
constexpr int64_t kMaxSlots = 64;

// The first n lanes, the others zero.
template <class T>
PYDL_INLINE Vec<T> first_lanes(Vec<T> a, int64_t n) {
  if (n >= Vec<T>::lanes) return a;
  Vec<T> index;
  for (int64_t i = 0; i < Vec<T>::lanes; ++i) index.v[i] = static_cast<T>(i);
  return select(index < Vec<T>::splat(static_cast<T>(n)), a, Vec<T>::zero());
}

struct Pair {
  double a, b;
};

// f(first, lanes) for the vectors of a row: whole ones in a loop of their own.
template <class T, class F>
PYDL_INLINE void for_each_vector(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + Vec<T>::lanes <= n; i += Vec<T>::lanes) f(i, Vec<T>::lanes);
  if (i < n) f(i, n - i);
}

// Two sums over [0, n) at once: term(i, lanes, a, b) adds the terms of elements i .. i + lanes - 1.
template <class T, class F>
PYDL_INLINE Pair row_sums(int64_t n, const F& term) {
  using V = Vec<T>;
  Pair total{0, 0};
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t end = least(start + kBlock, n);
    V a[4] = {V::zero(), V::zero(), V::zero(), V::zero()}, b[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
    int64_t i = start;
    for (; i + 4 * V::lanes <= end; i += 4 * V::lanes)
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) term(i + j * V::lanes, V::lanes, a[j], b[j]);
    for (; i < end; i += V::lanes) term(i, least(end - i, V::lanes), a[0], b[0]);
    total.a += static_cast<double>(sum_lanes((a[0] + a[1]) + (a[2] + a[3])));
    total.b += static_cast<double>(sum_lanes((b[0] + b[1]) + (b[2] + b[3])));
  }
  return total;
}

// A row's mean as center + remainder (see norm.cpp's tables) and the mean of (x - center)^2.
template <class T>
struct Row {
  T center;
  double mean, variance;
};

template <class T>
PYDL_INLINE Row<T> row_statistics(const T* x, int64_t n, bool centred) {
  using V = Vec<T>;
  const double count = static_cast<double>(n);
  Row<T> row{T(0), 0, 0};
  if (centred) {
    row.center = static_cast<T>(
        row_sums<T>(n, [&](int64_t i, int64_t k, V& a, V&) { a += V::load_n(x + i, k); }).a / count);
  }
  const V center = V::splat(row.center);
  const Pair d = row_sums<T>(n, [&](int64_t i, int64_t k, V& a, V& b) {
    const V e = first_lanes(V::load_n(x + i, k) - center, k);
    a += e;
    b = fma(e, e, b);
  });
  const double rest = centred ? d.a / count : 0;  // what rounding left of the mean
  row.mean = static_cast<double>(row.center) + rest;
  row.variance = d.b / count - rest * rest;
  return row;
}

template <class T>
void forward(const RowNormArgs& a) {
  using V = Vec<T>;
  const int64_t rows = a.x.shape[0], n = a.x.shape[1];
  const T *x = a.x.as<T>(), *weight = optional<T>(a.weight), *bias = optional<T>(a.bias);
  T* y = a.y.as<T>();
  double *mean = a.mean.data ? a.mean.as<double>() : nullptr, *rstd = a.rstd.as<double>();
  parallel_for(rows, most(kWork / n, 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* from = x + r * n;
      const Row<T> row = row_statistics(from, n, mean != nullptr);
      rstd[r] = 1 / std::sqrt(row.variance + a.eps);
      if (mean) mean[r] = row.mean;
      const V center = V::splat(row.center), scale = V::splat(static_cast<T>(rstd[r]));
      const V shift = V::splat(static_cast<T>((static_cast<double>(row.center) - row.mean) * rstd[r]));
      T* to = y + r * n;
      const auto write = [=](auto weighted, auto biased) __attribute__((always_inline)) {
        for_each_vector<T>(n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
          V h = fma(V::load_n(from + i, k) - center, scale, shift);
          if (weighted()) h = h * V::load_n(weight + i, k);
          if (biased()) h = h + V::load_n(bias + i, k);
          h.store_n(to + i, k);
        });
      };
      if (weight)
        bias ? write(std::true_type(), std::true_type()) : write(std::true_type(), std::false_type());
      else
        bias ? write(std::false_type(), std::true_type()) : write(std::false_type(), std::false_type());
    }
  });
}

// One row's normalised elements are (x - center) * scale + shift.
template <class T>
struct RowScale {
  T center, scale, shift;
  RowScale(const double* mean, const double* rstd, int64_t r)
      : center(mean ? static_cast<T>(mean[r]) : T(0)), scale(static_cast<T>(rstd[r])),
        shift(mean ? static_cast<T>((static_cast<double>(center) - mean[r]) * rstd[r]) : T(0)) {}
  PYDL_INLINE Vec<T> normalised(const T* x, int64_t k) const {
    using V = Vec<T>;
    return fma(V::load_n(x, k) - V::splat(center), V::splat(scale), V::splat(shift));
  }
};

// dx = rstd (w dy - mean(w dy) - xhat mean(w dy xhat)); the first mean is absent in RMS norm. dweight += dy xhat, dbias += dy.
template <bool kInput, bool kParameters, class T>
void row_gradient(const T* dy, const T* x, const T* weight, const RowScale<T>& row, bool centred, int64_t n, T* dx, T* dweight,
                  T* dbias) {
  using V = Vec<T>;
  const RowScale<T> own = row;
  const auto weighted = [=](V g, int64_t i, int64_t k) __attribute__((always_inline)) {
    return weight ? g * V::load_n(weight + i, k) : g;
  };
  V m1 = V::zero(), m2 = V::zero();
  if (kInput) {
    const Pair s = row_sums<T>(n, [=](int64_t i, int64_t k, V& a, V& b) __attribute__((always_inline)) {
      const V g = weighted(V::load_n(dy + i, k), i, k);  // zero in absent lanes
      a += g;
      b = fma(g, own.normalised(x + i, k), b);
    });
    const double share = 1 / static_cast<double>(n);
    m1 = V::splat(centred ? static_cast<T>(s.a * share) : T(0));
    m2 = V::splat(static_cast<T>(s.b * share));
  }
  for_each_vector<T>(n, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    const V g = V::load_n(dy + i, k), h = own.normalised(x + i, k);
    if (kInput) ((weighted(g, i, k) - m1 - h * m2) * V::splat(own.scale)).store_n(dx + i, k);
    if (kParameters) {
      fma(g, h, V::load_n(dweight + i, k)).store_n(dweight + i, k);
      (V::load_n(dbias + i, k) + g).store_n(dbias + i, k);
    }
  });
}

template <class T>
void backward(const RowNormGradArgs& a) {
  const int64_t rows = a.x.shape[0], n = a.x.shape[1];
  const T *dy = a.dy.as<T>(), *x = a.x.as<T>(), *weight = optional<T>(a.weight);
  const double *mean = a.mean.data ? a.mean.as<double>() : nullptr, *rstd = a.rstd.as<double>();
  const bool parameters = a.dweight.data || a.dbias.data;
  T* dx = a.dx.data ? a.dx.as<T>() : nullptr;
  if (!dx && !parameters) return;
  // A slot is a run of rows that depends on the shape alone; its sums for the parameters are joined in order afterwards.
  const int64_t slot_rows = most((rows + kMaxSlots - 1) / kMaxSlots, most(kWork / n, 1));
  const int64_t slots = (rows + slot_rows - 1) / slot_rows;
  Scratch<double> sums(parameters ? slots * 2 * n : 1);
  parallel_for(slots, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> block(parameters ? 2 * n : 1);  // the sums of a block of rows
    T *dw = block.data, *db = block.data + n;
    for (int64_t s = begin; s < end; ++s) {
      double* own = sums.data + s * 2 * n;
      if (parameters) std::memset(own, 0, static_cast<size_t>(2 * n) * sizeof(double));
      const int64_t last = least((s + 1) * slot_rows, rows);
      for (int64_t r0 = s * slot_rows; r0 < last; r0 += kBlockRows) {
        const int64_t count = least(kBlockRows, last - r0);
        if (parameters) std::memset(dw, 0, static_cast<size_t>(2 * n) * sizeof(T));
        for (int64_t r = r0; r < r0 + count; ++r) {
          const int64_t at = r * n;
          const RowScale<T> scale(mean, rstd, r);
          if (!dx)
            row_gradient<false, true>(dy + at, x + at, weight, scale, mean != nullptr, n, dx, dw, db);
          else if (parameters)
            row_gradient<true, true>(dy + at, x + at, weight, scale, mean != nullptr, n, dx + at, dw, db);
          else
            row_gradient<true, false>(dy + at, x + at, weight, scale, mean != nullptr, n, dx + at, dw, db);
        }
        for (int64_t i = 0; parameters && i < 2 * n; ++i) own[i] += static_cast<double>(dw[i]);
      }
    }
  });
  if (!parameters) return;
  T *dweight = a.dweight.data ? a.dweight.as<T>() : nullptr, *dbias = a.dbias.data ? a.dbias.as<T>() : nullptr;
  parallel_for(n, most(kWork / slots, 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      double w = 0, b = 0;
      for (int64_t s = 0; s < slots; ++s) {
        w += sums.data[s * 2 * n + i];
        b += sums.data[s * 2 * n + n + i];
      }
      if (dweight) dweight[i] = static_cast<T>(w);
      if (dbias) dbias[i] = static_cast<T>(b);
    }
  });
}

// ---------------------------------------------------------------- local response normalisation
// A slot of rows has one padded line: `size` zeros, the channels, `size` zeros.
template <class T, class F>
void for_each_line(const LocalNormArgs& a, const F& body) {
  const int64_t rows = a.x.shape[0], n = a.x.shape[1];
  const int64_t slot_rows = most((rows + kMaxSlots - 1) / kMaxSlots, most(kWork / n, 1));
  const int64_t slots = (rows + slot_rows - 1) / slot_rows, pitch = n + 2 * a.size + 2 * Vec<T>::lanes;
  Scratch<T> lines(slots * pitch);
  parallel_for(slots, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      T* line = lines.data + s * pitch;
      std::memset(line, 0, static_cast<size_t>(pitch) * sizeof(T));
      for (int64_t r = s * slot_rows; r < least((s + 1) * slot_rows, rows); ++r) body(r * n, line + a.size);
    }
  });
}

template <class T>
PYDL_INLINE Vec<T> window_sum(const T* line, int64_t first, int64_t size, int64_t lanes) {
  Vec<T> sum = Vec<T>::zero();
  for (int64_t j = 0; j < size; ++j) sum += Vec<T>::load_n(line + first + j, lanes);
  return sum;
}

template <class T>
void square_line(const T* x, int64_t n, T* line) {
  using V = Vec<T>;
  for (int64_t i = 0; i < n; i += V::lanes) {
    const int64_t k = least(n - i, V::lanes);
    const V v = V::load_n(x + i, k);
    (v * v).store_n(line + i, k);
  }
}

template <class T>
void local_forward(const LocalNormArgs& a) {
  using V = Vec<T>;
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  const int64_t n = a.x.shape[1];
  const double factor = a.alpha / static_cast<double>(a.size);
  for_each_line<T>(a, [&](int64_t at, T* line) {
    square_line(x + at, n, line);
    for (int64_t i = 0; i < n; i += V::lanes) {
      const int64_t k = least(n - i, V::lanes);
      const V d = a.k + factor * window_sum(line, i - a.size / 2, a.size, k);
      (V::load_n(x + at + i, k) * exp(-a.beta * log(d))).store_n(y + at + i, k);
    }
  });
}

// With d = k + alpha/size * sum of squares and t = dy x d^(-beta-1): dx = dy d^-beta - 2 alpha beta/size x * (sum of t over
// the channels whose window holds this one, which is the mirrored window).
template <class T>
void local_backward(const LocalNormArgs& a) {
  using V = Vec<T>;
  const T *x = a.x.as<T>(), *dy = a.dy.as<T>();
  T* dx = a.y.as<T>();
  const int64_t n = a.x.shape[1];
  const double factor = a.alpha / static_cast<double>(a.size);
  for_each_line<T>(a, [&](int64_t at, T* line) {
    square_line(x + at, n, line);
    for (int64_t i = 0; i < n; i += V::lanes) {  // dx holds d for a while
      const int64_t k = least(n - i, V::lanes);
      (a.k + factor * window_sum(line, i - a.size / 2, a.size, k)).store_n(dx + at + i, k);
    }
    for (int64_t i = 0; i < n; i += V::lanes) {
      const int64_t k = least(n - i, V::lanes);
      const V d = V::load_n(dx + at + i, k), power = exp(-a.beta * log(d)), g = V::load_n(dy + at + i, k) * power;
      (g * V::load_n(x + at + i, k) / d).store_n(line + i, k);
      g.store_n(dx + at + i, k);
    }
    for (int64_t i = 0; i < n; i += V::lanes) {
      const int64_t k = least(n - i, V::lanes);
      const V t = window_sum(line, i - (a.size - 1) / 2, a.size, k);
      (V::load_n(dx + at + i, k) - 2 * a.beta * factor * V::load_n(x + at + i, k) * t).store_n(dx + at + i, k);
    }
  });
}

// ---------------------------------------------------------------- checks
void check_matrix(const Array& a, const Array& x) {
  PYDL_CHECK(a.ndim == 2 && a.contiguous() && a.dtype == x.dtype && (a.dtype == DType::f32 || a.dtype == DType::f64) &&
                 a.shape[0] == x.shape[0] && a.shape[1] == x.shape[1],
             "expected float matrices of one shape in C order");
}

void check_vector(const Array& a, int64_t n, DType dtype) {
  PYDL_CHECK(!a.data || (a.ndim == 1 && a.shape[0] == n && a.contiguous() && a.dtype == dtype),
             "a vector is of the wrong shape or dtype");
}

void check_statistics(const Array& x, const Array& mean, const Array& rstd) {
  check_vector(mean, x.shape[0], DType::f64);
  PYDL_CHECK(rstd.data, "nowhere to put the deviations");
  check_vector(rstd, x.shape[0], DType::f64);
}

void row_norm_forward_impl(const RowNormArgs& a) {
  check_matrix(a.x, a.x);
  check_matrix(a.y, a.x);
  check_statistics(a.x, a.mean, a.rstd);
  for (const Array* v : {&a.weight, &a.bias}) check_vector(*v, a.x.shape[1], a.x.dtype);
  if (a.x.size() == 0) return;
  a.x.dtype == DType::f32 ? forward<float>(a) : forward<double>(a);
}

void row_norm_backward_impl(const RowNormGradArgs& a) {
  check_matrix(a.x, a.x);
  check_matrix(a.dy, a.x);
  if (a.dx.data) check_matrix(a.dx, a.x);
  check_statistics(a.x, a.mean, a.rstd);
  for (const Array* v : {&a.weight, &a.dweight, &a.dbias}) check_vector(*v, a.x.shape[1], a.x.dtype);
  if (a.x.size() == 0) {
    for (const Array* v : {&a.dweight, &a.dbias})
      if (v->data) std::memset(v->data, 0, static_cast<size_t>(v->size() * item_size(v->dtype)));
    return;
  }
  a.x.dtype == DType::f32 ? backward<float>(a) : backward<double>(a);
}

void check_local(const LocalNormArgs& a) {
  check_matrix(a.x, a.x);
  check_matrix(a.y, a.x);
  PYDL_CHECK(a.size >= 1 && a.size <= (int64_t{1} << 30), "the window must hold at least one channel");
}

void local_norm_forward_impl(const LocalNormArgs& a) {
  check_local(a);
  if (a.x.size() == 0) return;
  a.x.dtype == DType::f32 ? local_forward<float>(a) : local_forward<double>(a);
}

void local_norm_backward_impl(const LocalNormArgs& a) {
  check_local(a);
  check_matrix(a.dy, a.x);
  if (a.x.size() == 0) return;
  a.x.dtype == DType::f32 ? local_backward<float>(a) : local_backward<double>(a);
}

PYDL_REGISTER(row_norm_forward, row_norm_forward_impl);
PYDL_REGISTER(row_norm_backward, row_norm_backward_impl);
PYDL_REGISTER(local_norm_forward, local_norm_forward_impl);
PYDL_REGISTER(local_norm_backward, local_norm_backward_impl);

}  // namespace
}  // namespace pydl
