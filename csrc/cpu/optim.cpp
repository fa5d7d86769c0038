#include "cpu/optim.h"

#include "core/parallel.h"
#include "core/simd.h"

namespace pydl {
namespace {

constexpr int64_t kChunk = 16384;  // elements of one parallel task

template <class T>
struct Slices {  // one chunk of one parameter
  T *p, *s1, *s2, *s3;
  const T* g;
};

// The gradient as the rule sees it: its sign for maximisation, plus L2 decay unless it is decoupled.
template <class T>
PYDL_INLINE Vec<T> effective(const OptimArgs& a, Vec<T> g, Vec<T> p) {
  if (a.maximize) g = -g;
  return a.weight_decay != 0 && !a.decoupled ? g + p * a.weight_decay : g;
}

// v = momentum v + (1 - dampening) g; p -= lr v, or lr (g + momentum v) with Nesterov.
template <class T>
PYDL_INLINE void sgd(const OptimArgs& a, const Slices<T>& s, int64_t i, int64_t n) {
  using V = Vec<T>;
  V p = V::load_n(s.p + i, n), g = effective(a, V::load_n(s.g + i, n), p);
  if (a.momentum != 0) {
    const V v = a.first ? g : V::load_n(s.s1 + i, n) * a.momentum + g * (1.0 - a.dampening);
    v.store_n(s.s1 + i, n);
    g = a.nesterov ? g + v * a.momentum : v;
  }
  (p - g * a.lr).store_n(s.p + i, n);
}

// m, v: running means of g and g^2, corrected for their start at 0; p -= lr m^ / (sqrt(v^) + eps).
template <class T>
PYDL_INLINE void adam(const OptimArgs& a, const Slices<T>& s, int64_t i, int64_t n) {
  using V = Vec<T>;
  V p = V::load_n(s.p + i, n);
  const V g = effective(a, V::load_n(s.g + i, n), p);
  if (a.decoupled) p = p * (1.0 - a.lr * a.weight_decay);
  const V m0 = V::load_n(s.s1 + i, n);
  const V m = m0 + (g - m0) * (1.0 - a.beta1);
  const V v = V::load_n(s.s2 + i, n) * a.beta2 + g * g * (1.0 - a.beta2);
  m.store_n(s.s1 + i, n);
  v.store_n(s.s2 + i, n);
  V scale = v;
  if (a.amsgrad) {
    scale = max(V::load_n(s.s3 + i, n), v);
    scale.store_n(s.s3 + i, n);
  }
  const V denominator = sqrt(scale) / std::sqrt(a.correction2) + a.eps;
  (p - (m / denominator) * (a.lr / a.correction1)).store_n(s.p + i, n);
}

// v: running mean of g^2 (less the square of the mean of g, when centred); p -= lr g / (sqrt(v) + eps), with momentum.
template <class T>
PYDL_INLINE void rmsprop(const OptimArgs& a, const Slices<T>& s, int64_t i, int64_t n) {
  using V = Vec<T>;
  V p = V::load_n(s.p + i, n);
  const V g = effective(a, V::load_n(s.g + i, n), p);
  const V v = V::load_n(s.s1 + i, n) * a.beta2 + g * g * (1.0 - a.beta2);
  v.store_n(s.s1 + i, n);
  V spread = v;
  if (a.centered) {
    const V m0 = V::load_n(s.s3 + i, n);
    const V m = m0 + (g - m0) * (1.0 - a.beta2);
    m.store_n(s.s3 + i, n);
    spread = v - m * m;
  }
  V step = g / (sqrt(spread) + a.eps);
  if (a.momentum != 0) {
    step = V::load_n(s.s2 + i, n) * a.momentum + step;
    step.store_n(s.s2 + i, n);
  }
  (p - step * a.lr).store_n(s.p + i, n);
}

// s: sum of g^2; p -= lr g / (sqrt(s) + eps). The learning rate comes with its decay applied.
template <class T>
PYDL_INLINE void adagrad(const OptimArgs& a, const Slices<T>& s, int64_t i, int64_t n) {
  using V = Vec<T>;
  const V p = V::load_n(s.p + i, n), g = effective(a, V::load_n(s.g + i, n), p);
  const V sum = V::load_n(s.s1 + i, n) + g * g;
  sum.store_n(s.s1 + i, n);
  (p - g / (sqrt(sum) + a.eps) * a.lr).store_n(s.p + i, n);
}

template <class T>
void step(const OptimArgs& a) {
  const size_t count = a.parameters.size();
  // Task t belongs to the parameter whose chunks contain it; the prefix sums are kept on the side.
  std::vector<int64_t> first(count + 1, 0);
  for (size_t k = 0; k < count; ++k) first[k + 1] = first[k] + (a.parameters[k].size() + kChunk - 1) / kChunk;
  parallel_for(first[count], 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      size_t k = 0;
      while (first[k + 1] <= t) ++k;
      const int64_t start = (t - first[k]) * kChunk, size = a.parameters[k].size();
      const int64_t n = size - start < kChunk ? size - start : kChunk;
      const auto at = [&](const std::vector<Array>& v) { return v.empty() ? nullptr : static_cast<T*>(v[k].data) + start; };
      const Slices<T> s{at(a.parameters), at(a.state1), at(a.state2), at(a.state3), at(a.gradients)};
      for (int64_t i = 0; i < n; i += Vec<T>::lanes) {
        const int64_t m = n - i < Vec<T>::lanes ? n - i : Vec<T>::lanes;
        switch (a.kind) {
          case Optimizer::sgd: sgd<T>(a, s, i, m); break;
          case Optimizer::adam: adam<T>(a, s, i, m); break;
          case Optimizer::rmsprop: rmsprop<T>(a, s, i, m); break;
          case Optimizer::adagrad: adagrad<T>(a, s, i, m); break;
        }
      }
    }
  });
}

// Whether the elements fill their memory in some order of the axes, so that they can be walked as one run.
bool dense(const Array& a) {
  int64_t expected = 1;
  bool used[kMaxDims] = {};
  if (a.size() == 0) return true;
  for (int done = 0; done < a.ndim; ++done) {
    int next = -1;
    for (int i = 0; i < a.ndim; ++i) {
      if (!used[i] && (a.shape[i] == 1 || a.strides[i] == expected)) next = i;
    }
    if (next < 0) return false;
    used[next] = true;
    expected *= a.shape[next];
  }
  return true;
}

bool same_layout(const Array& a, const Array& b) {
  if (a.ndim != b.ndim) return false;
  for (int i = 0; i < a.ndim; ++i) {
    if (a.shape[i] != b.shape[i] || (a.shape[i] > 1 && a.strides[i] != b.strides[i])) return false;
  }
  return true;
}

void optim_step_impl(const OptimArgs& a) {
  if (a.parameters.empty()) return;
  const DType dtype = a.parameters[0].dtype;
  PYDL_CHECK(dtype == DType::f32 || dtype == DType::f64, "expected float32 or float64");
  for (const auto* group : {&a.parameters, &a.gradients, &a.state1, &a.state2, &a.state3}) {
    PYDL_CHECK(group->empty() || group->size() == a.parameters.size(), "one array for each parameter is needed");
    for (size_t k = 0; k < group->size(); ++k) {
      PYDL_CHECK((*group)[k].dtype == dtype && same_layout((*group)[k], a.parameters[k]), "an array does not fit its parameter");
      PYDL_CHECK(dense((*group)[k]), "an array has gaps in its memory");
    }
  }
  const bool needs1 = a.kind != Optimizer::sgd || a.momentum != 0;
  const bool needs2 = a.kind == Optimizer::adam || (a.kind == Optimizer::rmsprop && a.momentum != 0);
  const bool needs3 = (a.kind == Optimizer::adam && a.amsgrad) || (a.kind == Optimizer::rmsprop && a.centered);
  PYDL_CHECK(!a.gradients.empty() && (!needs1 || !a.state1.empty()) && (!needs2 || !a.state2.empty()) &&
                 (!needs3 || !a.state3.empty()),
             "an array of state is missing");
  dtype == DType::f32 ? step<float>(a) : step<double>(a);
}

PYDL_REGISTER(optim_step, optim_step_impl);

}  // namespace
}  // namespace pydl
