#include "cpu/embedding.h"

#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"

namespace pydl {
namespace {

constexpr int64_t kWork = 16384;  // elements of a parallel chunk
constexpr int64_t kBlock = 64;    // rows summed in T before the sum goes to float64
constexpr int64_t kTile = 4;      // vectors
constexpr int64_t kAhead = 3;     // rows that are asked for before they are copied: no hardware foresees where they lie

PYDL_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

int64_t grain_of(int64_t elements) { return elements >= kWork ? 1 : kWork / (elements + 1) + 1; }

int64_t first_outside(const Array& index, int64_t rows) {
  const int64_t* at = index.as<int64_t>();
  const int64_t n = index.size();
  for (int64_t i = 0; i < n; ++i)
    if (at[i] < 0 || at[i] >= rows) return i;
  return -1;
}

// ---------------------------------------------------------------- rows
void copy_rows(const EmbeddingArgs& a) {
  const int64_t* index = a.index.as<int64_t>();
  const size_t bytes = static_cast<size_t>(a.weight.shape[1] * item_size(a.weight.dtype));
  const char* from = static_cast<const char*>(a.weight.data);
  char* to = static_cast<char*>(a.out.data);
  parallel_for(a.index.size(), grain_of(a.weight.shape[1]), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const char* next = from + static_cast<size_t>(index[least(i + kAhead, end - 1)]) * bytes;
      for (size_t b = 0; b < bytes; b += 64) __builtin_prefetch(next + b);
      std::memcpy(to + static_cast<size_t>(i) * bytes, from + static_cast<size_t>(index[i]) * bytes, bytes);
    }
  });
}

// The positions of each row one after the other, in order: a stable counting sort. Row r owns order[start[r] .. start[r + 1]).
struct Occurrences {
  Scratch<int64_t> start, order;

  Occurrences(const int64_t* index, int64_t n, int64_t rows, int64_t padding) : start(rows + 2), order(n + 1) {
    int64_t* s = start.data;
    std::memset(s, 0, static_cast<size_t>(rows + 2) * sizeof(int64_t));
    for (int64_t i = 0; i < n; ++i)
      if (index[i] != padding) ++s[index[i] + 2];
    for (int64_t r = 0; r < rows; ++r) s[r + 2] += s[r + 1];
    for (int64_t i = 0; i < n; ++i)
      if (index[i] != padding) order.data[s[index[i] + 1]++] = i;
  }
};

// out[0, features) = factor * sum over the positions of scale * grad row.
template <class T>
void sum_rows(const T* grad, const int64_t* source, const T* scale, const int64_t* positions, int64_t count, double factor,
              int64_t features, T* out) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes, W = kTile * L;
  // Columns from vector j on; all loops go over all vectors, so that sums stay in registers.
  const auto left = [](int64_t columns, int64_t j) { return columns > j * L ? columns - j * L : 0; };
  const auto add_row = [=](int64_t i, int64_t c, int64_t columns, V* sum) {
    const T* row = grad + (source ? source[i] : i) * features + c;
    const V s = V::splat(scale ? scale[i] : T(1));
    const auto add = [=](const auto& load) {
#pragma GCC unroll 4
      for (int64_t j = 0; j < kTile; ++j) sum[j] = fma(load(row + j * L, left(columns, j)), s, sum[j]);
    };
    if (columns == W) return add([](const T* from, int64_t) { return V::load(from); });
    add([](const T* from, int64_t n) { return V::load_n(from, n); });
  };
  for (int64_t c = 0; c < features; c += W) {
    const int64_t columns = least(features - c, W);
    if (count <= kBlock && factor == 1.0) {  // most words of a batch: one sum, nothing to convert
      V sum[kTile] = {V::zero(), V::zero(), V::zero(), V::zero()};
      for (int64_t p = 0; p < count; ++p) add_row(positions[p], c, columns, sum);
#pragma GCC unroll 4
      for (int64_t j = 0; j < kTile; ++j) sum[j].store_n(out + c + j * L, left(columns, j));
      continue;
    }
    double total[W] = {};
    for (int64_t p0 = 0; p0 < count; p0 += kBlock) {
      V sum[kTile] = {V::zero(), V::zero(), V::zero(), V::zero()};
      for (int64_t p = p0; p < least(p0 + kBlock, count); ++p) add_row(positions[p], c, columns, sum);
      for (int64_t k = 0; k < W; ++k) total[k] += static_cast<double>(sum[k / L].v[k % L]);
    }
    for (int64_t k = 0; k < columns; ++k) out[c + k] = static_cast<T>(total[k] * factor);
  }
}

template <class T>
void scatter(const EmbeddingGradArgs& a) {
  const int64_t rows = a.out.shape[0], features = a.out.shape[1];
  const T *grad = a.grad.as<T>(), *scale = a.scale.data ? a.scale.as<T>() : nullptr;
  const int64_t* source = a.source.data ? a.source.as<int64_t>() : nullptr;
  T* out = a.out.as<T>();
  const Occurrences found(a.index.as<int64_t>(), a.index.size(), rows, a.padding);
  parallel_for(rows, grain_of(features), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t first = found.start.data[r], count = found.start.data[r + 1] - first;
      if (count == 0) {
        std::memset(out + r * features, 0, static_cast<size_t>(features) * sizeof(T));
        continue;
      }
      const double factor = a.by_frequency ? 1 / static_cast<double>(count) : 1.0;
      sum_rows(grad, source, scale, found.order.data + first, count, factor, features, out + r * features);
    }
  });
}

// ---------------------------------------------------------------- bags
template <class T>
void bag_sum(const EmbeddingBagArgs& a, int64_t bag) {
  const int64_t features = a.weight.shape[1], begin = a.offsets.as<int64_t>()[bag], end = a.offsets.as<int64_t>()[bag + 1];
  const int64_t* index = a.index.as<int64_t>();
  const T *weight = a.weight.as<T>(), *scale = a.scale.data ? a.scale.as<T>() : nullptr;
  T* out = a.out.as<T>() + bag * features;
  using V = Vec<T>;
  int64_t count = 0;
  for (int64_t i = begin; i < end; ++i) count += index[i] != a.padding;
  const T factor = a.mode == Bag::mean && count > 0 ? T(1) / static_cast<T>(count) : T(1);
  for (int64_t c = 0; c < features; c += V::lanes) {
    const int64_t k = least(features - c, V::lanes);
    V sum = V::zero();
    for (int64_t i = begin; i < end; ++i) {
      if (index[i] == a.padding) continue;
      sum = fma(V::load_n(weight + index[i] * features + c, k), V::splat(scale ? scale[i] : T(1)), sum);
    }
    (sum * V::splat(factor)).store_n(out + c, k);
  }
}

// A NaN is larger than any number; of equal values the first counts.
template <class T>
void bag_max(const EmbeddingBagArgs& a, int64_t bag) {
  const int64_t features = a.weight.shape[1], begin = a.offsets.as<int64_t>()[bag], end = a.offsets.as<int64_t>()[bag + 1];
  const int64_t* index = a.index.as<int64_t>();
  T* out = a.out.as<T>() + bag * features;
  int64_t* largest = a.largest.as<int64_t>() + bag * features;
  for (int64_t c = 0; c < features; ++c) {
    out[c] = 0;
    largest[c] = -1;
  }
  for (int64_t i = begin; i < end; ++i) {
    if (index[i] == a.padding) continue;
    const T* row = a.weight.as<T>() + index[i] * features;
    for (int64_t c = 0; c < features; ++c)
      if (largest[c] < 0 || row[c] > out[c] || (row[c] != row[c] && out[c] == out[c])) {
        out[c] = row[c];
        largest[c] = i;
      }
  }
}

template <class T>
void bags(const EmbeddingBagArgs& a) {
  const int64_t n = a.out.shape[0];
  const int64_t work = a.index.size() / (n > 0 ? n : 1) * a.weight.shape[1];
  parallel_for(n, grain_of(work), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) a.mode == Bag::max ? bag_max<T>(a, b) : bag_sum<T>(a, b);
  });
}

// One thread owns a range of columns: bags are added in order, without atomics.
template <class T>
void scatter_max(const EmbeddingMaxGradArgs& a) {
  const int64_t n = a.grad.shape[0], features = a.out.shape[1], positions = a.index.size();
  const T* grad = a.grad.as<T>();
  const int64_t *largest = a.largest.as<int64_t>(), *index = a.index.as<int64_t>();
  T* out = a.out.as<T>();
  std::memset(out, 0, static_cast<size_t>(a.out.size()) * sizeof(T));
  parallel_for(features, 16, [&](int64_t begin, int64_t end) {
    for (int64_t b = 0; b < n; ++b)
      for (int64_t c = begin; c < end; ++c) {
        const int64_t at = largest[b * features + c];
        if (at >= 0 && at < positions) out[index[at] * features + c] += grad[b * features + c];
      }
  });
}

template <class T>
void dots(const EmbeddingDotArgs& a) {
  using V = Vec<T>;
  const int64_t features = a.weight.shape[1];
  const T *grad = a.grad.as<T>(), *weight = a.weight.as<T>();
  const int64_t *index = a.index.as<int64_t>(), *source = a.source.as<int64_t>();
  T* out = a.out.as<T>();
  parallel_for(a.index.size(), grain_of(features), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T *g = grad + source[i] * features, *w = weight + index[i] * features;
      V sum = V::zero();
      for (int64_t c = 0; index[i] != a.padding && c < features; c += V::lanes) {
        const int64_t k = least(features - c, V::lanes);
        sum = fma(V::load_n(g + c, k), V::load_n(w + c, k), sum);
      }
      out[i] = sum_lanes(sum);
    }
  });
}

// ---------------------------------------------------------------- checks
void check_matrix(const Array& a, int64_t rows, int64_t columns, DType dtype) {
  PYDL_CHECK(a.ndim == 2 && a.contiguous() && a.shape[0] == rows && a.shape[1] == columns && a.dtype == dtype,
             "a matrix is of the wrong shape or dtype, or not in C order");
}

void check_vector(const Array& a, int64_t n, DType dtype) {
  PYDL_CHECK(a.ndim == 1 && a.contiguous() && a.shape[0] == n && a.dtype == dtype, "a vector is of the wrong shape or dtype");
}

void check_table(const Array& weight) {
  PYDL_CHECK(weight.ndim == 2 && weight.contiguous() && (weight.dtype == DType::f32 || weight.dtype == DType::f64),
             "expected a float matrix in C order");
}

void check_inside(const Array& index, int64_t rows) {
  check_vector(index, index.ndim > 0 ? index.shape[0] : 0, DType::i64);
  PYDL_CHECK(first_outside(index, rows) < 0, "an index is out of range");
}

int64_t embedding_forward_impl(const EmbeddingArgs& a) {
  check_table(a.weight);
  check_vector(a.index, a.out.shape[0], DType::i64);
  check_matrix(a.out, a.index.shape[0], a.weight.shape[1], a.weight.dtype);
  const int64_t bad = first_outside(a.index, a.weight.shape[0]);
  if (bad < 0) copy_rows(a);
  return bad;
}

void embedding_backward_impl(const EmbeddingGradArgs& a) {
  check_table(a.out);
  check_inside(a.index, a.out.shape[0]);
  const int64_t n = a.index.shape[0];
  check_matrix(a.grad, a.source.data ? a.grad.shape[0] : n, a.out.shape[1], a.out.dtype);
  if (a.source.data) {
    check_vector(a.source, n, DType::i64);
    check_inside(a.source, a.grad.shape[0]);
  }
  if (a.scale.data) check_vector(a.scale, n, a.out.dtype);
  if (a.out.size() == 0) return;
  a.out.dtype == DType::f32 ? scatter<float>(a) : scatter<double>(a);
}

int64_t embedding_bag_forward_impl(const EmbeddingBagArgs& a) {
  check_table(a.weight);
  check_vector(a.index, a.index.size(), DType::i64);
  const int64_t n = a.index.shape[0], bags_count = a.out.shape[0];
  check_vector(a.offsets, bags_count + 1, DType::i64);
  check_matrix(a.out, bags_count, a.weight.shape[1], a.weight.dtype);
  if (a.scale.data) check_vector(a.scale, n, a.weight.dtype);
  if (a.mode == Bag::max) check_matrix(a.largest, bags_count, a.weight.shape[1], DType::i64);
  const int64_t* offsets = a.offsets.as<int64_t>();
  PYDL_CHECK(offsets[0] >= 0 && offsets[bags_count] <= n, "an offset is out of range");
  for (int64_t b = 0; b < bags_count; ++b) PYDL_CHECK(offsets[b] <= offsets[b + 1], "offsets must not fall");
  const int64_t bad = first_outside(a.index, a.weight.shape[0]);
  if (bad < 0) a.weight.dtype == DType::f32 ? bags<float>(a) : bags<double>(a);
  return bad;
}

void embedding_max_backward_impl(const EmbeddingMaxGradArgs& a) {
  check_table(a.out);
  check_inside(a.index, a.out.shape[0]);
  check_matrix(a.grad, a.grad.shape[0], a.out.shape[1], a.out.dtype);
  check_matrix(a.largest, a.grad.shape[0], a.out.shape[1], DType::i64);
  if (a.out.size() == 0) return;
  a.out.dtype == DType::f32 ? scatter_max<float>(a) : scatter_max<double>(a);
}

void embedding_dots_impl(const EmbeddingDotArgs& a) {
  check_table(a.weight);
  check_inside(a.index, a.weight.shape[0]);
  check_matrix(a.grad, a.grad.shape[0], a.weight.shape[1], a.weight.dtype);
  check_vector(a.source, a.index.shape[0], DType::i64);
  check_inside(a.source, a.grad.shape[0]);
  check_vector(a.out, a.index.shape[0], a.weight.dtype);
  a.weight.dtype == DType::f32 ? dots<float>(a) : dots<double>(a);
}

PYDL_REGISTER(embedding_forward, embedding_forward_impl);
PYDL_REGISTER(embedding_backward, embedding_backward_impl);
PYDL_REGISTER(embedding_bag_forward, embedding_bag_forward_impl);
PYDL_REGISTER(embedding_max_backward, embedding_max_backward_impl);
PYDL_REGISTER(embedding_dots, embedding_dots_impl);

}  // namespace
}  // namespace pydl
