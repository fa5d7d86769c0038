// Convolution as a matrix product whose left factor is never stored: its rows are gathered from the image while packing
// (implicit gemm). Depthwise convolution (conv_depthwise.h) and few channels (conv_direct.h) have kernels of their own.
#include "cpu/conv.h"

#include <cmath>

#include "cpu/conv_depthwise.h"
#include "cpu/conv_direct.h"
#include "cpu/conv_gather.h"
#include "cpu/conv_rows.h"
#include "cpu/conv_weight.h"
#include "cpu/gemm_outer.h"
#include "cpu/winograd.h"
#include "cpu/winograd_choice.h"

namespace pydl {
namespace {

// The weights of all groups in order_weight's form: once for all products of a call. 1x1 is packed as it stands.
template <class T>
struct OrderedWeight {
  int64_t ld, group;  // elements of a row, of a group
  Scratch<T> scratch;

  OrderedWeight(const Array& w, int64_t groups, int64_t depth, int64_t columns)
      : ld(ceil_div(columns, Tile<T>::columns) * Tile<T>::columns), group(taps(w) == 1 ? 0 : taps(w) * depth * ld),
        scratch(groups * group) {}
  static int64_t taps(const Array& w) { return w.shape[2] * w.shape[3] * w.shape[4]; }
};

// out[row, column] = sum over (tap, channel) of source * weight; `column_stride` and `depth_stride` say which weight axis
// is which: forward sums over input channels, the data gradient over output channels. `ordered` is the weight in
// order_weight's form with rows of ld, unless it is 1x1.
template <class T>
void gather_product(const Gather& g, const T* source, int64_t c0, int64_t depth, const Array& w, const T* weight,
                    int64_t depth_stride, int64_t column_stride, int64_t columns, const T* ordered, int64_t ld,
                    const Finish<T>& finish, T* out, int64_t ldc) {
  const auto pack_a = [&](T* panel, int64_t row, int64_t rows, int64_t k, int64_t kc) {
    Row r = locate(g, row);
    for (int64_t i = 0; i < rows; ++i, r.advance(g)) gather_row(panel + i * kPitch, source, g, r, c0, depth, k, kc);
    for (int64_t i = rows; i < Tile<T>::rows; ++i) zero_run(panel + i * kPitch, kc);
  };
  const int64_t rows = g.row_count();
  if (w.shape[2] * w.shape[3] * w.shape[4] == 1) {
    const auto pack_b = [&](T* panel, int64_t j0, int64_t n, int64_t k0, int64_t kc) {
      pack_b_strided(panel, weight + k0 * depth_stride + j0 * column_stride, depth_stride, column_stride, n, kc);
    };
    return gemm<T>(rows, columns, g.tap_count() * depth, pack_a, pack_b, out, ldc, finish);
  }
  constexpr int64_t C = Tile<T>::columns;
  const auto pack_b = [&](T* panel, int64_t j0, int64_t, int64_t k0, int64_t kc) {
    if (kc == 0) return;
    int64_t tap = k0 / depth, c = k0 % depth;
    const T* from = ordered + (kernel_tap(g, w, tap) * depth + c) * ld + j0;
    for (int64_t k = 0; k < kc; ++k, from += ld) {
      if (c++ == depth) {
        from = ordered + kernel_tap(g, w, ++tap) * depth * ld + j0;
        c = 1;
      }
      copy_run(panel + k * C, from, C);
    }
  };
  gemm<T>(rows, columns, g.tap_count() * depth, pack_a, pack_b, out, ldc, finish);
}

// Reading an image in place keeps it in float32. With pairs or tiles, packing it pays as soon as there are channels to sum over.
template <class T>
bool packing_pays(const ConvArgs& a) {
  const int64_t pixels = a.batch * a.out[0] * a.out[1] * a.out[2];
  return a.groups == 1 && a.channels_in > kDirectChannels && packing_speeds_up<T>(pixels, a.channels_out, a.channels_in);
}

template <class T>
void forward(const ConvArgs& a) {
  const bool pack = packing_pays<T>(a);
  if (!pack && direct_pays(a, Direction::forward)) return conv_direct_forward(a);
  const T *x = a.x.as<T>(), *w = a.weight.as<T>();
  T* y = a.y.as<T>();
  const auto finish = finish_of<T>(a);
  if (is_pointwise(a))
    return pointwise<T>(a.batch * a.out[0] * a.out[1] * a.out[2], a.channels_in, a.channels_out, x, w, a.weight.strides[1],
                        a.weight.strides[0], y, finish);
  const ForwardTaps taps(a);
  if (is_depthwise(a))
    return depthwise_rows<T>(taps.gather, x, a.weight, w, finish,
                             {y, {a.out[0], a.out[1], a.out[2]}, {0, 0, 0}, {1, 1, 1}});
  const int64_t depth = a.channels_in / a.groups, columns = a.channels_out / a.groups;
  const OrderedWeight<T> ordered(a.weight, 1, depth, columns);
  for (int64_t g = 0; g < a.groups; ++g) {
    const T* own = w + g * columns * a.weight.strides[0];
    if (ordered.group)
      order_weight(a.weight, own, depth, a.weight.strides[1], columns, a.weight.strides[0], ordered.scratch.data, ordered.ld,
                   depth * ordered.ld, Tile<T>::columns);
    gather_product<T>(taps.gather, x, g * depth, depth, a.weight, own, a.weight.strides[1], a.weight.strides[0], columns,
                      ordered.scratch.data, ordered.ld, finish.from(g * columns), y + g * columns, a.channels_out);
  }
}

template <class T>
void data_gradient_phase(const ConvArgs& a, const int64_t (&phase)[3], bool whole, const OrderedWeight<T>& ordered) {
  const GradientTaps taps(a, phase);
  const Gather& gather = taps.gather;
  const int64_t rows = gather.row_count(), channels = a.channels_in;
  if (rows == 0) return;
  const T *dy = a.y.as<T>(), *w = a.weight.as<T>(), *bias = a.bias.data ? a.bias.as<T>() : nullptr;
  T* dx = a.x.as<T>();
  if (is_depthwise(a))
    return depthwise_rows<T>(gather, dy, a.weight, w, {bias},
                             {dx, {a.in[0], a.in[1], a.in[2]}, {phase[0], phase[1], phase[2]},
                              {a.stride[0], a.stride[1], a.stride[2]}});
  // One phase covers all positions when the stride is 1; otherwise its rows are spread over dx afterwards.
  Scratch<T> buffer(whole ? 1 : rows * channels);
  T* out = whole ? dx : buffer.data;
  if (gather.tap_count() == 0) {
    parallel_for(rows, 256, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < channels; ++c) out[r * channels + c] = bias ? bias[c] : T(0);
    });
  } else {
    const int64_t depth = a.channels_out / a.groups, columns = channels / a.groups;
    for (int64_t g = 0; g < a.groups; ++g)
      gather_product<T>(gather, dy, g * depth, depth, a.weight, w + g * depth * a.weight.strides[0], a.weight.strides[0],
                        a.weight.strides[1], columns, ordered.scratch.data + g * ordered.group, ordered.ld,
                        Finish<T>{bias}.from(g * columns), out + g * columns, channels);
  }
  if (whole) return;
  parallel_for(rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t q2 = r % gather.rows[2], rest = r / gather.rows[2];
      const int64_t q1 = rest % gather.rows[1], rest1 = rest / gather.rows[1];
      const int64_t p0 = phase[0] + rest1 % gather.rows[0] * a.stride[0], p1 = phase[1] + q1 * a.stride[1];
      const int64_t p2 = phase[2] + q2 * a.stride[2], n = rest1 / gather.rows[0];
      const int64_t position = ((n * a.in[0] + p0) * a.in[1] + p1) * a.in[2] + p2;
      std::memcpy(dx + position * channels, out + r * channels, static_cast<size_t>(channels) * sizeof(T));
    }
  });
}

template <class T>
void data_gradient(const ConvArgs& a) {
  const bool pack = packing_pays<T>(a);
  if (!pack && !is_unfolding(a) && direct_pays(a, Direction::data_gradient)) return conv_direct_data_gradient(a);
  if (is_pointwise(a))
    return pointwise<T>(a.batch * a.in[0] * a.in[1] * a.in[2], a.channels_out, a.channels_in, a.y.as<T>(), a.weight.as<T>(),
                        a.weight.strides[0], a.weight.strides[1], a.x.as<T>(), {a.bias.data ? a.bias.as<T>() : nullptr});
  if (!pack && is_unfolding(a))
    return unfold<T>(a, [&](T* weights, int64_t panel) {
      order_weight(a.weight, a.weight.as<T>(), a.channels_out, a.weight.strides[0], a.channels_in, a.weight.strides[1], weights,
                   Tile<T>::columns, a.channels_out * Tile<T>::columns, panel);
    });
  const int64_t depth = a.channels_out / a.groups, columns = a.channels_in / a.groups;
  const OrderedWeight<T> ordered(a.weight, is_depthwise(a) ? 0 : a.groups, depth, columns);
  for (int64_t g = 0; ordered.group && !is_depthwise(a) && g < a.groups; ++g)
    order_weight(a.weight, a.weight.as<T>() + g * depth * a.weight.strides[0], depth, a.weight.strides[0], columns,
                 a.weight.strides[1], ordered.scratch.data + g * ordered.group, ordered.ld, depth * ordered.ld, Tile<T>::columns);
  const bool whole = a.stride[0] == 1 && a.stride[1] == 1 && a.stride[2] == 1;
  // A stride beyond the input leaves its last phases without positions.
  for (int64_t f0 = 0; f0 < min64(a.stride[0], a.in[0]); ++f0)
    for (int64_t f1 = 0; f1 < min64(a.stride[1], a.in[1]); ++f1)
      for (int64_t f2 = 0; f2 < min64(a.stride[2], a.in[2]); ++f2) data_gradient_phase<T>(a, {f0, f1, f2}, whole, ordered);
}

// sums[outputs][columns] of one group: dy' times the rows of the gathered image.
template <class T>
void weight_sums(const ConvArgs& a, const Gather& gather, int64_t group, T* sums) {
  const int64_t depth = a.channels_in / a.groups, outputs = a.channels_out / a.groups;
  const int64_t columns = gather.tap_count() * depth, rows = gather.row_count();
  const T *x = a.x.as<T>(), *dy = a.y.as<T>() + group * outputs;
  const bool in_rows = is_pointwise(a);  // the image is the matrix
  const auto fill = [&](T* to, int64_t ld, int64_t j, int64_t n, int64_t row, int64_t kc) {
    Row r = locate(gather, row);
    for (int64_t k = 0; k < kc; ++k, r.advance(gather)) gather_row(to + k * ld, x, gather, r, group * depth, depth, j, n);
  };
  const auto pack_a = [&](T* panel, int64_t i, int64_t n, int64_t row, int64_t kc) {
    pack_a_columns(panel, dy + row * a.channels_out + i, a.channels_out, n, kc);
  };
  const auto pack_b = [&](T* panel, int64_t j, int64_t n, int64_t row, int64_t kc) {
    constexpr int64_t C = Tile<T>::columns;
    if (in_rows) return pack_b_strided(panel, x + row * columns + j, columns, int64_t{1}, n, kc);
    if (n < C) zero_run(panel, kc * C);
    fill(panel, C, j, n, row, kc);
  };
  // Measured: gemm, which gathers the image for each panel by itself, pays later where it has to.
  const bool few = outputs * columns <= int64_t{1} << 18 &&
                   (in_rows ? rows >= 32 * kBlockK && sums_are_long(outputs, columns, rows) : rows >= 16 * kBlockK);
  if (!few)
    gemm<T, true>(outputs, columns, rows, pack_a, pack_b, sums, columns);
  else if (packing_pays<T>(a) && min64(outputs, columns) >= 128)  // measured: with fewer, packing takes what pairs gain
    gemm_long_k<T, true>(outputs, columns, rows, pack_a, pack_b, sums);
  else
    sum_outer_products<T>(outputs, columns, rows, dy, a.channels_out, fill, in_rows ? x : nullptr, sums);
}

template <class T>
void weight_gradient(const ConvArgs& a) {
  if (direct_pays(a, Direction::weight_gradient)) return conv_direct_weight_gradient(a);  // of few channels
  const ForwardTaps taps(a);
  const Gather& gather = taps.gather;
  T* dw = a.weight.as<T>();
  const int64_t* ws = a.weight.strides;
  if (is_depthwise(a)) return depthwise_weight<T>(gather, a.x.as<T>(), a.y.as<T>(), a.weight, dw);
  const int64_t depth = a.channels_in / a.groups, outputs = a.channels_out / a.groups, columns = gather.tap_count() * depth;
  if (columns == depth && ws[1] == 1 && ws[0] == depth) {  // one tap: the sums are the weight
    for (int64_t g = 0; g < a.groups; ++g) weight_sums(a, gather, g, dw + g * outputs * ws[0]);
    return;
  }
  Scratch<T> sums(outputs * columns);
  for (int64_t g = 0; g < a.groups; ++g) {
    weight_sums(a, gather, g, sums.data);
    parallel_for(outputs, 8, [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o)
        for (int64_t t = 0; t < gather.tap_count(); ++t) {
          T* to = dw + (g * outputs + o) * ws[0] + weight_offset(gather, a.weight, t);
          for (int64_t c = 0; c < depth; ++c) to[c * ws[1]] = sums.data[o * columns + t * depth + c];
        }
    });
  }
}

void check(const ConvArgs& a) {
  const Array &x = a.x, &y = a.y, &w = a.weight;
  PYDL_CHECK(x.dtype == y.dtype && x.dtype == w.dtype, "operands of unequal dtype");
  PYDL_CHECK(x.dtype == DType::f32 || x.dtype == DType::f64, "expected float32 or float64");
  PYDL_CHECK(x.ndim == 5 && y.ndim == 5 && w.ndim == 5 && x.contiguous() && y.contiguous(), "expected channels-last arrays");
  PYDL_CHECK(a.groups > 0 && a.channels_in % a.groups == 0 && a.channels_out % a.groups == 0, "groups do not divide channels");
  PYDL_CHECK(x.shape[0] == a.batch && y.shape[0] == a.batch && x.shape[4] == a.channels_in && y.shape[4] == a.channels_out,
             "batch or channels do not fit");
  PYDL_CHECK(w.shape[0] == a.channels_out && w.shape[1] == a.channels_in / a.groups, "weight of the wrong shape");
  for (int d = 0; d < 3; ++d) {
    PYDL_CHECK(x.shape[d + 1] == a.in[d] && y.shape[d + 1] == a.out[d] && w.shape[d + 2] == a.kernel[d], "sizes do not fit");
    PYDL_CHECK(a.kernel[d] > 0 && a.stride[d] > 0 && a.dilation[d] > 0, "kernel, stride and dilation must be positive");
    constexpr int64_t kMost = int64_t{1} << 31;  // products of these with sizes stay within 64 bits
    PYDL_CHECK(a.kernel[d] < kMost && a.stride[d] < kMost && a.dilation[d] < kMost && a.pad[d] >= 0 && a.pad[d] < kMost,
               "kernel, stride, dilation or padding out of range");
  }
}

// Batch norm by given statistics as a factor and a bias of the convolution's sums.
template <class T>
void fold_norm(const ConvArgs& a, T* scale, T* shift) {
  const auto number = [](const Array& v, int64_t o, double otherwise) {
    return v.data ? static_cast<double>(v.as<T>()[o]) : otherwise;
  };
  for (int64_t o = 0; o < a.channels_out; ++o) {
    const double factor = number(a.norm.weight, o, 1.0) / std::sqrt(number(a.norm.var, o, 1.0) + a.norm.eps);
    scale[o] = static_cast<T>(factor);
    shift[o] = static_cast<T>((number(a.bias, o, 0.0) - number(a.norm.mean, o, 0.0)) * factor + number(a.norm.bias, o, 0.0));
  }
}

void check_finish(const ConvArgs& a) {
  const auto vector = [&](const Array& v) {
    PYDL_CHECK(!v.data || (v.ndim == 1 && v.contiguous() && v.shape[0] == a.channels_out && v.dtype == a.x.dtype),
               "a vector of the norm does not fit");
  };
  for (const Array* v : {&a.norm.weight, &a.norm.bias, &a.norm.mean, &a.norm.var}) vector(*v);
  PYDL_CHECK(!a.norm.mean.data == !a.norm.var.data, "mean and variance come together");
  if (!a.residual.data) return;
  const Array& r = a.residual;
  PYDL_CHECK(r.ndim == 5 && r.contiguous() && r.dtype == a.y.dtype, "expected a channels-last residual");
  for (int d = 0; d < 5; ++d) PYDL_CHECK(r.shape[d] == a.y.shape[d], "residual of the wrong shape");
}

using Function = void (*)(const ConvArgs&);

template <Direction D, const Kernel<void(const ConvArgs&, int)>& Winograd, Function Float, Function Double>
void run(const ConvArgs& a) {
  if (const int tile = winograd_tile(a, D)) return Winograd(a, tile);
  a.x.dtype == DType::f32 ? Float(a) : Double(a);
}

template <Direction D, const Kernel<void(const ConvArgs&, int)>& Winograd, Function Float, Function Double>
void checked(const ConvArgs& a) {
  check(a);
  run<D, Winograd, Float, Double>(a);
}

constexpr Function kForward = run<Direction::forward, winograd_forward, forward<float>, forward<double>>;

template <class T>
void forward_with_norm(const ConvArgs& a) {
  Scratch<T> vectors(2 * a.channels_out);
  fold_norm(a, vectors.data, vectors.data + a.channels_out);
  ConvArgs folded = a;
  folded.scale = folded.bias = a.norm.mean;
  folded.scale.data = vectors.data;
  folded.bias.data = vectors.data + a.channels_out;
  kForward(folded);
}

void any_forward(const ConvArgs& a) {
  check(a);
  check_finish(a);
  if (!a.norm.mean.data) return kForward(a);
  a.x.dtype == DType::f32 ? forward_with_norm<float>(a) : forward_with_norm<double>(a);
}

PYDL_REGISTER(conv_forward, any_forward);
PYDL_REGISTER(conv_data_gradient, (checked<Direction::data_gradient, winograd_data_gradient, data_gradient<float>,
                                           data_gradient<double>>));
PYDL_REGISTER(conv_weight_gradient, (checked<Direction::weight_gradient, winograd_weight_gradient, weight_gradient<float>,
                                              weight_gradient<double>>));

}  // namespace
}  // namespace pydl
