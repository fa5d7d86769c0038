#include "cpu/reduce.h"

#include "core/allocator.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace pydl {
namespace {

// Sums are cut into fixed pieces of kPiece elements, each summed in several accumulators, and the pieces' results are
// added pairwise: the error grows with log n, and the order is the same for any number of threads.
constexpr int64_t kPiece = 4096;
constexpr int64_t kWork = 16384;  // elements worth a parallel chunk
constexpr int64_t kManyPieces = 16;  // at a time: what is asked for beyond the last one is another thread's

template <class T>
struct Sum {
  static PYDL_INLINE Vec<T> start() { return Vec<T>::zero(); }
  static PYDL_INLINE Vec<T> step(Vec<T> a, Vec<T> x) { return a + x; }
  static PYDL_INLINE Vec<T> join(Vec<T> a, Vec<T> b) { return a + b; }
};
template <class T>
struct SumSquares : Sum<T> {
  static PYDL_INLINE Vec<T> step(Vec<T> a, Vec<T> x) { return fma(x, x, a); }
};
template <class T>
struct SumAbs : Sum<T> {
  static PYDL_INLINE Vec<T> step(Vec<T> a, Vec<T> x) { return a + abs(x); }
};
template <class T>
struct Prod {
  static PYDL_INLINE Vec<T> start() { return Vec<T>::splat(T(1)); }
  static PYDL_INLINE Vec<T> step(Vec<T> a, Vec<T> x) { return a * x; }
  static PYDL_INLINE Vec<T> join(Vec<T> a, Vec<T> b) { return a * b; }
};
// A NaN anywhere makes the extremum NaN.
template <class T>
struct Max {
  static PYDL_INLINE Vec<T> start() { return Vec<T>::splat(-std::numeric_limits<T>::infinity()); }
  static PYDL_INLINE Vec<T> step(Vec<T> a, Vec<T> x) { return select(is_nan(a) | (a > x), a, x); }
  static PYDL_INLINE Vec<T> join(Vec<T> a, Vec<T> b) { return step(a, b); }
};
template <class T>
struct Min {
  static PYDL_INLINE Vec<T> start() { return Vec<T>::splat(std::numeric_limits<T>::infinity()); }
  static PYDL_INLINE Vec<T> step(Vec<T> a, Vec<T> x) { return select(is_nan(a) | (a < x), a, x); }
  static PYDL_INLINE Vec<T> join(Vec<T> a, Vec<T> b) { return step(a, b); }
};

// Joins the lanes in halves.
template <class T, class F>
PYDL_INLINE T join_lanes(Vec<T> a) {
#pragma GCC unroll 4
  for (int64_t half = Vec<T>::lanes / 2; half > 0; half /= 2) {
    Vec<T> b = a;
    for (int64_t i = 0; i < half; ++i) b.v[i] = a.v[i + half];
    a = F::join(a, b);
  }
  return a.v[0];
}

// One contiguous piece to one number. Four accumulators are emptied into a second level every kBurst steps, so that no
// lane adds more than a few dozen numbers in a row; the tail's lanes are joined one by one.
constexpr int64_t kBurst = 16;
constexpr int64_t kAhead = 1024;  // elements: what is asked for early, across the page's end, where the hardware stops

template <class T, class F>
T reduce_piece(const T* x, int64_t n) {
  using V = Vec<T>;
  V total = F::start();
  int64_t i = 0;
  while (i + V::lanes <= n) {
    V a[4] = {F::start(), F::start(), F::start(), F::start()};
    const int64_t rest = n - i, burst = kBurst * 4 * V::lanes, end = i + (rest < burst ? rest : burst);
    for (; i + 4 * V::lanes <= end; i += 4 * V::lanes)
      for (int k = 0; k < 4; ++k) {
        __builtin_prefetch(x + i + k * V::lanes + kAhead);
        a[k] = F::step(a[k], V::load(x + i + k * V::lanes));
      }
    for (; i + V::lanes <= end; i += V::lanes) a[0] = F::step(a[0], V::load(x + i));
    total = F::join(total, F::join(F::join(a[0], a[1]), F::join(a[2], a[3])));
  }
  T result = join_lanes<T, F>(total);
  for (; i < n; ++i) result = F::join(V::splat(result), F::step(F::start(), V::splat(x[i]))).v[0];
  return result;
}

template <class T, class F>
T join_pairwise(T* values, int64_t n) {
  for (; n > 1; n = (n + 1) / 2)
    for (int64_t i = 0; i < n / 2; ++i) {
      values[i] = F::join(Vec<T>::splat(values[2 * i]), Vec<T>::splat(values[2 * i + 1])).v[0];
      if (i == n / 2 - 1 && n % 2) values[i + 1] = values[n - 1];
    }
  return values[0];
}

// inner == 1: rows of contiguous elements.
template <class T, class F>
void reduce_rows(const T* in, T* out, int64_t outer, int64_t n) {
  const int64_t pieces = n == 0 ? 1 : (n + kPiece - 1) / kPiece;  // of nothing: the neutral element
  if (pieces == 1) {
    parallel_for(outer, kWork / (n + 1) + 1, [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) out[o] = reduce_piece<T, F>(in + o * n, n);
    });
    return;
  }
  T* partial = static_cast<T*>(memory::allocate(outer * pieces * static_cast<int64_t>(sizeof(T))));
  parallel_for(outer * pieces, kManyPieces, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t start = t % pieces * kPiece;
      partial[t] = reduce_piece<T, F>(in + t / pieces * n + start, n - start < kPiece ? n - start : kPiece);
    }
  });
  for (int64_t o = 0; o < outer; ++o) out[o] = join_pairwise<T, F>(partial + o * pieces, pieces);
  memory::release(partial, outer * pieces * static_cast<int64_t>(sizeof(T)));
}

// Rows r0 to r1 of N neighbouring vectors of columns, added row by row: columns stay lanes. All of their columns are there, or of
// a single vector the first `columns`.
template <class T, class F, int N>
void reduce_vectors(const T* base, T* out, int64_t r0, int64_t r1, int64_t inner, int64_t columns) {
  using V = Vec<T>;
  V total[N];
  for (int k = 0; k < N; ++k) total[k] = F::start();
  for (int64_t r = r0; r < r1;) {
    const int64_t end = r + kBurst < r1 ? r + kBurst : r1;
    V a[N];
    for (int k = 0; k < N; ++k) a[k] = F::start();
    for (; r < end; ++r)
      for (int k = 0; k < N; ++k) {
        const T* from = base + r * inner + k * V::lanes;
        a[k] = F::step(a[k], N > 1 ? V::load(from) : V::load_n(from, columns));
      }
    for (int k = 0; k < N; ++k) total[k] = F::join(total[k], a[k]);
  }
  for (int k = 0; k < N; ++k) total[k].store_n(out + k * V::lanes, columns - k * V::lanes);
}

// The same for a panel of columns: all of its vectors side by side, or one by one where some are missing.
constexpr int64_t kPanel = 8;

template <class T, class F>
void reduce_panel(const T* base, T* out, int64_t r0, int64_t r1, int64_t inner, int64_t columns) {
  constexpr int64_t L = Vec<T>::lanes;
  if (columns == kPanel * L) return reduce_vectors<T, F, kPanel>(base, out, r0, r1, inner, columns);
  for (int64_t c = 0; c < columns; c += L) reduce_vectors<T, F, 1>(base + c, out + c, r0, r1, inner, columns - c < L ? columns - c : L);
}

// inner > 1: pieces of kRows rows by panels of columns, then the pieces pairwise.
template <class T, class F>
void reduce_columns(const T* in, T* out, int64_t outer, int64_t n, int64_t inner) {
  using V = Vec<T>;
  constexpr int64_t kRows = 256, kColumns = kPanel * V::lanes;
  const int64_t pieces = n == 0 ? 1 : (n + kRows - 1) / kRows, panels = (inner + kColumns - 1) / kColumns;
  const int64_t bytes = outer * pieces * inner * static_cast<int64_t>(sizeof(T));
  T* partial = pieces > 1 ? static_cast<T*>(memory::allocate(bytes)) : out;
  const int64_t rows = n < kRows ? n : kRows;
  const int64_t work = (rows + 1) * (inner < kColumns ? inner : kColumns);
  parallel_for(outer * pieces * panels, kWork / work + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t c = t % panels * kColumns, piece = t / panels;
      const int64_t r0 = piece % pieces * kRows, r1 = r0 + kRows < n ? r0 + kRows : n;
      reduce_panel<T, F>(in + piece / pieces * n * inner + c, partial + piece * inner + c, r0, r1, inner,
                         inner - c < kColumns ? inner - c : kColumns);
    }
  });
  if (pieces == 1) return;
  parallel_for(outer * inner, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      T* column = partial + k / inner * pieces * inner + k % inner;
      for (int64_t gap = 1; gap < pieces; gap *= 2)
        for (int64_t p = 0; p + gap < pieces; p += 2 * gap)
          column[p * inner] = F::join(V::splat(column[p * inner]), V::splat(column[(p + gap) * inner])).v[0];
      out[k] = column[0];
    }
  });
  memory::release(partial, bytes);
}

// Calls block(first element, columns) for blocks of neighbouring columns of [outer, n, inner].
constexpr int64_t kBlock = 64;

template <class F>
void for_each_block(int64_t outer, int64_t n, int64_t inner, const F& block) {
  const int64_t blocks = (inner + kBlock - 1) / kBlock, width = inner < kBlock ? inner : kBlock;
  parallel_for(outer * blocks, kWork / ((n + 1) * width) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t c = t % blocks * kBlock;
      block(t / blocks * n * inner + c, t / blocks * inner + c, inner - c < kBlock ? inner - c : kBlock);
    }
  });
}

// The first position of the extremum; a NaN counts as the extremum.
template <class T, bool kMax>
void arg_columns(const T* x, int64_t* out, int64_t n, int64_t inner, int64_t columns) {
  T best[kBlock];
  for (int64_t c = 0; c < columns; ++c) {
    best[c] = x[c];
    out[c] = 0;
  }
  for (int64_t i = 1; i < n; ++i)
    for (int64_t c = 0; c < columns; ++c) {
      const T v = x[i * inner + c], b = best[c];
      const bool better = (b == b) & ((v != v) | (kMax ? v > b : v < b));
      best[c] = better ? v : b;
      out[c] = better ? i : out[c];
    }
}

template <class T, bool kMax>
void arg_extremum(const T* in, int64_t* out, int64_t outer, int64_t n, int64_t inner) {
  if (inner > 1) {
    for_each_block(outer, n, inner, [&](int64_t from, int64_t to, int64_t columns) {
      arg_columns<T, kMax>(in + from, out + to, n, inner, columns);
    });
    return;
  }
  // The value first, by vectors, then where it is.
  parallel_for(outer, kWork / (n + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      const T* x = in + o * n;
      const T best = kMax ? reduce_piece<T, Max<T>>(x, n) : reduce_piece<T, Min<T>>(x, n);
      int64_t i = 0;
      if (best == best)
        while (x[i] != best) ++i;
      else
        while (x[i] == x[i]) ++i;
      out[o] = i;
    }
  });
}

template <class T, template <class> class F>
void run(const ReduceArgs& a) {
  const int64_t outer = a.in.shape[0], n = a.in.shape[1], inner = a.in.shape[2];
  const T* in = a.in.as<T>();
  T* out = a.out.as<T>();
  if (inner == 1)
    reduce_rows<T, F<T>>(in, out, outer, n);
  else
    reduce_columns<T, F<T>>(in, out, outer, n, inner);
}

template <class T>
void reduce_typed(const ReduceArgs& a) {
  const int64_t outer = a.in.shape[0], n = a.in.shape[1], inner = a.in.shape[2];
  switch (a.kind) {
    case Reduce::sum: return run<T, Sum>(a);
    case Reduce::sum_squares: return run<T, SumSquares>(a);
    case Reduce::sum_abs: return run<T, SumAbs>(a);
    case Reduce::prod: return run<T, Prod>(a);
    case Reduce::max: return run<T, Max>(a);
    case Reduce::min: return run<T, Min>(a);
    case Reduce::argmax: return arg_extremum<T, true>(a.in.as<T>(), a.out.as<int64_t>(), outer, n, inner);
    case Reduce::argmin: return arg_extremum<T, false>(a.in.as<T>(), a.out.as<int64_t>(), outer, n, inner);
  }
}

void reduce_array_impl(const ReduceArgs& a) {
  PYDL_CHECK(a.in.ndim == 3 && a.out.ndim == 2 && a.in.contiguous() && a.out.contiguous(), "expected canonical arrays");
  PYDL_CHECK(a.in.shape[0] == a.out.shape[0] && a.in.shape[2] == a.out.shape[1], "output of the wrong shape");
  PYDL_CHECK(a.in.dtype == DType::f32 || a.in.dtype == DType::f64, "expected float32 or float64");
  if (a.out.size() == 0) return;
  if (a.kind == Reduce::argmax || a.kind == Reduce::argmin) PYDL_CHECK(a.in.shape[1] > 0, "no elements to choose from");
  a.in.dtype == DType::f32 ? reduce_typed<float>(a) : reduce_typed<double>(a);
}

// Running sums in double, so that a long float32 row does not drift.
template <class T>
void cumsum_typed(const CumsumArgs& a) {
  const int64_t n = a.in.shape[1], inner = a.in.shape[2];
  const T* in = a.in.as<T>();
  T* out = a.out.as<T>();
  for_each_block(a.in.shape[0], n, inner, [&](int64_t from, int64_t, int64_t columns) {
    double total[kBlock] = {};
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < columns; ++c) {
        total[c] += in[from + i * inner + c];
        out[from + i * inner + c] = static_cast<T>(total[c]);
      }
  });
}

void cumsum_array_impl(const CumsumArgs& a) {
  PYDL_CHECK(a.in.ndim == 3 && a.out.ndim == 3 && a.in.contiguous() && a.out.contiguous(), "expected canonical arrays");
  for (int i = 0; i < 3; ++i) PYDL_CHECK(a.in.shape[i] == a.out.shape[i], "output of the wrong shape");
  PYDL_CHECK(a.in.dtype == a.out.dtype, "output of another dtype");
  PYDL_CHECK(a.in.dtype == DType::f32 || a.in.dtype == DType::f64, "expected float32 or float64");
  if (a.in.size() == 0) return;
  a.in.dtype == DType::f32 ? cumsum_typed<float>(a) : cumsum_typed<double>(a);
}

PYDL_REGISTER(reduce_array, reduce_array_impl);
PYDL_REGISTER(cumsum_array, cumsum_array_impl);

}  // namespace
}  // namespace pydl
