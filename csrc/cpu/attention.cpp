#include "cpu/attention.h"

#include "cpu/attention_tile.h"

namespace pydl {
namespace {

constexpr int64_t kQueries = 112 / kPanelRows * kPanelRows;  // queries per block of the backward pass
constexpr int64_t kLongestChunk = 36 * kPanelRows;           // queries per task of the forward pass: their sums stay in L2
constexpr int64_t kTasks = 16;                               // enough for the threads of a common machine
constexpr int64_t kLeastWork = 1 << 17;                      // multiplications for which a second thread pays

// The sizes, by their letters.
struct Sizes {
  int64_t N, H, G, L, S, E, F;
  explicit Sizes(const AttentionArgs& a)
      : N(a.q.shape[0]), H(a.q.shape[1]), G(a.k.shape[1]), L(a.q.shape[2]), S(a.k.shape[2]), E(a.q.shape[3]), F(a.v.shape[3]) {}
  int64_t group(int64_t h) const { return h / (H / G); }
  // How many of `tasks` equal tasks to give a thread at once.
  int64_t grain(int64_t tasks) const { return max64(1, kLeastWork / max64(1, N * H * L * S * (E + F) / max64(1, tasks))); }
};

template <class T>
Rows<T> head(const Array& x, int64_t n, int64_t h) {
  return {x.as<T>() + n * x.strides[0] + h * x.strides[1], x.strides[2], x.strides[3]};
}
template <class T>
T* row_of(const Array& x, int64_t n, int64_t h, int64_t i) {
  return x.as<T>() + n * x.strides[0] + h * x.strides[1] + i * x.strides[2];
}

template <class T>
void scale_row(T* x, int64_t n, T factor) {
  using V = Vec<T>;
  for (int64_t j = 0; j < n; j += V::lanes) {
    const int64_t m = min64(V::lanes, n - j);
    (V::load_n(x + j, m) * V::splat(factor)).store_n(x + j, m);
  }
}

PYDL_INLINE float exp2_negative(float x) { return exp2_negative(Vec<float>::splat(x)).v[0]; }
PYDL_INLINE double exp2_negative(double x) { return std::exp2(x); }

// ---------------------------------------------------------------------------------------------------- forward
// The running state of the queries of one task.
template <class T>
struct Running {
  T *top, *sum, *out;  // largest score, sum of exponentials, weighted sum of values: per query
  int64_t ld;          // elements per row of `out`
};

// Scores become exponentials relative to the largest score so far; earlier sums are brought to the same base.
template <class T>
PYDL_INLINE void online_softmax(T* s, int64_t padded, T* top, T* sum, T* out, int64_t ld) {
  using V = Vec<T>;
  V most = V::load(s);
  for (int64_t j = V::lanes; j < padded; j += V::lanes) most = max(V::load(s + j), most);
  const T before = *top, now = max(Vec<T>::splat(max_lanes(most)), Vec<T>::splat(before)).v[0];
  // Nothing seen yet: any finite base gives zeros, where -inf - -inf would give NaN.
  const T base = now == -std::numeric_limits<T>::infinity() ? T(0) : now;
  if (before != now) {
    const T factor = exp2_negative(before - base);
    *sum *= factor;
    scale_row(out, ld, factor);
    *top = now;
  }
  V total = V::zero();
  const V shift = V::splat(base);
  for (int64_t j = 0; j < padded; j += V::lanes) {
    const V e = exp2_negative(V::load(s + j) - shift);
    e.store(s + j);
    total += e;
  }
  *sum += sum_lanes(total);
}

template <class Format, class T>
void forward_task(const AttentionArgs& a, const Sizes& z, int64_t n, int64_t h, int64_t begin, int64_t end) {
  constexpr int64_t R = kPanelRows, L = Vec<T>::lanes, C = Tile<T>::columns;
  const int64_t rows = end - begin, padded_rows = round_up(rows, R), ld = round_up(z.F, C);
  const bool few = kPlain<Format, T> && rows <= kFew && z.E <= kBlockK && a.k.strides[3] == 1 && a.v.strides[3] == 1;
  const int64_t packed = few ? 0 : min64(kKeys, z.S);
  const Left<Format, T> q(rows, z.E), weights(kTogether<Format> * R, packed);
  Right<Format, T> keys(packed, z.E), values(z.F, packed);
  Scratch<T> state(padded_rows * (ld + 2));
  const Running<T> run{state.data + padded_rows * ld, state.data + padded_rows * (ld + 1), state.data, ld};
  std::memset(state.data, 0, static_cast<size_t>(padded_rows * (ld + 2)) * sizeof(T));
  for (int64_t i = 0; i < rows; ++i) run.top[i] = -std::numeric_limits<T>::infinity();

  const Visible<T> visible(a, n, h);
  const Dropout dropout(a);
  const Rows<T> k = head<T>(a.k, n, z.group(h)), v = head<T>(a.v, n, z.group(h)), queries = head<T>(a.q, n, h);
  q.fill({queries.at(begin), queries.row, queries.column}, rows, z.E, static_cast<T>(a.scale * 1.44269504088896340736));
  for (int64_t key = 0; key < z.S && visible.keys(end - 1, key, 1); key += kKeys) {
    const int64_t block = min64(kKeys, z.S - key);
    const Rows<T> k_block{k.at(key), k.row, k.column}, v_block{v.at(key), v.row, v.column};
    if (!few) {
      keys.fill_transposed(k_block, block, z.E);
      values.fill(v_block, block, z.F);
    }
    for (int64_t p = 0, r; p < rows; p += r) {
      const int64_t first = begin + p;
      r = rows_at_once<Format>(visible, first, rows - p, key, block);
      const int64_t seen = visible.keys(first + r - 1, key, block), padded = round_up(seen, L);
      if (seen == 0) continue;
      if (few)
        few_scores(q.row(p), k_block, z.E, weights.row(0), r, seen);
      else
        multiply(q, p, keys, z.E, {{weights.row(0), kPitch, false}, r, round_up(seen, C)});
      for (int64_t i = 0; i < r; ++i) {
        T* s = weights.row(i);
        visible.apply(s, first + i, key, seen, padded);
        online_softmax(s, padded, run.top + p + i, run.sum + p + i, run.out + (p + i) * ld, ld);
        if (a.dropout > 0) dropout.apply(s, (n * z.H + h) * z.L + first + i, key, seen);
      }
      T* out = run.out + p * ld;
      if (few) {
        few_sums(weights.row(0), v_block, z.F, out, ld, r, seen);
      } else {
        weights.pack(0, r, seen);
        multiply(weights, 0, values, seen, {{out, ld, true}, r, ld});
      }
    }
  }
  T* log_sum = a.log_sum.as<T>() + (n * z.H + h) * z.L + begin;
  for (int64_t i = 0; i < rows; ++i) {
    const T sum = run.sum[i];
    // A query that sees nothing: zeros now, and probabilities of 0 in backward.
    log_sum[i] = sum == 0 ? std::numeric_limits<T>::infinity() : run.top[i] + std::log2(sum);
    scale_row(run.out + i * ld, z.F, sum == 0 ? T(0) : 1 / sum);
    std::memcpy(row_of<T>(a.out, n, h, begin + i), run.out + i * ld, static_cast<size_t>(z.F) * sizeof(T));
  }
}

template <class Format, class T>
void forward(const AttentionArgs& a, const Sizes& z) {
  const int64_t heads = z.N * z.H;
  // A query's sum does not depend on the task it is in: the cut may follow the number of heads.
  const int64_t chunks = max64(ceil_div(z.L, kLongestChunk), min64(ceil_div(z.L, 4 * kPanelRows), ceil_div(kTasks, heads)));
  const int64_t length = round_up(ceil_div(z.L, chunks), kPanelRows);
  parallel_for(heads * chunks, z.grain(heads * chunks), [&](int64_t begin, int64_t end) {
    [[maybe_unused]] const Registers<Format> registers{};
    for (int64_t t = begin; t < end; ++t) {
      const int64_t i = t % chunks * length;
      if (i < z.L) forward_task<Format, T>(a, z, t / chunks / z.H, t / chunks % z.H, i, min64(z.L, i + length));
    }
  });
}

// ---------------------------------------------------------------------------------------------------- backward
// With P the probabilities, W = P times the dropout factors, g the gradient of the output:
//   dV = W^T g,  dW = g V^T,  dS = P (dW * factors - sum(g * out)),  dQ = scale dS K,  dK = scale dS^T Q.

// One row: scores s and products d = g V^T become W and scale * dS.
template <class T>
PYDL_INLINE void probability_row(T* s, T* d, int64_t padded, T log_sum, T delta, T scale, const T* factors, T* dmask, int64_t seen) {
  using V = Vec<T>;
  const V shift = V::splat(log_sum), mean = V::splat(delta);
  for (int64_t j = 0; j < padded; j += V::lanes) {
    V p = exp2_negative(V::load(s + j) - shift);
    V dw = V::load(d + j);
    const V f = factors ? V::load(factors + j) : V::splat(T(1));
    const V ds = p * (dw * f - mean);
    (p * f).store(s + j);
    (ds * V::splat(scale)).store(d + j);
    if (dmask && j < seen) ds.store_n(dmask + j, min64(V::lanes, seen - j));
  }
}

template <class Format, class T>
struct BackwardBuffers {
  Right<Format, T> keys, keys_right, values;   // a block of keys: transposed, as it is; of values: transposed
  Left<Format, T> q;                           // a block of queries and of the gradient: left and right factor
  Right<Format, T> q_right;
  Left<Format, T> g;
  Right<Format, T> g_right;
  Scratch<T> w;                                // probabilities and gradient of the scores of both blocks
  Left<Format, T> ds;
  LeftTransposed<Format, T> w_transposed, ds_transposed;
  BackwardBuffers(int64_t E, int64_t F)
      : keys(kKeys, E), keys_right(E, kKeys), values(kKeys, F), q(kQueries, E), q_right(E, kQueries), g(kQueries, F),
        g_right(F, kQueries), w(kQueries * kPitch), ds(kQueries, kKeys), w_transposed(w.data, kQueries, kKeys),
        ds_transposed(ds.row(0), kQueries, kKeys) {}
};

// The gradients of one block of keys [key, key + block) that flow through queries [begin, begin + rows) of head h.
template <class Format, class T>
struct BackwardBlock {
  const AttentionGradArgs& args;
  const Sizes& z;
  const Visible<T>& visible;
  const T* delta;      // per query of this head: sum(grad * out)
  const Dropout& dropout;
  BackwardBuffers<Format, T>& b;
  int64_t n, h, key, block;

  // Fills w and ds; panels of queries that see nothing of the block hold zeros.
  void probabilities(int64_t begin, int64_t rows) const {
    constexpr int64_t V = Vec<T>::lanes, C = Tile<T>::columns;
    const AttentionArgs& a = args.forward;
    const T* log_sum = a.log_sum.as<T>() + (n * z.H + h) * z.L;
    alignas(64) T factors[kKeys];
    for (int64_t p = 0, r; p < rows; p += r) {
      const int64_t first = begin + p;
      r = rows_at_once<Format>(visible, first, rows - p, key, block);
      const int64_t seen = visible.keys(first + r - 1, key, block), padded = round_up(seen, V);
      if (seen > 0) {
        multiply(b.q, p, b.keys, z.E, {{b.w.data + p * kPitch, kPitch, false}, r, round_up(seen, C)});
        multiply(b.g, p, b.values, z.F, {{b.ds.row(p), kPitch, false}, r, round_up(seen, C)});
      }
      for (int64_t i = 0; i < r; ++i) {
        T *s = b.w.data + (p + i) * kPitch, *d = b.ds.row(p + i);
        const int64_t q = first + i;
        if (seen > 0) {
          visible.apply(s, q, key, seen, padded);
          if (a.dropout > 0) dropout.row(factors, (n * z.H + h) * z.L + q, key, padded);
          T* dmask = args.dmask.data ? args.dmask.as<T>() + ((n * z.H + h) * z.L + q) * z.S + key : nullptr;
          probability_row<T>(s, d, padded, log_sum[q], delta[q], static_cast<T>(a.scale), a.dropout > 0 ? factors : nullptr, dmask,
                             seen);
        }
        const auto rest = static_cast<size_t>(max64(0, round_up(block, C) - padded)) * sizeof(T);
        std::memset(s + padded, 0, rest);
        std::memset(d + padded, 0, rest);
      }
    }
  }

  // dv and dk of this block's keys; `accumulate` unless these queries are the first.
  void keys_and_values(int64_t begin, int64_t rows, bool accumulate) const {
    const int64_t group = z.group(h), together = kTogether<Format> * kPanelRows;
    // Queries before the first that sees key j hold zeros.
    const auto first = [&](int64_t j) { return min64(rows, max64(0, visible.first_query(key + j) - begin)); };
    b.w_transposed.pack(rows, block);
    b.ds_transposed.pack(rows, block);
    for (int64_t j = 0; j < block; j += together) {
      const int64_t r = min64(together, block - j);
      T *dv = row_of<T>(args.dv, n, group, key + j), *dk = row_of<T>(args.dk, n, group, key + j);
      multiply_transposed(b.w_transposed, j, b.g_right, rows, {{dv, args.dv.strides[2], accumulate}, r, z.F}, first);
      multiply_transposed(b.ds_transposed, j, b.q_right, rows, {{dk, args.dk.strides[2], accumulate}, r, z.E}, first);
    }
  }

  void queries(T* dq, int64_t ld, int64_t begin, int64_t rows, bool accumulate) const {
    for (int64_t p = 0, r; p < rows; p += r) {
      r = rows_at_once<Format>(visible, begin + p, rows - p, key, block);
      const int64_t seen = visible.keys(begin + p + r - 1, key, block);
      if (seen == 0 && accumulate) continue;
      b.ds.pack(p, r, seen);
      multiply(b.ds, p, b.keys_right, seen, {{dq + p * ld, ld, accumulate}, r, z.E});
    }
  }
};

template <class T>
void zero_rows(T* x, int64_t ld, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) std::memset(x + i * ld, 0, static_cast<size_t>(columns) * sizeof(T));
}

// All gradients that flow through keys [from, to) of one group of heads. dq(h, i) is where row i of head h goes.
template <class Format, class T, class Dq>
void backward_task(const AttentionGradArgs& args, const Sizes& z, const T* delta, int64_t n, int64_t g, int64_t from, int64_t to,
                   const Dq& dq, int64_t dq_ld) {
  const AttentionArgs& a = args.forward;
  BackwardBuffers<Format, T> b(z.E, z.F);
  const Dropout dropout(a);
  const Rows<T> k = head<T>(a.k, n, g), v = head<T>(a.v, n, g);
  const int64_t heads = z.H / z.G;
  for (int64_t key = from; key < to; key += kKeys) {
    const int64_t block = min64(kKeys, to - key);
    const Rows<T> k_block{k.at(key), k.row, k.column};
    b.keys.fill_transposed(k_block, block, z.E);
    b.keys_right.fill(k_block, block, z.E);
    b.values.fill_transposed({v.at(key), v.row, v.column}, block, z.F);
    bool touched = false;
    for (int64_t h = g * heads; h < (g + 1) * heads; ++h) {
      const Visible<T> visible(a, n, h);
      const Rows<T> q = head<T>(a.q, n, h), grad = head<T>(args.grad, n, h);
      const BackwardBlock<Format, T> at{args, z, visible, delta + (n * z.H + h) * z.L, dropout, b, n, h, key, block};
      for (int64_t i = 0; i < z.L; i += kQueries) {
        const int64_t rows = min64(kQueries, z.L - i);
        if (visible.keys(i + rows - 1, key, block) == 0) {
          if (key == from) zero_rows(dq(h, i), dq_ld, rows, z.E);
          continue;
        }
        const Rows<T> q_block{q.at(i), q.row, q.column}, g_block{grad.at(i), grad.row, grad.column};
        b.q.fill(q_block, rows, z.E, static_cast<T>(a.scale * 1.44269504088896340736));
        b.g.fill(g_block, rows, z.F, T(1));
        b.q_right.fill(q_block, rows, z.E);
        b.g_right.fill(g_block, rows, z.F);
        at.probabilities(i, rows);
        at.keys_and_values(i, rows, touched);
        at.queries(dq(h, i), dq_ld, i, rows, key != from);
        touched = true;
      }
    }
    if (!touched) {
      zero_rows(row_of<T>(args.dk, n, g, key), args.dk.strides[2], block, z.E);
      zero_rows(row_of<T>(args.dv, n, g, key), args.dv.strides[2], block, z.F);
    }
  }
}

// sum(grad * out) of each query.
template <class T>
void row_products(const AttentionGradArgs& args, const Sizes& z, T* delta) {
  using V = Vec<T>;
  parallel_for(z.N * z.H * z.L, 256, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t n = t / z.L / z.H, h = t / z.L % z.H, i = t % z.L;
      const T *g = row_of<T>(args.grad, n, h, i), *o = row_of<T>(args.forward.out, n, h, i);
      const int64_t step = args.grad.strides[3];
      V sum = V::zero();
      T rest = 0;
      if (step == 1)
        for (int64_t f = 0; f < z.F; f += V::lanes) {
          const int64_t m = min64(V::lanes, z.F - f);
          sum = fma(V::load_n(g + f, m), V::load_n(o + f, m), sum);
        }
      else
        for (int64_t f = 0; f < z.F; ++f) rest += g[f * step] * o[f];
      delta[t] = sum_lanes(sum) + rest;
    }
  });
}

template <class Format, class T>
void backward(const AttentionGradArgs& args, const Sizes& z) {
  const int64_t rows = z.N * z.H * z.L, groups = z.N * z.G, blocks = ceil_div(z.S, kKeys);
  Scratch<T> delta(rows);
  row_products<T>(args, z, delta.data);
  if (args.dmask.data)
    parallel_for(rows, 64, [&](int64_t begin, int64_t end) { zero_rows(args.dmask.as<T>() + begin * z.S, z.S, end - begin, z.S); });
  // Few heads: the keys are cut in chunks, and each chunk but the first sums dq in a copy of its own.
  const int64_t chunks = min64(blocks, ceil_div(kTasks, groups));
  const int64_t length = ceil_div(blocks, chunks) * kKeys;
  Scratch<T> copies(max64(1, (chunks - 1) * rows * z.E));
  const int64_t ld = args.dq.strides[2];
  parallel_for(groups * chunks, z.grain(groups * chunks), [&](int64_t begin, int64_t end) {
    [[maybe_unused]] const Registers<Format> registers{};
    for (int64_t t = begin; t < end; ++t) {
      const int64_t n = t / chunks / z.G, g = t / chunks % z.G, c = t % chunks, from = c * length;
      const int64_t to = min64(z.S, from + length);
      const auto copy = [&](int64_t h, int64_t i) { return copies.data + (((c - 1) * z.N + n) * z.H + h) * z.L * z.E + i * z.E; };
      if (c == 0)
        backward_task<Format, T>(args, z, delta.data, n, g, from, to, [&](int64_t h, int64_t i) { return row_of<T>(args.dq, n, h, i); }, ld);
      else if (from < z.S)
        backward_task<Format, T>(args, z, delta.data, n, g, from, to, copy, z.E);
      else
        for (int64_t h = g * (z.H / z.G); h < (g + 1) * (z.H / z.G); ++h) zero_rows(copy(h, 0), z.E, z.L, z.E);
    }
  });
  if (chunks == 1) return;
  parallel_for(rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      T* to = row_of<T>(args.dq, t / z.L / z.H, t / z.L % z.H, t % z.L);
      for (int64_t c = 0; c + 1 < chunks; ++c)
        for (int64_t e = 0; e < z.E; ++e) to[e] += copies.data[(c * rows + t) * z.E + e];
    }
  });
}

// ---------------------------------------------------------------------------------------------------- checks
bool has_shape(const Array& x, int64_t a, int64_t b, int64_t c, int64_t d) {
  return x.ndim == 4 && x.shape[0] == a && x.shape[1] == b && x.shape[2] == c && x.shape[3] == d;
}
bool rows_contiguous(const Array& x) { return x.size() == 0 || x.shape[3] == 1 || x.strides[3] == 1; }

void check(const AttentionArgs& a) {
  PYDL_CHECK(a.q.ndim == 4 && a.k.ndim == 4 && a.v.ndim == 4, "expected four axes");
  const Sizes z(a);
  PYDL_CHECK(has_shape(a.k, z.N, z.G, z.S, z.E) && has_shape(a.v, z.N, z.G, z.S, z.F) && has_shape(a.out, z.N, z.H, z.L, z.F),
             "shapes do not fit");
  PYDL_CHECK(z.G > 0 ? z.H % z.G == 0 : z.H == 0, "the heads of queries must be a multiple of those of keys");
  PYDL_CHECK(a.q.dtype == DType::f32 || a.q.dtype == DType::f64, "expected float32 or float64");
  PYDL_CHECK(a.k.dtype == a.q.dtype && a.v.dtype == a.q.dtype && a.out.dtype == a.q.dtype && a.log_sum.dtype == a.q.dtype,
             "operands of unequal dtype");
  PYDL_CHECK(rows_contiguous(a.out), "rows of the output must be contiguous");
  PYDL_CHECK(a.log_sum.contiguous() && a.log_sum.size() == z.N * z.H * z.L, "log_sum of the wrong shape");
  constexpr int64_t kFar = int64_t{1} << 48;
  PYDL_CHECK(a.causal_offset > -kFar && a.causal_offset < kFar, "causal_offset out of range");
  PYDL_CHECK(a.dropout >= 0 && a.dropout <= 1, "dropout outside 0 ... 1");
  if (!a.mask.data) return;
  PYDL_CHECK(a.mask.dtype == DType::boolean || a.mask.dtype == a.q.dtype, "mask of the wrong dtype");
  PYDL_CHECK(a.mask.ndim == 4, "expected a mask of four axes");
  const int64_t full[4] = {z.N, z.H, z.L, z.S};
  for (int i = 0; i < 4; ++i) PYDL_CHECK(a.mask.shape[i] == full[i] || a.mask.shape[i] == 1, "the mask does not broadcast");
}

// f(format, number) with the format of the products and a number of the operands' type.
template <class F>
void with_type_and_format(const AttentionArgs& a, const F& f) {
  const Sizes z(a);
  const auto with_format_of = [&](auto number) {
    with_attention_format<decltype(number)>(z.L, z.S, min64(z.E, z.F), [&](auto format) { f(format, number); });
  };
  a.q.dtype == DType::f32 ? with_format_of(float{}) : with_format_of(double{});
}

void attention_forward_impl(const AttentionArgs& a) {
  check(a);
  if (a.log_sum.size() == 0) return;
  with_type_and_format(a, [&](auto format, auto number) { forward<decltype(format), decltype(number)>(a, Sizes(a)); });
}

void attention_backward_impl(const AttentionGradArgs& args) {
  const AttentionArgs& a = args.forward;
  check(a);
  const Sizes z(a);
  PYDL_CHECK(has_shape(args.grad, z.N, z.H, z.L, z.F) && has_shape(args.dq, z.N, z.H, z.L, z.E) &&
                 has_shape(args.dk, z.N, z.G, z.S, z.E) && has_shape(args.dv, z.N, z.G, z.S, z.F),
             "gradients of the wrong shape");
  PYDL_CHECK(args.grad.dtype == a.q.dtype && args.dq.dtype == a.q.dtype && args.dk.dtype == a.q.dtype && args.dv.dtype == a.q.dtype,
             "gradients of another dtype");
  PYDL_CHECK(rows_contiguous(args.dq) && rows_contiguous(args.dk) && rows_contiguous(args.dv),
             "rows of the gradients must be contiguous");
  PYDL_CHECK(!args.dmask.data || (has_shape(args.dmask, z.N, z.H, z.L, z.S) && args.dmask.contiguous() && args.dmask.dtype == a.q.dtype),
             "mask gradient of the wrong shape or dtype");
  if (z.N * z.H == 0 || z.S == 0) {  // nothing is seen: only dq may have elements
    for (int64_t t = 0; t < z.N * z.H * z.L; ++t)
      a.q.dtype == DType::f32 ? zero_rows(row_of<float>(args.dq, t / z.L / z.H, t / z.L % z.H, t % z.L), 0, 1, z.E)
                              : zero_rows(row_of<double>(args.dq, t / z.L / z.H, t / z.L % z.H, t % z.L), 0, 1, z.E);
    return;
  }
  with_type_and_format(a, [&](auto format, auto number) { backward<decltype(format), decltype(number)>(args, z); });
}

PYDL_REGISTER(attention_forward, attention_forward_impl);
PYDL_REGISTER(attention_backward, attention_backward_impl);

}  // namespace
}  // namespace pydl
