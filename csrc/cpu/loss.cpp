#include "cpu/loss.h"

#include "core/parallel.h"
#include "core/scratch.h"
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

// Few classes (the pixels of a segmentation): kBlock positions are transposed, so that a lane is a position.
constexpr int64_t kBlock = 128, kFewClasses = 16;

template <int64_t N>
struct Count {
  static constexpr int64_t value = N;  // 0: known when it runs
};

// Calls f(Count<classes>): the usual small numbers get loops of known stride, which become shuffles.
template <class F>
void with_classes(int64_t classes, const F& f) {
  switch (classes) {
    case 2: return f(Count<2>{});
    case 3: return f(Count<3>{});
    case 4: return f(Count<4>{});
    default: return f(Count<0>{});
  }
}

template <int64_t kClasses, class T>
void to_columns(const T* x, int64_t n, int64_t classes, T* columns) {  // columns[c][kBlock]
  const int64_t C = kClasses ? kClasses : classes;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < C; ++c) columns[c * kBlock + i] = x[i * C + c];
}
template <int64_t kClasses, class T>
void from_columns(const T* columns, int64_t n, int64_t classes, T* x) {
  const int64_t C = kClasses ? kClasses : classes;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < C; ++c) x[i * C + c] = columns[c * kBlock + i];
}

// The targets of a block: class (-1 where the position does not count), and the weight of that class.
template <class T>
struct Targets {
  T number[kBlock], weight[kBlock];

  // Returns the first class number that does not exist, or n.
  int64_t fill(const Criterion<T>& c, const int64_t* target, int64_t n) {
    int64_t wrong = n;
    for (int64_t i = n - 1; i >= 0; --i) {
      const bool counts = c.counts(target[i]);
      number[i] = counts ? static_cast<T>(target[i]) : T(-1);
      weight[i] = counts ? c.of(target[i]) : T(0);
      if (!counts && target[i] != c.ignore_index) wrong = i;
    }
    for (int64_t i = n; i < kBlock; ++i) number[i] = T(-1);
    return wrong;
  }
};

// Loss and statistics of n <= kBlock positions.
template <class T>
void block_forward(const Criterion<T>& c, const T* columns, const Targets<T>& targets, int64_t n, T* loss, T* top_out,
                   T* log_out) {
  using V = Vec<T>;
  for (int64_t i = 0; i < n; i += V::lanes) {
    const int64_t m = n - i;
    const V number = V::load(targets.number + i), weight = V::load_n(targets.weight + i, m);
    V top = V::splat(-std::numeric_limits<T>::infinity()), sum = V::zero(), picked = V::zero(), spread = V::zero();
    for (int64_t k = 0; k < c.classes; ++k) top = max(V::load_n(columns + k * kBlock + i, m), top);
    for (int64_t k = 0; k < c.classes; ++k) {
      const V x = V::load_n(columns + k * kBlock + i, m);
      sum += exp(x - top);
      picked = select(number == V::splat(static_cast<T>(k)), x, picked);
    }
    const V log_sum = log(sum);
    V value = c.hard * weight * ((top - picked) + log_sum);
    if (c.soft != 0) {
      for (int64_t k = 0; k < c.classes; ++k)
        spread = fma(V::splat(c.of(k)), (top - V::load_n(columns + k * kBlock + i, m)) + log_sum, spread);
      value = fma(V::splat(c.soft), spread, value);
    }
    select(number < 0.0, V::zero(), value).store_n(loss + i, m);
    top.store_n(top_out + i, m);
    log_sum.store_n(log_out + i, m);
  }
}

// columns becomes the gradient; g points at one number for each position, or (step 0) at one for all.
template <class T>
void block_backward(const Criterion<T>& c, T* columns, const Targets<T>& targets, int64_t n, const T* top, const T* log_sum,
                    const T* g, int64_t g_step) {
  using V = Vec<T>;
  for (int64_t i = 0; i < n; i += V::lanes) {
    const int64_t m = n - i;
    const V number = V::load(targets.number + i), gradient = g_step ? V::load_n(g + i, m) : V::splat(*g);
    const V picked = c.hard * V::load_n(targets.weight + i, m), scale = gradient * (picked + c.soft * c.weight_sum);
    const V shift = V::load_n(top + i, m), logarithm = V::load_n(log_sum + i, m), soft = gradient * c.soft;
    for (int64_t k = 0; k < c.classes; ++k) {
      T* x = columns + k * kBlock + i;
      V d = exp((V::load_n(x, m) - shift) - logarithm) * scale;
      if (c.soft != 0) d = d - soft * V::splat(c.of(k));
      d = select(number == V::splat(static_cast<T>(k)), d - gradient * picked, d);
      select(number < 0.0, V::zero(), d).store_n(x, m);
    }
  }
}

// What a chunk of positions adds to the result.
struct Partial {
  double loss = 0, weight = 0;
  int64_t wrong = -1;
};

template <class T>
void rows_forward(const CrossEntropyArgs& a, const Criterion<T>& criterion, int64_t begin, int64_t end, Partial& sums) {
  const int64_t positions = a.x.shape[0], n = a.x.shape[1];
  const int64_t* target = a.target.as<int64_t>();
  T *losses = a.loss.data ? a.loss.as<T>() : nullptr, *stats = a.stats.as<T>();
  for (int64_t i = begin; i < end; ++i) {
    const T* row = a.x.as<T>() + i * n;
    const T top = largest(row, n), log_sum = std::log(sum_of_exponentials(row, n, top));
    stats[i] = top;
    stats[positions + i] = log_sum;
    const bool counts = criterion.counts(target[i]);
    if (!counts && target[i] != a.ignore_index && sums.wrong < 0) sums.wrong = i;
    const T loss = counts ? position_loss(criterion, row, target[i], top, log_sum) : T(0);
    if (losses) losses[i] = loss;
    sums.loss += static_cast<double>(loss);
    if (counts) sums.weight += static_cast<double>(criterion.of(target[i]));
  }
}

template <class T>
void blocks_forward(const CrossEntropyArgs& a, const Criterion<T>& criterion, int64_t begin, int64_t end, Partial& sums) {
  const int64_t positions = a.x.shape[0], classes = a.x.shape[1];
  T* stats = a.stats.as<T>();
  T columns[kFewClasses * kBlock], losses[kBlock];
  Targets<T> targets;
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t n = end - i < kBlock ? end - i : kBlock;
    const int64_t wrong = targets.fill(criterion, a.target.as<int64_t>() + i, n);
    if (wrong < n && sums.wrong < 0) sums.wrong = i + wrong;
    with_classes(classes, [&](auto c) { to_columns<decltype(c)::value>(a.x.as<T>() + i * classes, n, classes, columns); });
    T* loss = a.loss.data ? a.loss.as<T>() + i : losses;
    block_forward(criterion, columns, targets, n, loss, stats + i, stats + positions + i);
    double lanes[8] = {}, weights[8] = {};  // eight sums side by side: one would wait for itself
    for (int64_t j = 0; j < n; ++j) {
      lanes[j % 8] += static_cast<double>(loss[j]);
      weights[j % 8] += static_cast<double>(targets.weight[j]);
    }
    for (int64_t j = 0; j < 8; ++j) {
      sums.loss += lanes[j];
      sums.weight += weights[j];
    }
  }
}

int64_t grain_of(int64_t classes) { return (kGrain / (classes + 1) / kBlock + 1) * kBlock; }

template <class T>
int64_t forward(const CrossEntropyArgs& a) {
  const int64_t positions = a.x.shape[0], n = a.x.shape[1];
  const int64_t grain = n <= kFewClasses ? grain_of(n) : kGrain / (n + 1) + 1;
  const Criterion<T> criterion(a.weight, n, a.ignore_index, a.smoothing);
  const int64_t chunks = (positions + grain - 1) / grain;
  Scratch<Partial> partial(chunks + 1);
  parallel_for(positions, grain, [&](int64_t begin, int64_t end) {
    Partial sums;
    n <= kFewClasses ? blocks_forward(a, criterion, begin, end, sums) : rows_forward(a, criterion, begin, end, sums);
    partial.data[begin / grain] = sums;
  });
  Partial result;
  for (int64_t i = 0; i < chunks; ++i) {
    if (result.wrong < 0) result.wrong = partial.data[i].wrong;
    result.loss += partial.data[i].loss;
    result.weight += partial.data[i].weight;
  }
  if (!a.loss.data) {
    const double divisor = a.mean ? result.weight : 1.0;
    *a.divisor.as<double>() = divisor;
    // Without a position that counts the mean is NaN, as in PyTorch.
    *a.out.as<T>() = static_cast<T>(divisor != 0 ? result.loss / divisor : std::nan(""));
  }
  return result.wrong;
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
  const int64_t positions = a.x.shape[0], n = a.x.shape[1], g_step = a.g.size() == 1 ? 0 : 1;
  const Criterion<T> criterion(a.weight, n, a.ignore_index, a.smoothing);
  const T *x = a.x.as<T>(), *stats = a.stats.as<T>(), *g = a.g.as<T>();
  T share = 0;
  if (a.divisor.data) {
    const double divisor = *a.divisor.as<double>();
    share = static_cast<T>(divisor != 0 ? static_cast<double>(*g) / divisor : std::nan(""));
    g = &share;
  }
  const int64_t* target = a.target.as<int64_t>();
  T* dx = a.dx.as<T>();
  if (n <= kFewClasses) {
    parallel_for(positions, grain_of(n), [&](int64_t begin, int64_t end) {
      T columns[kFewClasses * kBlock];
      Targets<T> targets;
      for (int64_t i = begin; i < end; i += kBlock) {
        const int64_t count = end - i < kBlock ? end - i : kBlock;
        targets.fill(criterion, target + i, count);
        with_classes(n, [&](auto c) { to_columns<decltype(c)::value>(x + i * n, count, n, columns); });
        block_backward(criterion, columns, targets, count, stats + i, stats + positions + i, g + i * g_step, g_step);
        with_classes(n, [&](auto c) { from_columns<decltype(c)::value>(columns, count, n, dx + i * n); });
      }
    });
    return;
  }
  parallel_for(positions, kGrain / (n + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (criterion.counts(target[i])) {
        position_gradient(criterion, x + i * n, dx + i * n, target[i], stats[i], stats[positions + i], g[i * g_step]);
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
  PYDL_CHECK(!a.loss.data || (a.loss.contiguous() && a.loss.size() == a.x.shape[0]), "expected a loss for each position");
  PYDL_CHECK(a.loss.data || (a.out.data && a.divisor.data && a.out.size() == 1 && a.divisor.size() == 1),
             "expected a place for the loss");
  return a.x.dtype == DType::f32 ? forward<float>(a) : forward<double>(a);
}

void cross_entropy_backward_impl(const CrossEntropyGradArgs& a) {
  check(a.x, a.target, a.weight, a.stats);
  PYDL_CHECK(a.g.contiguous() && (a.g.size() == 1 || a.g.size() == a.x.shape[0]), "expected a gradient for each position");
  PYDL_CHECK(!a.divisor.data || (a.g.size() == 1 && a.divisor.size() == 1), "expected one gradient and one number to divide it by");
  PYDL_CHECK(a.dx.contiguous() && a.dx.size() == a.x.size(), "expected a result of the scores' shape");
  a.x.dtype == DType::f32 ? backward<float>(a) : backward<double>(a);
}

PYDL_REGISTER(cross_entropy_forward, cross_entropy_forward_impl);
PYDL_REGISTER(cross_entropy_backward, cross_entropy_backward_impl);

}  // namespace
}  // namespace pydl
