// Batch, instance and group normalisation: see norm.h. Layer and RMS norm are in norm_rows.cpp.
#include "cpu/norm.h"

#include "cpu/norm_columns.h"

namespace pydl {
namespace {

// Coefficients per (group, channel), repeated `fold` times to the folded width. The mean is held as center + remainder:
// x - center is nearly exact in T, and the remainder goes into the additive coefficient.
template <class T>
struct Tables {
  static constexpr int64_t kCount = 5;
  Scratch<T> memory;
  int64_t width;
  explicit Tables(const ColumnPlan& p) : memory(p.groups * p.width * kCount), width(p.width) {}
  T* get(int64_t group, int64_t k) const { return memory.data + (group * kCount + k) * width; }
  void repeat(const ColumnPlan& p, int64_t group, int64_t count) const {
    for (int64_t k = 0; k < count; ++k)
      for (int64_t i = p.channels; i < p.width; ++i) get(group, k)[i] = get(group, k)[i - p.channels];
  }
};

// Mean and reciprocal deviation of each set of channels from the moments of the channels, all slots joined.
// `moments` holds [group][slot][mean, m2][channels]; slot 0 of each group receives the joined moments.
void finish_statistics(const ColumnNormArgs& a, const ColumnPlan& p, double* moments) {
  const int64_t sets = a.mean.shape[1], members = p.channels / sets;
  double *mean = a.mean.as<double>(), *rstd = a.rstd.as<double>();
  parallel_for(p.groups, most(kSlotWork / (8 * p.slots * p.channels + 1), 1), [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      double* all = moments + g * p.slots * 2 * p.channels;
      for (int64_t s = 1; s < p.slots; ++s) {
        const double* one = all + s * 2 * p.channels;
        join_moments(all, all + p.channels, one, one + p.channels, p.channels, static_cast<double>(s * p.slot_rows),
                     static_cast<double>(p.slot_length(s)));
      }
      for (int64_t k = 0; k < sets; ++k) {
        double m = 0, m2 = 0;
        for (int64_t i = 0; i < members; ++i) {
          const int64_t c = k * members + i;
          join_moments(&m, &m2, all + c, all + p.channels + c, 1, static_cast<double>(i * p.rows), static_cast<double>(p.rows));
        }
        mean[g * sets + k] = m;
        rstd[g * sets + k] = 1 / std::sqrt(m2 / static_cast<double>(p.rows * members) + a.eps);
      }
    }
  });
}

// running = (1 - momentum) running + momentum * (mean of the groups' statistics), with the unbiased variance.
template <class T>
void move_running(const ColumnNormArgs& a, const ColumnPlan& p, const double* moments) {
  if (!a.running_mean.data) return;
  T *mean = a.running_mean.as<T>(), *var = a.running_var.as<T>();
  const double share = a.momentum / static_cast<double>(p.groups);
  for (int64_t c = 0; c < p.channels; ++c) {
    double m = 0, v = 0;
    for (int64_t g = 0; g < p.groups; ++g) {
      const double* all = moments + g * p.slots * 2 * p.channels;
      m += all[c];
      v += all[p.channels + c] / static_cast<double>(p.rows - 1);
    }
    mean[c] = static_cast<T>((1 - a.momentum) * mean[c] + share * m);
    var[c] = static_cast<T>((1 - a.momentum) * var[c] + share * v);
  }
}

template <class T>
void compute_statistics(const ColumnNormArgs& a, const ColumnPlan& p) {
  if (a.known) return;
  if (!a.training) {
    const T *m = a.running_mean.as<T>(), *v = a.running_var.as<T>();
    for (int64_t c = 0; c < p.channels; ++c) {
      a.mean.as<double>()[c] = m[c];
      a.rstd.as<double>()[c] = 1 / std::sqrt(static_cast<double>(v[c]) + a.eps);
    }
    return;
  }
  const T* x = a.x.as<T>();
  Scratch<double> moments(p.groups * p.slots * 2 * p.channels);
  p.for_each_slot(false, [&](int64_t g, int64_t s) {
    double* to = moments.data + (g * p.slots + s) * 2 * p.channels;
    slot_moments(p, x + p.slot_offset(g, s), p.slot_length(s), to, to + p.channels);
  });
  finish_statistics(a, p, moments.data);
  move_running<T>(a, p, moments.data);
}

// y = (x - center) scale + shift. Not inlined: the compiler would contract its products differently from one caller to the
// next, and the same bits are wanted in forward and backward.
template <class T>
[[gnu::noinline]] void affine_coefficients(const ColumnPlan& p, const Tables<T>& tables, const Array& mean, const Array& rstd, const T* weight,
                         const T* bias, int64_t scale_at, int64_t shift_at) {
  const int64_t sets = mean.shape[1], members = p.channels / sets;
  for (int64_t g = 0; g < p.groups; ++g) {
    T *center = tables.get(g, 0), *scale = tables.get(g, scale_at), *shift = tables.get(g, shift_at);
    for (int64_t c = 0; c < p.channels; ++c) {
      const int64_t k = g * sets + c / members;
      const double m = mean.as<double>()[k], factor = rstd.as<double>()[k] * (weight ? weight[c] : 1.0);
      center[c] = static_cast<T>(m);
      scale[c] = static_cast<T>(factor);
      shift[c] = static_cast<T>((bias ? bias[c] : 0.0) - (m - center[c]) * factor);
    }
  }
}

template <class T>
void forward(const ColumnNormArgs& a) {
  using V = Vec<T>;
  const ColumnPlan p(a.x, V::lanes);
  compute_statistics<T>(a, p);
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  const Tables<T> tables(p);
  affine_coefficients(p, tables, a.mean, a.rstd, optional<T>(a.weight), optional<T>(a.bias), 1, 2);
  for (int64_t g = 0; g < p.groups; ++g) tables.repeat(p, g, 3);
  const T* residual = optional<T>(a.residual);
  p.for_each_slot(a.training, [&](int64_t g, int64_t s) {
    const int64_t start = p.slot_offset(g, s);
    const T *from = x + start, *center = tables.get(g, 0), *scale = tables.get(g, 1), *shift = tables.get(g, 2);
    T* to = y + start;
    const auto normalised = [&](int64_t at, int64_t c, int64_t n) {
      const V d = V::load_n(from + at, n) - V::load_n(center + c, n);
      return fma(d, V::load_n(scale + c, n), V::load_n(shift + c, n));
    };
    const auto positive = [](V v) { return select(v <= 0.0, V::zero(), v); };  // NaN stays
    if (residual)
      for_each_vector<T>(p, p.slot_length(s), [&](int64_t at, int64_t c, int64_t n) {
        const V v = normalised(at, c, n) + V::load_n(residual + start + at, n);
        (a.relu ? positive(v) : v).store_n(to + at, n);
      });
    else if (a.relu)
      for_each_vector<T>(p, p.slot_length(s),
                         [&](int64_t at, int64_t c, int64_t n) { positive(normalised(at, c, n)).store_n(to + at, n); });
    else
      for_each_vector<T>(p, p.slot_length(s),
                         [&](int64_t at, int64_t c, int64_t n) { normalised(at, c, n).store_n(to + at, n); });
  });
}

// The tables of the backward pass: center, the coefficients of dy, x - center and 1, and the shift of forward (whose scale is
// the coefficient of dy).
constexpr int64_t kScale = 1, kShift = 4;

template <class T>
GradInputs<T> inputs_at(const ColumnNormGradArgs& a, const Tables<T>& tables, int64_t group, int64_t start) {
  const GradInputs<T> all{a.dy.as<T>(), a.x.as<T>(), optional<T>(a.y), tables.get(group, 0), tables.get(group, kScale),
                          tables.get(group, kShift)};
  return all.from(start);
}

// Sums of dy and of dy * (x - mean) for each (group, channel), into slot 0 of `sums` [group][slot][sum, dot][channels].
template <Relu kRelu, class T>
void gradient_sums(const ColumnNormGradArgs& a, const ColumnPlan& p, const Tables<T>& tables, double* sums) {
  p.for_each_slot(false, [&](int64_t g, int64_t s) {
    double* to = sums + (g * p.slots + s) * 2 * p.channels;
    slot_grad_sums<kRelu>(p, inputs_at(a, tables, g, p.slot_offset(g, s)), p.slot_length(s), to, to + p.channels);
  });
  const int64_t sets = a.mean.shape[1], members = p.channels / sets;
  const double* mean = a.mean.as<double>();
  parallel_for(p.groups, most(kSlotWork / (2 * p.slots * p.channels + 1), 1), [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      double* all = sums + g * p.slots * 2 * p.channels;
      for (int64_t s = 1; s < p.slots; ++s)
        for (int64_t i = 0; i < 2 * p.channels; ++i) all[i] += all[s * 2 * p.channels + i];
      for (int64_t c = 0; c < p.channels; ++c)  // the sums were of x - center
        all[p.channels + c] -= (mean[g * sets + c / members] - tables.get(g, 0)[c]) * all[c];
    }
  });
}

template <class T>
void parameter_gradients(const ColumnNormGradArgs& a, const ColumnPlan& p, const double* sums) {
  const int64_t sets = a.mean.shape[1], members = p.channels / sets;
  const double* rstd = a.rstd.as<double>();
  T *dweight = a.dweight.data ? a.dweight.as<T>() : nullptr, *dbias = a.dbias.data ? a.dbias.as<T>() : nullptr;
  for (int64_t c = 0; c < p.channels; ++c) {
    double sum = 0, dot = 0;
    for (int64_t g = 0; g < p.groups; ++g) {
      const double* all = sums + g * p.slots * 2 * p.channels;
      sum += all[c];
      dot += all[p.channels + c] * rstd[g * sets + c / members];
    }
    if (dweight) dweight[c] = static_cast<T>(dot);
    if (dbias) dbias[c] = static_cast<T>(sum);
  }
}

// dx = rstd (w dy - mean(w dy) - xhat mean(w dy xhat)), means over the set, as a dy + b (x - center) + c.
template <class T>
[[gnu::noinline]] void input_coefficients(const ColumnNormGradArgs& a, const ColumnPlan& p, const Tables<T>& tables, const double* sums) {
  const int64_t sets = a.mean.shape[1], members = p.channels / sets;
  const double *mean = a.mean.as<double>(), *rstd = a.rstd.as<double>();
  const T* weight = optional<T>(a.weight);
  const double share = 1 / static_cast<double>(p.rows * members);
  for (int64_t g = 0; g < p.groups; ++g) {
    const double* all = sums + g * p.slots * 2 * p.channels;
    T *center = tables.get(g, 0), *ta = tables.get(g, 1), *tb = tables.get(g, 2), *tc = tables.get(g, 3);
    for (int64_t k = 0; k < sets; ++k) {
      const double m = mean[g * sets + k], r = rstd[g * sets + k];
      double s1 = 0, s2 = 0;
      for (int64_t c = k * members; a.training && c < (k + 1) * members; ++c) {
        const double w = weight ? weight[c] : 1.0;
        s1 += w * all[c] * share;
        s2 += w * all[p.channels + c] * share;
      }
      for (int64_t c = k * members; c < (k + 1) * members; ++c) {
        ta[c] = static_cast<T>(r * (weight ? weight[c] : 1.0));
        tb[c] = static_cast<T>(-r * r * r * s2);
        tc[c] = static_cast<T>(-r * s1 + r * r * r * s2 * (m - center[c]));
      }
    }
    tables.repeat(p, g, 5);
  }
}

template <Relu kRelu, class T>
void backward(const ColumnNormGradArgs& a) {
  using V = Vec<T>;
  const ColumnPlan p(a.x, V::lanes);
  const Tables<T> tables(p);
  affine_coefficients(p, tables, a.mean, a.rstd, optional<T>(a.weight), optional<T>(a.bias), kScale, kShift);
  for (int64_t g = 0; g < p.groups; ++g) tables.repeat(p, g, 5);
  const bool needs_sums = a.training || a.dweight.data || a.dbias.data;
  Scratch<double> sums(needs_sums ? p.groups * p.slots * 2 * p.channels : 1);
  if (needs_sums) {
    gradient_sums<kRelu>(a, p, tables, sums.data);
    parameter_gradients<T>(a, p, sums.data);
  }
  if (!a.dx.data) return;
  input_coefficients(a, p, tables, sums.data);
  p.for_each_slot(needs_sums, [&](int64_t g, int64_t s) {
    const int64_t start = p.slot_offset(g, s);
    const GradInputs<T> in = inputs_at(a, tables, g, start);
    const T *tb = tables.get(g, 2), *tc = tables.get(g, 3);
    T *dx = a.dx.as<T>() + start, *dresidual = a.dresidual.data ? a.dresidual.as<T>() + start : nullptr;
    // dy may lie where dx is written (or the residual's gradient): each vector is read before it is overwritten.
    const auto gradient = [&](V d, int64_t at, int64_t c, int64_t n) {
      const V shift = kRelu == Relu::from_input ? V::load_n(in.shift + c, n) : V::zero();
      const V v = gradient_before<kRelu>(V::load_n(in.dy + at, n), d, V::load_n(in.scale + c, n), shift,
                                         kRelu == Relu::from_result ? in.y + at : nullptr, n);
      if (kRelu != Relu::none && dresidual) v.store_n(dresidual + at, n);
      return v;
    };
    for_each_vector<T>(p, p.slot_length(s), [&](int64_t at, int64_t c, int64_t n) {
      const V d = V::load_n(in.x + at, n) - V::load_n(in.center + c, n);
      const V scaled = gradient(d, at, c, n);
      if (a.training) {
        const V rest = fma(d, V::load_n(tb + c, n), V::load_n(tc + c, n));
        fma(scaled, V::load_n(in.scale + c, n), rest).store_n(dx + at, n);
      } else {
        (scaled * V::load_n(in.scale + c, n)).store_n(dx + at, n);
      }
    });
  });
}

template <class T>
void backward_behind(const ColumnNormGradArgs& a) {
  if (!a.relu)
    backward<Relu::none, T>(a);
  else if (a.y.data)
    backward<Relu::from_result, T>(a);
  else
    backward<Relu::from_input, T>(a);
}

void check_vector(const Array& a, const Array& x) {
  PYDL_CHECK(!a.data || (a.ndim == 1 && a.shape[0] == x.shape[2] && a.contiguous() && a.dtype == x.dtype),
             "a vector of one number per channel is of the wrong shape or dtype");
}

void check_like(const Array& a, const Array& x) {
  PYDL_CHECK(a.ndim == 3 && a.contiguous() && a.dtype == x.dtype, "expected [groups, rows, channels] in C order");
  for (int i = 0; i < 3; ++i) PYDL_CHECK(a.shape[i] == x.shape[i], "shapes do not fit");
}

void check_statistics(const Array& x, const Array& mean, const Array& rstd, bool training) {
  PYDL_CHECK(x.ndim == 3 && x.contiguous() && (x.dtype == DType::f32 || x.dtype == DType::f64), "expected float data");
  for (const Array* s : {&mean, &rstd})
    PYDL_CHECK(s->ndim == 2 && s->shape[0] == x.shape[0] && s->shape[1] == mean.shape[1] && s->contiguous() &&
                   s->dtype == DType::f64,
               "statistics of the wrong shape or dtype");
  PYDL_CHECK(mean.shape[1] > 0 && x.shape[2] % mean.shape[1] == 0, "the sets do not divide the channels");
  PYDL_CHECK(training || (x.shape[0] == 1 && mean.shape[1] == x.shape[2]), "running statistics are for one group");
}

void column_norm_forward_impl(const ColumnNormArgs& a) {
  check_statistics(a.x, a.mean, a.rstd, a.training || a.known);
  check_like(a.y, a.x);
  if (a.residual.data) check_like(a.residual, a.x);
  for (const Array* v : {&a.weight, &a.bias, &a.running_mean, &a.running_var}) check_vector(*v, a.x);
  PYDL_CHECK((a.running_mean.data != nullptr) == (a.running_var.data != nullptr), "one running statistic without the other");
  PYDL_CHECK(a.training || a.known || a.running_mean.data, "no running statistics");
  PYDL_CHECK(!a.training || !a.running_mean.data || a.mean.shape[1] == a.x.shape[2], "running statistics are per channel");
  if (a.x.size() == 0) return;
  a.x.dtype == DType::f32 ? forward<float>(a) : forward<double>(a);
}

void column_norm_backward_impl(const ColumnNormGradArgs& a) {
  check_statistics(a.x, a.mean, a.rstd, a.training);
  check_like(a.dy, a.x);
  for (const Array* v : {&a.dx, &a.y, &a.dresidual})
    if (v->data) check_like(*v, a.x);
  PYDL_CHECK(!a.dresidual.data || (a.relu && a.y.data && a.dx.data),
             "the gradient of the residual comes with y and dx");
  for (const Array* v : {&a.weight, &a.bias, &a.dweight, &a.dbias}) check_vector(*v, a.x);
  if (a.x.size() == 0) {
    for (const Array* v : {&a.dweight, &a.dbias})
      if (v->data) std::memset(v->data, 0, static_cast<size_t>(v->size() * item_size(v->dtype)));
    return;
  }
  a.x.dtype == DType::f32 ? backward_behind<float>(a) : backward_behind<double>(a);
}

PYDL_REGISTER(column_norm_forward, column_norm_forward_impl);
PYDL_REGISTER(column_norm_backward, column_norm_backward_impl);

}  // namespace
}  // namespace pydl
