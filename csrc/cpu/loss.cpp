#include "cpu/loss.h"

#include <atomic>

#include "core/parallel.h"
#include "core/simd_math.h"

namespace pydl {
namespace {

constexpr int64_t kGrain = 8192;

// With p = softmax(x), target t, class weights w, smoothing s over C classes:
//   loss = (1 - s) w_t (-log p_t) + s/C sum_c w_c (-log p_c)
//   dloss/dx_j = p_j ((1 - s) w_t + s/C sum_c w_c) - (1 - s) w_t [j = t] - s/C w_j
template <class T>
struct Criterion {
  const T* weight;  // nullptr: all 1
  int64_t classes, ignore_index;
  T hard, soft;     // 1 - s and s / C
  T weight_sum;

  Criterion(const Array& w, int64_t classes, int64_t ignore_index, double smoothing)
      : weight(w.size() ? w.as<T>() : nullptr),
        classes(classes),
        ignore_index(ignore_index),
        hard(static_cast<T>(1 - smoothing)),
        soft(static_cast<T>(smoothing / static_cast<double>(classes))) {
    double total = weight ? 0 : static_cast<double>(classes);
    for (int64_t c = 0; weight && c < classes; ++c) total += weight[c];
    weight_sum = static_cast<T>(total);
  }
  bool counts(int64_t target) const { return target != ignore_index && target >= 0 && target < classes; }
  T of(int64_t c) const { return weight ? weight[c] : T(1); }
};

template <class T>
T largest(const T* x, int64_t n) {
  using V = Vec<T>;
  V top = V::splat(-std::numeric_limits<T>::infinity());
  int64_t i = 0;
  for (; i + V::lanes <= n; i += V::lanes) top = max(V::load(x + i), top);
  T m = max_lanes(top);
  for (; i < n; ++i) m = x[i] > m ? x[i] : m;
  return m;
}

template <class T>
T sum_of_exponentials(const T* x, int64_t n, T shift) {
  using V = Vec<T>;
  V sum = V::zero();
  int64_t i = 0;
  for (; i + V::lanes <= n; i += V::lanes) sum += exp(V::load(x + i) - V::splat(shift));
  T tail = 0;
  if (i < n) {
    const V e = exp(V::load_n(x + i, n - i) - V::splat(shift));
    for (int64_t j = 0; j < n - i; ++j) tail += e.v[j];
  }
  return sum_lanes(sum) + tail;
}

template <class T>
T position_loss(const Criterion<T>& c, const T* x, int64_t target, T top, T log_sum) {
  T loss = c.hard * c.of(target) * ((top - x[target]) + log_sum);
  if (c.soft != 0) {
    T spread = 0;
    for (int64_t j = 0; j < c.classes; ++j) spread += c.of(j) * ((top - x[j]) + log_sum);
    loss += c.soft * spread;
  }
  return loss;
}

template <class T>
int64_t forward(const CrossEntropyArgs& a) {
  const int64_t positions = a.x.shape[0], n = a.x.shape[1];
  const Criterion<T> criterion(a.weight, n, a.ignore_index, a.smoothing);
  const T* x = a.x.as<T>();
  const int64_t* target = a.target.as<int64_t>();
  T *loss = a.loss.as<T>(), *used = a.used.as<T>(), *stats = a.stats.as<T>();
  std::atomic<int64_t> wrong{positions};
  parallel_for(positions, kGrain / (n + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* row = x + i * n;
      const T top = largest(row, n), log_sum = std::log(sum_of_exponentials(row, n, top));
      stats[i] = top;
      stats[positions + i] = log_sum;
      const bool counts = criterion.counts(target[i]);
      if (!counts && target[i] != a.ignore_index) {
        int64_t first = wrong.load();
        while (i < first && !wrong.compare_exchange_weak(first, i)) {
        }
      }
      used[i] = counts ? criterion.of(target[i]) : T(0);
      loss[i] = counts ? position_loss(criterion, row, target[i], top, log_sum) : T(0);
    }
  });
  return wrong.load() == positions ? -1 : wrong.load();
}

template <class T>
void position_gradient(const Criterion<T>& c, const T* x, T* dx, int64_t target, T top, T log_sum, T g) {
  using V = Vec<T>;
  const T picked = c.hard * c.of(target);
  const V scale = V::splat(g * (picked + c.soft * c.weight_sum)), soft = V::splat(g * c.soft);
  for (int64_t j = 0; j < c.classes; j += V::lanes) {
    const int64_t m = c.classes - j < V::lanes ? c.classes - j : V::lanes;
    V d = exp((V::load_n(x + j, m) - V::splat(top)) - V::splat(log_sum)) * scale;
    if (c.soft != 0) d = d - (c.weight ? soft * V::load_n(c.weight + j, m) : soft);
    d.store_n(dx + j, m);
  }
  dx[target] -= g * picked;
}

template <class T>
void backward(const CrossEntropyGradArgs& a) {
  const int64_t positions = a.x.shape[0], n = a.x.shape[1];
  const Criterion<T> criterion(a.weight, n, a.ignore_index, a.smoothing);
  const T *x = a.x.as<T>(), *stats = a.stats.as<T>(), *g = a.g.as<T>();
  const int64_t* target = a.target.as<int64_t>();
  T* dx = a.dx.as<T>();
  parallel_for(positions, kGrain / (n + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (criterion.counts(target[i])) {
        position_gradient(criterion, x + i * n, dx + i * n, target[i], stats[i], stats[positions + i], g[i]);
      } else {
        for (int64_t j = 0; j < n; ++j) dx[i * n + j] = 0;
      }
    }
  });
}

void check(const Array& x, const Array& target, const Array& weight, const Array& stats) {
  PYDL_CHECK(x.ndim == 2 && x.contiguous() && x.shape[1] > 0, "expected scores [positions, classes] in C order");
  PYDL_CHECK(x.dtype == DType::f32 || x.dtype == DType::f64, "expected float32 or float64 scores");
  PYDL_CHECK(target.contiguous() && target.size() == x.shape[0], "expected a class number for each position");
  PYDL_CHECK(weight.contiguous() && (weight.size() == 0 || weight.size() == x.shape[1]), "expected a weight for each class");
  PYDL_CHECK(stats.contiguous() && stats.size() == 2 * x.shape[0] && stats.dtype == x.dtype, "expected stats [2, positions]");
}

int64_t cross_entropy_forward_impl(const CrossEntropyArgs& a) {
  check(a.x, a.target, a.weight, a.stats);
  for (const Array* out : {&a.loss, &a.used})
    PYDL_CHECK(out->contiguous() && out->size() == a.x.shape[0], "expected an output for each position");
  return a.x.dtype == DType::f32 ? forward<float>(a) : forward<double>(a);
}

void cross_entropy_backward_impl(const CrossEntropyGradArgs& a) {
  check(a.x, a.target, a.weight, a.stats);
  PYDL_CHECK(a.g.contiguous() && a.g.size() == a.x.shape[0], "expected a gradient for each position");
  PYDL_CHECK(a.dx.contiguous() && a.dx.size() == a.x.size(), "expected a result of the scores' shape");
  a.x.dtype == DType::f32 ? backward<float>(a) : backward<double>(a);
}

PYDL_REGISTER(cross_entropy_forward, cross_entropy_forward_impl);
PYDL_REGISTER(cross_entropy_backward, cross_entropy_backward_impl);

}  // namespace
}  // namespace pydl
