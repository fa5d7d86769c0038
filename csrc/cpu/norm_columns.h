// Column statistics for norm.cpp: sums down the rows of [rows, channels], vectorised over the channels.
#pragma once
#include "core/parallel.h"
#include "core/scratch.h"
#include "cpu/norm_common.h"

namespace pydl {
namespace {

constexpr int64_t kBlockRows = 64;     // rows summed in T before the sum goes to float64
constexpr int64_t kSlotWork = 32768;   // elements of a slot: the unit of parallel work, whatever the thread count
constexpr int64_t kMaxSlots = 32;      // slots of one group
constexpr int64_t kMaxWidth = 512;     // widest folded row
// How [groups, rows, channels] is cut. When the channels do not fill vectors, `fold` rows are read as one row of `width`
// elements that does; each channel's `fold` columns are joined afterwards.
struct ColumnPlan {
  int64_t groups, rows, channels;
  int64_t fold, width;
  int64_t slots, slot_rows;  // per group; all slots but the last are a multiple of fold long

  ColumnPlan(const Array& x, int64_t lanes) : groups(x.shape[0]), rows(x.shape[1]), channels(x.shape[2]) {
    fold = lanes;  // lanes is a power of two: halve while the product stays a multiple of it
    while (fold > 1 && fold / 2 * channels % lanes == 0) fold /= 2;
    if (fold * channels > kMaxWidth || rows < 4 * fold) fold = 1;
    width = fold * channels;
    slot_rows = most(kSlotWork / most(channels, 1), (rows + kMaxSlots - 1) / kMaxSlots);
    slot_rows = most((slot_rows + fold - 1) / fold * fold, 1);
    slots = (rows + slot_rows - 1) / slot_rows;
  }
  int64_t slot_length(int64_t slot) const { return least(slot_rows, rows - slot * slot_rows); }
  int64_t slot_offset(int64_t group, int64_t slot) const { return (group * rows + slot * slot_rows) * channels; }

  // body(group, slot) for all slots of all groups, small ones together; a second pass goes backwards: what the first one read
  // last is still in the cache.
  template <class F>
  void for_each_slot(bool backwards, const F& body) const {
    const int64_t grain = most(kSlotWork / most(least(slot_rows, rows) * channels, 1), 1), count = groups * slots;
    parallel_for(count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t slot = backwards ? count - 1 - i : i;
        body(slot / slots, slot % slots);
      }
    });
  }
};

// Joins (count, mean, m2) pairs: m2 is the sum of squared deviations (Chan, Golub and LeVeque 1979).
PYDL_INLINE void join_moments(double* mean, double* m2, const double* other_mean, const double* other_m2, int64_t n,
                              double count, double other_count) {
  const double total = count + other_count;
  if (total == 0) return;
  const double share = other_count / total, cross = count * share;
  for (int64_t i = 0; i < n; ++i) {
    const double delta = other_mean[i] - mean[i];
    mean[i] += delta * share;
    m2[i] += other_m2[i] + delta * delta * cross;
  }
}

// Mean and m2 of each of `width` adjacent columns over `rows` rows. Each block of rows is read twice while in cache: its own
// mean first, so that the squares are of small numbers; what rounding left of the mean is taken out again (d1).
template <class T>
void column_moments(const T* x, int64_t rows, int64_t width, double* mean, double* m2) {
  using V = Vec<T>;
  for (int64_t c = 0; c < width; ++c) mean[c] = m2[c] = 0;
  for (int64_t r0 = 0; r0 < rows; r0 += kBlockRows) {
    const int64_t n = least(kBlockRows, rows - r0);
    const T inverse = T(1) / static_cast<T>(n);
    for_each_tile<T>(width, [&](auto vectors, int64_t c, int64_t columns) {
      constexpr int64_t N = decltype(vectors)::value, L = V::lanes;
      const T* p = x + r0 * width + c;
      V m[N], d1[N], d2[N];
      for (int64_t j = 0; j < N; ++j) m[j] = d1[j] = d2[j] = V::zero();
      for (int64_t r = 0; r < n; ++r)
        for (int64_t j = 0; j < N; ++j) m[j] += V::load_n(p + r * width + j * L, N == 1 ? columns : L);
      for (int64_t j = 0; j < N; ++j) m[j] = m[j] * V::splat(inverse);
      for (int64_t r = 0; r < n; ++r)
        for (int64_t j = 0; j < N; ++j) {
          const V d = V::load_n(p + r * width + j * L, N == 1 ? columns : L) - m[j];
          d1[j] += d;
          d2[j] = fma(d, d, d2[j]);
        }
      double block_mean[N * L], block_m2[N * L];
      const double count = static_cast<double>(n);
      for (int64_t j = 0; j < N; ++j)
        for (int64_t i = 0; i < L; ++i) {
          const double rest = static_cast<double>(d1[j].v[i]) / count;
          block_mean[j * L + i] = static_cast<double>(m[j].v[i]) + rest;
          block_m2[j * L + i] = static_cast<double>(d2[j].v[i]) - rest * rest * count;
        }
      join_moments(mean + c, m2 + c, block_mean, block_m2, columns, static_cast<double>(r0), count);
    });
  }
}

// What followed the normalisation: nothing, or a ReLU that let through what was positive, seen from its result or computed
// again from the input (the same operations as in forward give the same bits).
enum class Relu { none, from_result, from_input };

// dy as it was before the ReLU; d is x - center, scale and shift are those of forward.
template <Relu kRelu, class T>
PYDL_INLINE Vec<T> gradient_before(Vec<T> dy, Vec<T> d, Vec<T> scale, Vec<T> shift, const T* y, int64_t n) {
  const Vec<T> g = loaded(dy);
  if constexpr (kRelu == Relu::from_result) return select(Vec<T>::load_n(y, n) > 0.0, g, Vec<T>::zero());
  if constexpr (kRelu == Relu::from_input) return select(fma(d, scale, shift) > 0.0, g, Vec<T>::zero());
  return g;
}

// The arrays of the backward pass, and the numbers of each channel.
template <class T>
struct GradInputs {
  const T *dy, *x, *y;
  const T *center, *scale, *shift;
  GradInputs from(int64_t at) const { return {dy + at, x + at, y ? y + at : nullptr, center, scale, shift}; }
};

// The two sums of the backward pass for each column: of dy, and of dy * (x - center).
template <Relu kRelu, class T>
void column_grad_sums(const GradInputs<T>& in, int64_t rows, int64_t width, double* sum, double* dot) {
  using V = Vec<T>;
  for (int64_t c = 0; c < width; ++c) sum[c] = dot[c] = 0;
  for (int64_t r0 = 0; r0 < rows; r0 += kBlockRows) {
    const int64_t n = least(kBlockRows, rows - r0);
    for_each_tile<T>(width, [&](auto vectors, int64_t c, int64_t columns) {
      constexpr int64_t N = decltype(vectors)::value, L = V::lanes;
      V s[N], t[N], center[N], scale[N], shift[N];
      for (int64_t j = 0; j < N; ++j) {
        const int64_t k = N == 1 ? columns : L;
        s[j] = t[j] = V::zero();
        center[j] = V::load_n(in.center + c + j * L, k);
        scale[j] = kRelu == Relu::from_input ? V::load_n(in.scale + c + j * L, k) : V::zero();
        shift[j] = kRelu == Relu::from_input ? V::load_n(in.shift + c + j * L, k) : V::zero();
      }
      for (int64_t r = 0; r < n; ++r)
        for (int64_t j = 0; j < N; ++j) {
          const int64_t at = (r0 + r) * width + c + j * L, k = N == 1 ? columns : L;
          const V d = V::load_n(in.x + at, k) - center[j];
          const V g = gradient_before<kRelu>(V::load_n(in.dy + at, k), d, scale[j], shift[j], in.y ? in.y + at : nullptr, k);
          s[j] += g;
          t[j] = fma(g, d, t[j]);
        }
      for (int64_t i = 0; i < columns; ++i) {
        sum[c + i] += static_cast<double>(s[i / L].v[i % L]);
        dot[c + i] += static_cast<double>(t[i / L].v[i % L]);
      }
    });
  }
}

// The moments of one slot's channels: the folded part, the rows left over, joined.
template <class T>
void slot_moments(const ColumnPlan& p, const T* x, int64_t rows, double* mean, double* m2) {
  const int64_t folded = p.fold > 1 ? rows / p.fold : 0, rest = rows - folded * p.fold;
  column_moments(x + folded * p.width, rest, p.channels, mean, m2);
  if (folded == 0) return;
  double wide_mean[kMaxWidth], wide_m2[kMaxWidth];
  column_moments(x, folded, p.width, wide_mean, wide_m2);
  for (int64_t f = 0; f < p.fold; ++f)
    join_moments(mean, m2, wide_mean + f * p.channels, wide_m2 + f * p.channels, p.channels,
                 static_cast<double>(rest + f * folded), static_cast<double>(folded));
}

template <Relu kRelu, class T>
void slot_grad_sums(const ColumnPlan& p, const GradInputs<T>& in, int64_t rows, double* sum, double* dot) {
  const int64_t folded = p.fold > 1 ? rows / p.fold : 0;
  column_grad_sums<kRelu>(in.from(folded * p.width), rows - folded * p.fold, p.channels, sum, dot);
  if (folded == 0) return;
  double wide_sum[kMaxWidth], wide_dot[kMaxWidth];
  column_grad_sums<kRelu>(in, folded, p.width, wide_sum, wide_dot);
  for (int64_t f = 0; f < p.fold; ++f)
    for (int64_t c = 0; c < p.channels; ++c) {
      sum[c] += wide_sum[f * p.channels + c];
      dot[c] += wide_dot[f * p.channels + c];
    }
}

// apply(offset, column, lanes) for all vectors of a slot, row after row.
template <class T, class F>
PYDL_INLINE void for_each_vector(const ColumnPlan& p, int64_t rows, const F& apply) {
  constexpr int64_t L = Vec<T>::lanes;
  const int64_t folded = rows / p.fold;
  for (int64_t r = 0; r < folded; ++r)
    for (int64_t c = 0; c < p.width; c += L) apply(r * p.width + c, c, least(p.width - c, L));
  for (int64_t r = folded * p.fold; r < rows; ++r)
    for (int64_t c = 0; c < p.channels; c += L) apply(r * p.channels + c, c, least(p.channels - c, L));
}

}  // namespace
}  // namespace pydl
