#include "cpu/elementwise.h"

#include <cstdlib>
#include <utility>

#include "core/integer.h"
#include "core/iterate.h"
#include "core/parallel.h"
#include "core/simd_math.h"
#include "core/transpose.h"

namespace pydl {
namespace {

constexpr int64_t kGrain = 16384;  // elements per parallel chunk
constexpr int64_t kBuffer = 512;   // elements gathered at once where an operand is not contiguous

constexpr double kSqrt2OverPi = 0.79788456080286535588;  // sqrt(2/pi)
constexpr double kSeluAlpha = 1.6732632423543772848170429916717;  // Klambauer et al. 2017
constexpr double kSeluScale = 1.0507009873554804934193349852946;

#define V Vec<T>
#define C(x) Vec<T>::splat(static_cast<T>(x))
// One function of each arity: `p` holds its constants.
#define MAP1(name, expression)                                                            \
  struct f_##name {                                                                       \
    template <class T>                                                                    \
    static PYDL_INLINE V apply(V x, V, V, [[maybe_unused]] const double* p) { return expression; } \
  };
#define MAP2(name, a, b, expression)                                                      \
  struct f_##name {                                                                       \
    template <class T>                                                                    \
    static PYDL_INLINE V apply(V a, V b, V, [[maybe_unused]] const double* p) { return expression; } \
  };
#define MAP3(name, a, b, c, expression)                                                   \
  struct f_##name {                                                                       \
    template <class T>                                                                    \
    static PYDL_INLINE V apply(V a, V b, V c, [[maybe_unused]] const double* p) { return expression; } \
  };

MAP1(copy, x)
MAP1(neg, -x)
MAP1(abs, abs(x))
MAP1(sign, select(is_nan(x), x, select(x > 0.0, C(1), select(x < 0.0, C(-1), C(0)))))
MAP1(exp, exp(x))
MAP1(expm1, expm1(x))
MAP1(log, log(x))
MAP1(log1p, log1p(x))
MAP1(sqrt, sqrt(x))
MAP1(rsqrt, 1.0 / sqrt(x))
MAP1(square, x * x)
MAP1(reciprocal, 1.0 / x)
MAP1(sin, per_lane(x, [](T a) { return std::sin(a); }))
MAP1(cos, per_lane(x, [](T a) { return std::cos(a); }))
MAP1(floor, per_lane(x, [](T a) { return std::floor(a); }))
MAP1(ceil, per_lane(x, [](T a) { return std::ceil(a); }))
MAP1(round, per_lane(x, [](T a) { return std::nearbyint(a); }))  // half to even
MAP1(tanh, tanh(x))
MAP1(sigmoid, sigmoid(x))
MAP1(erf, erf(x))
// At the kink ReLU and its kin take the left branch: the gradient at 0 is 0 (or the negative slope). NaN stays NaN.
MAP1(relu, select(x <= C(0), C(0), x))
MAP1(leaky_relu, select(x > 0.0, x, x * p[0]))
MAP1(elu, select(x > 0.0, x, p[0] * expm1(x)))
MAP1(selu, kSeluScale * select(x > 0.0, x, kSeluAlpha * expm1(x)))
MAP1(gelu, gelu(x))
// (1 + tanh(u)) / 2 is sigmoid(2u).
MAP1(gelu_tanh, x * sigmoid(2.0 * kSqrt2OverPi * (x + 0.044715 * x * x * x)))
MAP1(silu, x * sigmoid(x))
// p = beta, threshold: the identity beyond the threshold, as exp would overflow. log1p(exp(z)) as max(z,0)+log1p(exp(-|z|)).
MAP1(softplus, select(x * p[0] > p[1], x, (max(x * p[0], C(0)) + log1p(exp(-abs(x * p[0])))) / p[0]))
MAP1(softsign, x / (1.0 + abs(x)))
MAP1(hardtanh, select(x < p[0], C(p[0]), select(x > p[1], C(p[1]), x)))
MAP1(hardsigmoid, select(x < -3.0, C(0), select(x > 3.0, C(1), (x + 3.0) / 6.0)))
MAP1(hardswish, x * select(x < -3.0, C(0), select(x > 3.0, C(1), (x + 3.0) / 6.0)))
MAP1(clamp, select(x < p[0], C(p[0]), select(x > p[1], C(p[1]), x)))
MAP1(step, select(is_nan(x), x, select(x > 0.0, C(1), C(0))))
MAP1(scale_shift, x * p[0] + p[1])

MAP2(add, a, b, a + b)
MAP2(sub, a, b, a - b)
MAP2(mul, a, b, a * b)
MAP2(div, a, b, a / b)
struct f_pow {
  template <class T>
  static PYDL_INLINE V apply(V a, V b, V, const double*) {
    for (int64_t i = 0; i < V::lanes; ++i) a.v[i] = std::pow(a.v[i], b.v[i]);
    return a;
  }
};
MAP2(maximum, a, b, select(is_nan(a) | (a > b), a, b))
MAP2(minimum, a, b, select(is_nan(a) | (a < b), a, b))
MAP2(add_scaled, a, b, a + b * p[0])
MAP2(prelu, x, w, select(x > 0.0, x, x * w))

MAP2(sign_grad, g, x, select(x > 0.0, g, select(x < 0.0, -g, x * C(0))))  // of abs: g * sign(x)
MAP2(tanh_grad, g, y, g * (1.0 - y * y))
MAP2(sigmoid_grad, g, y, g * y * (1.0 - y))
MAP2(relu_grad, g, y, select(y > 0.0, g, C(0)))
MAP2(leaky_relu_grad, g, x, select(x > 0.0, g, g * p[0]))
MAP2(elu_grad, g, x, select(x > 0.0, g, g * p[0] * exp(x)))
MAP2(selu_grad, g, x, g * kSeluScale * select(x > 0.0, C(1), kSeluAlpha * exp(x)))
MAP2(gelu_grad, g, x, g * gelu_slope(x))
struct f_gelu_tanh_grad {
  template <class T>
  static PYDL_INLINE V apply(V g, V x, V, const double*) {
    const V s = sigmoid(2.0 * kSqrt2OverPi * (x + 0.044715 * x * x * x));
    const V inner = 2.0 * kSqrt2OverPi * (1.0 + 3.0 * 0.044715 * x * x);
    return g * (s + x * s * (1.0 - s) * inner);
  }
};
struct f_silu_grad {
  template <class T>
  static PYDL_INLINE V apply(V g, V x, V, const double*) {
    const V s = sigmoid(x);
    return g * s * (1.0 + x * (1.0 - s));
  }
};
MAP2(softplus_grad, g, x, select(x * p[0] > p[1], g, g * sigmoid(x * p[0])))
struct f_softsign_grad {
  template <class T>
  static PYDL_INLINE V apply(V g, V x, V, const double*) {
    const V d = 1.0 + abs(x);
    return g / (d * d);
  }
};
MAP2(clamp_grad, g, x, select((x >= p[0]) & (x <= C(p[1])), g, C(0)))  // at a bound the gradient passes, as in PyTorch
// The hard activations are flat from the bound on, the bound included, as in PyTorch.
MAP2(hardtanh_grad, g, x, select((x > p[0]) & (x < p[1]), g, C(0)))
MAP2(hardsigmoid_grad, g, x, select((x > -3.0) & (x < 3.0), g / 6.0, C(0)))
MAP2(hardswish_grad, g, x, select(x <= -3.0, C(0), select(x >= 3.0, g, g * (x / 3.0 + 0.5))))
MAP2(erf_grad, g, x, g * 1.12837916709551257390 * exp(-x * x))          // 2/sqrt(pi)
// Ties of maximum and minimum share the gradient equally.
MAP3(max_grad, g, a, b, select(a == b, 0.5 * g, select(a > b, g, C(0))))
MAP3(min_grad, g, a, b, select(a == b, 0.5 * g, select(a < b, g, C(0))))
MAP3(mul_add, a, b, c, fma(a, b, c))
// Gradient for the slope of PReLU, before the sum over the other axes: p[0] = 0 for x's gradient, 1 for w's.
MAP3(prelu_grad, g, x, w, p[0] > 0.5 ? select(x > 0.0, C(0), g * x) : select(x > 0.0, g, g * w))
#undef C
#undef V

template <class T, class F, int kInputs>
void run_map(const MapArgs& args) {
  const Array* inputs[kInputs];
  for (int k = 0; k < kInputs; ++k) inputs[k] = &args.in[k];
  const auto space = make_space<kInputs + 1>(args.out, inputs);
  T* const out = args.out.as<T>();
  const T* in[kInputs];
  for (int k = 0; k < kInputs; ++k) in[k] = args.in[k].as<T>();
  const int inner = space.ndim - 1;
  int64_t step[kInputs + 1];
  bool direct = true;  // every operand contiguous or constant along the inner axis: rows of any length
  for (int k = 0; k <= kInputs; ++k) {
    step[k] = space.strides[k][inner];
    direct = direct && (step[k] == 1 || (k > 0 && step[k] == 0));
  }
  double params[kMaxParams];
  for (int i = 0; i < kMaxParams; ++i) params[i] = args.params[i];
  using V = Vec<T>;
  parallel_for(space.total, kGrain, [&](int64_t begin, int64_t end) {
    T buffer[kInputs + 1][kBuffer];
    for_each_row<kInputs + 1>(space, begin, end, direct ? kGrain : kBuffer, [&](const int64_t* offset, int64_t n) {
      const T* p[kInputs];
      int64_t advance[kInputs];  // per element: 0 where a constant is read from a vector of its copies
      for (int k = 0; k < kInputs; ++k) {
        const T* source = in[k] + offset[k + 1];
        advance[k] = step[k + 1] != 0;
        p[k] = step[k + 1] == 1 ? source : buffer[k];
        if (step[k + 1] == 0)
          V::splat(source[0]).store(buffer[k]);
        else if (step[k + 1] != 1)
          for (int64_t i = 0; i < n; ++i) buffer[k][i] = source[i * step[k + 1]];
      }
      T* o = step[0] == 1 ? out + offset[0] : buffer[kInputs];
      const auto vector = [&p, &advance, &params, o](int64_t i, int64_t m) __attribute__((always_inline)) {
        V x[3] = {V::zero(), V::zero(), V::zero()};
        for (int k = 0; k < kInputs; ++k) x[k] = V::load_n(p[k] + i * advance[k], m);
        F::template apply<T>(x[0], x[1], x[2], params).store_n(o + i, m);
      };
      int64_t i = 0;
      for (; i + V::lanes <= n; i += V::lanes) vector(i, V::lanes);
      if (i < n) vector(i, n - i);
      if (step[0] != 1)
        for (int64_t i = 0; i < n; ++i) out[offset[0] + i * step[0]] = o[i];
    });
  });
}

using MapFunction = void (*)(const MapArgs&);
constexpr MapFunction kFloat32[] = {
#define X(name, arity) run_map<float, f_##name, arity>,
    PYDL_MAPS(X)
#undef X
};
constexpr MapFunction kFloat64[] = {
#define X(name, arity) run_map<double, f_##name, arity>,
    PYDL_MAPS(X)
#undef X
};

void map_elements_impl(const MapArgs& args) {
  PYDL_CHECK(args.out.dtype == DType::f32 || args.out.dtype == DType::f64, "expected float32 or float64");
  if (args.out.size() == 0) return;
  (args.out.dtype == DType::f32 ? kFloat32 : kFloat64)[static_cast<int>(args.map)](args);
}

template <class T>
void where_rows(const WhereArgs& args) {
  const Array* inputs[3] = {&args.condition, &args.a, &args.b};
  const auto space = make_space<4>(args.out, inputs);
  const auto& s = space.strides;
  const int inner = space.ndim - 1;
  const bool* condition = args.condition.as<bool>();
  const T *a = static_cast<const T*>(args.a.data), *b = static_cast<const T*>(args.b.data);
  T* out = static_cast<T*>(args.out.data);
  parallel_for(space.total, kGrain, [&](int64_t begin, int64_t end) {
    for_each_row<4>(space, begin, end, kGrain, [&](const int64_t* o, int64_t n) {
      for (int64_t i = 0; i < n; ++i)
        out[o[0] + i * s[0][inner]] =
            condition[o[1] + i * s[1][inner]] ? a[o[2] + i * s[2][inner]] : b[o[3] + i * s[3][inner]];
    });
  });
}

void where_elements_impl(const WhereArgs& args) {
  PYDL_CHECK(args.a.dtype == args.out.dtype && args.b.dtype == args.out.dtype, "where: operands of unequal dtype");
  if (args.out.size() == 0) return;
  switch (item_size(args.out.dtype)) {
    case 8: return where_rows<int64_t>(args);
    case 4: return where_rows<int32_t>(args);
    default: return where_rows<uint8_t>(args);
  }
}

// Short rows are most of what is copied; for them the call of memcpy would cost more than the copy.
template <class T>
PYDL_INLINE void move_row(const T* from, T* to, int64_t n) {
  if constexpr (sizeof(T) == sizeof(float)) {
    constexpr int64_t L = Vec<float>::lanes;
    const auto *f = reinterpret_cast<const float*>(from);
    auto* t = reinterpret_cast<float*>(to);
    int64_t i = 0;
    for (; i + L <= n; i += L) Vec<float>::load(f + i).store(t + i);
    if (i < n) Vec<float>::load_n(f + i, n - i).store_n(t + i, n - i);
  } else {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
  }
}

// Dense rows to dense rows, both at fixed distances along the axis before the innermost: nothing is counted between two rows.
// That axis is the one along which the input goes on: what is read far apart waits, what is written far apart does not.
template <class T>
void copy_dense_rows(Space<2> space, const T* in, T* out) {
  const int axis = space.ndim - 2;
  for (int d = 0; d < axis; ++d)
    if (std::abs(space.strides[1][d]) < std::abs(space.strides[1][axis])) {
      std::swap(space.shape[d], space.shape[axis]);
      for (auto& strides : space.strides) std::swap(strides[d], strides[axis]);
    }
  const int64_t length = space.shape[axis + 1], count = space.shape[axis];
  const int64_t to_pitch = space.strides[0][axis], from_pitch = space.strides[1][axis];
  parallel_for(space.total / length, kGrain / length + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end;) {
      const int64_t i = r % count, rows = min64(count - i, end - r);
      int64_t rest = r / count, from = i * from_pitch, to = i * to_pitch;
      for (int d = axis - 1; d >= 0; --d) {
        const int64_t index = rest % space.shape[d];
        rest /= space.shape[d];
        to += index * space.strides[0][d];
        from += index * space.strides[1][d];
      }
      for (int64_t k = 0; k < rows; ++k) move_row(in + from + k * from_pitch, out + to + k * to_pitch, length);
      r += rows;
    }
  });
}

// to[c * to_step + r] = from[r + c * from_step] for r < rows, c < columns: in registers where a float is as wide.
template <class T>
PYDL_INLINE void transpose_tile(const T* from, int64_t from_step, int64_t rows, int64_t columns, T* to, int64_t to_step) {
  if constexpr (sizeof(T) == 1) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c) to[r * to_step + c] = from[r + c * from_step];
  } else {
    using F = std::conditional_t<sizeof(T) == sizeof(float), float, double>;
    constexpr int64_t L = Vec<F>::lanes;
    for (int64_t r = 0; r < rows; r += L)
      for (int64_t c = 0; c < columns; c += L)
        transpose_square(reinterpret_cast<const F*>(from + r + c * from_step), from_step, min64(L, columns - c),
                         min64(L, rows - r), reinterpret_cast<F*>(to + r * to_step + c), to_step, false);
  }
}

// A copy between layouts (NCHW to channels-last is the common one): tiles of 32 x 32 keep both sides in cache.
template <class T>
void copy_rows(const CopyArgs& args) {
  const Array* inputs[1] = {&args.in};
  const auto space = make_space<2>(args.out, inputs);
  const int inner = space.ndim - 1;
  const int64_t os = space.strides[0][inner], is = space.strides[1][inner];
  const T* in = static_cast<const T*>(args.in.data);
  T* out = static_cast<T*>(args.out.data);
  if (is == 1 && os == 1 && inner > 0 && space.shape[inner] <= kGrain) return copy_dense_rows(space, in, out);
  int fast = inner;  // the input's fastest axis
  for (int d = 0; d < space.ndim; ++d)
    if (space.strides[1][d] == 1) fast = d;
  if (is == 1 || fast == inner) {
    parallel_for(space.total, kGrain, [&](int64_t begin, int64_t end) {
      for_each_row<2>(space, begin, end, kGrain, [&](const int64_t* o, int64_t n) {
        if (is == 1 && os == 1)
          move_row(in + o[1], out + o[0], n);
        else
          for (int64_t i = 0; i < n; ++i) out[o[0] + i * os] = in[o[1] + i * is];
      });
    });
    return;
  }
  // Transpose of axes (fast, inner), for each index of the others.
  const int64_t rows = space.shape[fast], columns = space.shape[inner];
  const int64_t of = space.strides[0][fast];
  constexpr int64_t kTile = 32;
  const int64_t row_tiles = (rows + kTile - 1) / kTile, column_tiles = (columns + kTile - 1) / kTile;
  const int64_t outer = space.total / (rows * columns);
  parallel_for(outer * row_tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      int64_t rest = t / row_tiles, o = 0, i0 = 0;
      for (int d = inner - 1; d >= 0; --d) {
        if (d == fast) continue;
        const int64_t index = rest % space.shape[d];
        rest /= space.shape[d];
        o += index * space.strides[0][d];
        i0 += index * space.strides[1][d];
      }
      const int64_t r0 = (t % row_tiles) * kTile, r1 = r0 + kTile < rows ? r0 + kTile : rows;
      for (int64_t ct = 0; ct < column_tiles; ++ct) {
        const int64_t c0 = ct * kTile, c1 = c0 + kTile < columns ? c0 + kTile : columns;
        if (os == 1)
          transpose_tile(in + i0 + r0 + c0 * is, is, r1 - r0, c1 - c0, out + o + r0 * of + c0, of);
        else
          for (int64_t r = r0; r < r1; ++r)
            for (int64_t c = c0; c < c1; ++c) out[o + r * of + c * os] = in[i0 + r + c * is];
      }
    }
  });
}

void copy_elements_impl(const CopyArgs& args) {
  PYDL_CHECK(args.in.dtype == args.out.dtype, "copy: unequal dtypes");
  if (args.out.size() == 0) return;
  switch (item_size(args.out.dtype)) {
    case 8: return copy_rows<int64_t>(args);
    case 4: return copy_rows<int32_t>(args);
    default: return copy_rows<uint8_t>(args);
  }
}

template <class T>
void join(const JoinArgs& args) {
  const int64_t rows = args.out.shape[0], width = args.out.shape[1];
  parallel_for(rows, kGrain / (width + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      T* to = static_cast<T*>(args.out.data) + r * width;
      for (const Array& a : args.in) {
        move_row(static_cast<const T*>(a.data) + r * a.strides[0], to, a.shape[1]);
        to += a.shape[1];
      }
    }
  });
}

void join_rows_impl(const JoinArgs& args) {
  PYDL_CHECK(args.out.ndim == 2 && args.out.contiguous(), "join: expected a matrix in C order");
  int64_t width = 0;
  for (const Array& a : args.in) {
    PYDL_CHECK(a.ndim == 2 && a.dtype == args.out.dtype && a.shape[0] == args.out.shape[0], "join: an input does not fit");
    PYDL_CHECK(a.shape[1] == 1 || a.strides[1] == 1, "join: rows of an input have gaps");
    width += a.shape[1];
  }
  PYDL_CHECK(width == args.out.shape[1], "join: output of the wrong width");
  if (args.out.size() == 0) return;
  switch (item_size(args.out.dtype)) {
    case 8: return join<int64_t>(args);
    case 4: return join<int32_t>(args);
    default: return join<uint8_t>(args);
  }
}

PYDL_REGISTER(join_rows, join_rows_impl);
PYDL_REGISTER(map_elements, map_elements_impl);
PYDL_REGISTER(where_elements, where_elements_impl);
PYDL_REGISTER(copy_elements, copy_elements_impl);

}  // namespace
}  // namespace pydl
