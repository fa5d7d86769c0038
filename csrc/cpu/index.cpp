#include "cpu/index.h"

#include <atomic>
#include <cstring>
#include <type_traits>

#include "core/integer.h"
#include "core/parallel.h"

namespace pydl {
namespace {

constexpr int64_t kColumns = 64;      // elements of a row that one task handles
constexpr int64_t kGrain = 16384;     // elements per parallel chunk
constexpr int64_t kEnoughTasks = 16;  // with fewer, the destination is cut too,
constexpr int64_t kLeastCut = 8;      // if its rows are not shorter than this

template <class T>
T plus(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    return a + b;
  else  // integers wrap around instead of being undefined
    return static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) + static_cast<std::make_unsigned_t<T>>(b));
}

void check_range(const Array& index, int64_t n) {
  const int64_t* p = index.as<int64_t>();
  const int64_t* s = index.strides;
  int64_t shape[3];
  for (int d = 0; d < 3; ++d) shape[d] = s[d] ? index.shape[d] : 1;  // a stride of 0 repeats what has been checked
  int run = 2;  // the longest axis becomes the inner loop
  for (int d = 0; d < 2; ++d)
    if (shape[d] > shape[run]) run = d;
  const int u = run == 0 ? 1 : 0, v = run == 2 ? 1 : 2;
  std::atomic<bool> wrong{false};
  const int64_t length = shape[run], step = s[run], blocks = (length + kGrain - 1) / kGrain;
  parallel_for(shape[u] * shape[v] * blocks, max64(1, kGrain / length), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = t % blocks * kGrain, last = min64(length, first + kGrain), line = t / blocks;
      const int64_t* row = p + line / shape[v] * s[u] + line % shape[v] * s[v];
      bool bad = false;
      for (int64_t k = first; k < last; ++k) bad |= static_cast<uint64_t>(row[k * step]) >= static_cast<uint64_t>(n);
      if (bad) wrong = true;
    }
  });
  PYDL_CHECK(!wrong, "an index is out of range");
}

void check(const IndexArgs& a) {
  PYDL_CHECK(a.array.ndim == 3 && a.index.ndim == 3 && a.values.ndim == 3, "expected three axes");
  PYDL_CHECK(a.array.dtype == a.values.dtype, "operands of unequal dtype");
  PYDL_CHECK(a.index.dtype == DType::i64, "the index must be int64");
  PYDL_CHECK(a.array.shape[0] == a.index.shape[0] && a.array.shape[2] == a.index.shape[2], "shapes do not fit");
  for (int d = 0; d < 3; ++d) PYDL_CHECK(a.values.shape[d] == a.index.shape[d], "values and index of unequal shape");
  if (a.index.size()) check_range(a.index, a.array.shape[1]);
}

template <class T>
void gather(const IndexArgs& a) {
  const T* x = static_cast<const T*>(a.array.data);
  T* out = static_cast<T*>(a.values.data);
  const int64_t* index = a.index.as<int64_t>();
  const int64_t *xs = a.array.strides, *is = a.index.strides;
  const int64_t m = a.values.shape[1], inner = a.values.shape[2];
  const int64_t rows = max64(1, kGrain / inner), blocks = (m + rows - 1) / rows;  // per task
  parallel_for(a.values.shape[0] * blocks, max64(1, kGrain / (rows * inner)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t o = t / blocks, first = t % blocks * rows, last = min64(m, first + rows);
      const T* from = x + o * xs[0];
      const int64_t* at = index + o * is[0];
      T* to = out + o * m * inner;
      if (inner == 1) {
        for (int64_t i = first; i < last; ++i) to[i] = from[at[i * is[1]] * xs[1]];
      } else if (is[2] == 0 && xs[2] == 1) {
        for (int64_t i = first; i < last; ++i)
          std::memcpy(to + i * inner, from + at[i * is[1]] * xs[1], static_cast<size_t>(inner) * sizeof(T));
      } else {
        for (int64_t i = first; i < last; ++i)
          for (int64_t k = 0; k < inner; ++k) to[i * inner + k] = from[at[i * is[1] + k * is[2]] * xs[1] + k * xs[2]];
      }
    }
  });
}

// One task: columns [c0, c1) of one plane, destination rows [first, last). Values come in the order of i, so every
// element's sum is the same however the work is cut.
template <class T>
[[gnu::noinline]] void add_columns(const IndexArgs& a, int64_t o, int64_t c0, int64_t c1, int64_t first, int64_t last) {
  const int64_t inner = a.array.shape[2], m = a.values.shape[1];
  const int64_t *is = a.index.strides, *vs = a.values.strides;
  T* to = a.array.as<T>() + o * a.array.shape[1] * inner;
  const int64_t* index = a.index.as<int64_t>() + o * is[0];
  const T* values = a.values.as<T>() + o * vs[0];
  if (inner == 1) {  // no rows to speak of: the cut is not worth its comparisons (see scatter_add)
    for (int64_t i = 0; i < m; ++i) {
      T* place = to + index[i * is[1]];
      *place = plus(*place, values[i * vs[1]]);
    }
    return;
  }
  for (int64_t i = 0; i < m; ++i) {
    const int64_t* row = index + i * is[1];
    const T* __restrict from = values + i * vs[1];
    if (is[2] == 0) {
      if (*row < first || *row >= last) continue;
      T* __restrict line = to + *row * inner;
      if (vs[2] == 1)
        for (int64_t k = c0; k < c1; ++k) line[k] = plus(line[k], from[k]);
      else
        for (int64_t k = c0; k < c1; ++k) line[k] = plus(line[k], from[k * vs[2]]);
    } else {
      for (int64_t k = c0; k < c1; ++k) {
        const int64_t r = row[k * is[2]];
        if (r >= first && r < last) to[r * inner + k] = plus(to[r * inner + k], from[k * vs[2]]);
      }
    }
  }
}

template <class T>
void scatter_add(const IndexArgs& a) {
  const int64_t outer = a.array.shape[0], n = a.array.shape[1], inner = a.array.shape[2], m = a.values.shape[1];
  const int64_t blocks = (inner + kColumns - 1) / kColumns, tasks = outer * blocks;
  const int64_t work = m * min64(inner, kColumns);  // of one task
  // Few but long tasks: several threads go through the same values and each adds to its part of the rows.
  const int64_t parts = tasks < kEnoughTasks && work > kGrain && inner >= kLeastCut ? min64(num_threads(), n) : 1;
  parallel_for(tasks * parts, max64(1, kGrain / max64(1, work)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t task = t / parts, part = t % parts, c0 = task % blocks * kColumns;
      add_columns<T>(a, task / blocks, c0, min64(c0 + kColumns, inner), n * part / parts, n * (part + 1) / parts);
    }
  });
}

void gather_impl(const IndexArgs& a) {
  check(a);
  PYDL_CHECK(a.values.contiguous(), "expected a C-ordered output");
  if (a.values.size() == 0) return;
  switch (item_size(a.values.dtype)) {
    case 8: return gather<int64_t>(a);
    case 4: return gather<int32_t>(a);
    default: return gather<uint8_t>(a);
  }
}

void scatter_add_impl(const IndexArgs& a) {
  check(a);
  PYDL_CHECK(a.array.contiguous(), "expected a C-ordered output");
  if (a.values.size() == 0) return;
  switch (a.array.dtype) {
    case DType::f32: return scatter_add<float>(a);
    case DType::f64: return scatter_add<double>(a);
    case DType::i64: return scatter_add<int64_t>(a);
    case DType::i32: return scatter_add<int32_t>(a);
    case DType::u8: return scatter_add<uint8_t>(a);
    default: fail("index_scatter_add", "booleans cannot be added");
  }
}

PYDL_REGISTER(index_gather, gather_impl);
PYDL_REGISTER(index_scatter_add, scatter_add_impl);

}  // namespace
}  // namespace pydl
