#include "cpu/resample.h"

#include "core/integer.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"

namespace pydl {
namespace {

constexpr int64_t kGrain = 1 << 15;  // multiplications per chunk

struct Table {
  const int64_t *start, *count;
  const double* weights;
  int64_t in, out, taps;

  double weight(int64_t o, int64_t k) const { return weights[o * taps + k]; }
};

struct Plan {
  Table axis[3];
  int64_t batch, channels;
};

struct Columns {
  int64_t begin, end;
};

// The columns of a row that any output reads, as few stretches.
class Needed {
 public:
  explicit Needed(const Table& t) : stretches_(t.out) {
    for (int64_t o = 0; o < t.out; ++o) {
      const int64_t begin = t.start[o], end = begin + t.count[o];
      if (begin == end) continue;
      if (size_ && begin <= stretches_.data[size_ - 1].end)
        stretches_.data[size_ - 1].end = max64(end, stretches_.data[size_ - 1].end);
      else
        stretches_.data[size_++] = {begin, end};
    }
  }
  const Columns* begin() const { return stretches_.data; }
  const Columns* end() const { return stretches_.data + size_; }

 private:
  Scratch<Columns> stretches_;
  int64_t size_ = 0;
};

// line = weight * row, or line += weight * row.
template <class T>
void add_row(T* line, const T* row, T weight, bool first, const Needed& needed, int64_t channels) {
  using V = Vec<T>;
  const V w = V::splat(weight);
  for (const Columns& columns : needed)
    for (int64_t i = columns.begin * channels; i < columns.end * channels; i += V::lanes) {
      const int64_t n = min64(V::lanes, columns.end * channels - i);
      const V v = V::load_n(row + i, n);
      (first ? v * w : fma(v, w, V::load_n(line + i, n))).store_n(line + i, n);
    }
}

// The weighted sum of the input rows that output row (n, o0, o1) sees: in `line`, the input itself if there is one row of
// weight 1, or null if there is none.
template <class T>
const T* combine_rows(const Plan& p, const T* x, int64_t n, int64_t o0, int64_t o1, const Needed& needed, T* line) {
  const Table &a0 = p.axis[0], &a1 = p.axis[1];
  const int64_t length = p.axis[2].in * p.channels;
  bool first = true;
  for (int64_t k0 = 0; k0 < a0.count[o0]; ++k0)
    for (int64_t k1 = 0; k1 < a1.count[o1]; ++k1) {
      const T* row = x + ((n * a0.in + a0.start[o0] + k0) * a1.in + a1.start[o1] + k1) * length;
      const double weight = a0.weight(o0, k0) * a1.weight(o1, k1);
      if (weight == 1 && a0.count[o0] * a1.count[o1] == 1) return row;
      add_row(line, row, static_cast<T>(weight), first, needed, p.channels);
      first = false;
    }
  return first ? nullptr : line;
}

// Many channels: a vector is channels of one output.
template <class T, int kVecs>
PYDL_INLINE void blend_channels(const T* from, T* to, const double* weights, int64_t count, int64_t channels, int64_t n) {
  using V = Vec<T>;
  V sum[kVecs];
  for (int i = 0; i < kVecs; ++i) sum[i] = V::zero();
  for (int64_t k = 0; k < count; ++k) {
    const V w = V::splat(static_cast<T>(weights[k]));
    for (int i = 0; i < kVecs; ++i) {
      const T* at = from + k * channels + i * V::lanes;
      sum[i] = fma(kVecs == 1 ? V::load_n(at, n) : V::load(at), w, sum[i]);
    }
  }
  for (int i = 0; i < kVecs; ++i) sum[i].store_n(to + i * V::lanes, n);
}

template <class T>
void blend_row(const Plan& p, const T* line, T* y) {
  constexpr int64_t L = Vec<T>::lanes;
  const Table& t = p.axis[2];
  const int64_t channels = p.channels;
  for (int64_t o = 0; o < t.out; ++o, y += channels) {
    const T* from = line + t.start[o] * channels;
    const double* w = t.weights + o * t.taps;
    int64_t c = 0;
    for (; c + 4 * L <= channels; c += 4 * L) blend_channels<T, 4>(from + c, y + c, w, t.count[o], channels, L);
    for (; c < channels; c += L) blend_channels<T, 1>(from + c, y + c, w, t.count[o], channels, min64(L, channels - c));
  }
}

// Few channels: a vector is neighbouring elements of the output row; where each reads and with which weight is a table.
template <class T>
class Neighbours {
 public:
  Neighbours(const Table& t, int64_t channels)
      : size_(t.out * channels), taps_(t.taps), offset_(size_ * taps_), weight_(size_ * taps_) {
    for (int64_t k = 0; k < taps_; ++k)
      for (int64_t e = 0; e < size_; ++e) {
        const int64_t o = e / channels, tap = min64(k, t.count[o] - 1);  // beyond count: the last pixel with weight 0
        offset_.data[k * size_ + e] = (t.start[o] + tap) * channels + e % channels;
        weight_.data[k * size_ + e] = k < t.count[o] ? static_cast<T>(t.weight(o, k)) : T(0);
      }
  }
  void blend_row(const T* line, T* y) const {
    using V = Vec<T>;
    for (int64_t e = 0; e < size_; e += V::lanes) {
      const int64_t n = min64(V::lanes, size_ - e);
      V sum = V::zero();
      for (int64_t k = 0; k < taps_; ++k) {
        V v = V::zero();
        const int64_t* offset = offset_.data + k * size_ + e;
        if (n == V::lanes)
          for (int64_t j = 0; j < V::lanes; ++j) v.v[j] = line[offset[j]];
        else
          for (int64_t j = 0; j < n; ++j) v.v[j] = line[offset[j]];
        sum = fma(v, V::load_n(weight_.data + k * size_ + e, n), sum);
      }
      sum.store_n(y + e, n);
    }
  }

 private:
  int64_t size_, taps_;
  Scratch<int64_t> offset_;
  Scratch<T> weight_;
};

// Calls blend(line, y) for each row of the output.
template <class T, class Blend>
void for_each_row(const Plan& p, const T* x, T* y, const Blend& blend) {
  const Table &a0 = p.axis[0], &a1 = p.axis[1], &a2 = p.axis[2];
  const Needed needed(a2);
  const int64_t row = a2.out * p.channels, work = row * a2.taps + a2.in * p.channels * a0.taps * a1.taps;
  parallel_for(p.batch * a0.out * a1.out, kGrain / (work + 1) + 1, [&](int64_t begin, int64_t end) {
    const Scratch<T> buffer(a2.in * p.channels);
    for (int64_t r = begin; r < end; ++r) {
      const T* line = combine_rows(p, x, r / a1.out / a0.out, r / a1.out % a0.out, r % a1.out, needed, buffer.data);
      if (line)
        blend(line, y + r * row);
      else
        std::memset(y + r * row, 0, static_cast<size_t>(row) * sizeof(T));
    }
  });
}

template <class T>
void run(const ResampleArgs& a, const Plan& p) {
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  bool each = true;  // every output of the last axis reads something
  for (int64_t o = 0; o < p.axis[2].out; ++o) each = each && p.axis[2].count[o] > 0;
  if (each && 2 * p.channels <= Vec<T>::lanes) {
    const Neighbours<T> neighbours(p.axis[2], p.channels);
    for_each_row(p, x, y, [&](const T* line, T* to) { neighbours.blend_row(line, to); });
  } else {
    for_each_row(p, x, y, [&](const T* line, T* to) { blend_row(p, line, to); });
  }
}

Table make_table(const ResampleAxis& a, int64_t in, int64_t out) {
  for (const Array* t : {&a.start, &a.count})
    PYDL_CHECK(t->ndim == 1 && t->shape[0] == out && t->contiguous(), "table of the wrong shape");
  PYDL_CHECK(a.weights.ndim == 2 && a.weights.shape[0] == out && a.weights.contiguous(), "weights of the wrong shape");
  const Table t{a.start.as<int64_t>(), a.count.as<int64_t>(), a.weights.as<double>(), in, out, a.weights.shape[1]};
  for (int64_t o = 0; o < out; ++o)
    PYDL_CHECK(t.count[o] >= 0 && t.count[o] <= t.taps && t.start[o] >= 0 && t.start[o] <= in - t.count[o] &&
                   (o == 0 || t.start[o - 1] <= t.start[o]),
               "a table reads outside the input, or falls");
  return t;
}

void resample_impl(const ResampleArgs& a) {
  for (const Array* t : {&a.x, &a.y}) PYDL_CHECK(t->ndim == 5 && t->contiguous(), "expected canonical arrays");
  PYDL_CHECK(a.x.shape[0] == a.y.shape[0] && a.x.shape[4] == a.y.shape[4], "batch or channels differ");
  PYDL_CHECK(a.x.dtype == a.y.dtype, "dtypes differ");
  PYDL_CHECK(a.x.dtype == DType::f32 || a.x.dtype == DType::f64, "expected float32 or float64");
  Plan p;
  p.batch = a.x.shape[0];
  p.channels = a.x.shape[4];
  for (int d = 0; d < 3; ++d) p.axis[d] = make_table(a.axis[d], a.x.shape[d + 1], a.y.shape[d + 1]);
  if (a.y.size() == 0) return;
  a.x.dtype == DType::f32 ? run<float>(a, p) : run<double>(a, p);
}

PYDL_REGISTER(resample, resample_impl);

}  // namespace
}  // namespace pydl
