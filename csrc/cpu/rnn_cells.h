// The formulas of the cells, one row and a run of hidden units at a time; forward and backward side by side.
//
// `sum` holds the recurrent products of these units, the gates `stride` apart; the other pointers point at the first unit.
// Gates of a row are H apart. Hochreiter and Schmidhuber 1997 with forget gate (Gers et al. 2000); Cho et al. 2014.
#pragma once
#include "core/simd_math.h"

namespace pydl {
namespace {

template <class T, class F>
PYDL_INLINE void for_units(int64_t n, const F& f) {
  for (int64_t j = 0; j < n; j += Vec<T>::lanes) f(j, n - j);
}

PYDL_INLINE Vec<float> gate_sigmoid(Vec<float> x) {
  const Exponential e = bounded_exp(at_least(at_most(-x, 87.0f), -87.0f));
  return 1.0 / (fma(e.q, e.scale, e.scale) + 1.0);
}
// (e - 1) / (e + 1) with e = exp(2x); 1 from x = 9.02 on.
PYDL_INLINE Vec<float> gate_tanh(Vec<float> x) {
  const Exponential e = bounded_exp(2.0 * at_least(at_most(x, 10.0f), -10.0f));
  const Vec<float> t = fma(e.q, e.scale, e.scale - 1.0);
  return t / (t + 2.0);
}
PYDL_INLINE Vec<double> gate_sigmoid(Vec<double> x) { return sigmoid(x); }
PYDL_INLINE Vec<double> gate_tanh(Vec<double> x) { return tanh(x); }

template <class T>
PYDL_INLINE Vec<T> sigmoid_slope(Vec<T> s) { return s * (1.0 - s); }
template <class T>
PYDL_INLINE Vec<T> tanh_slope(Vec<T> t) { return 1.0 - t * t; }

// h = act(a); `gates` is the output row.
template <bool kRelu, class T>
void simple_forward(int64_t n, const T* sum, T* gates, T* state) {
  using V = Vec<T>;
  for_units<T>(n, [&](int64_t j, int64_t m) {
    const V a = V::load_n(gates + j, m) + V::load(sum + j);
    V h;
    if constexpr (kRelu)
      h = select(a < 0.0, V::zero(), a);  // NaN stays
    else
      h = gate_tanh(a);
    h.store_n(gates + j, m);
    h.store_n(state + j, m);
  });
}

// relu has slope 0 at 0.
template <bool kRelu, class T>
void simple_backward(int64_t n, const T* dh, const T* y, T* da) {
  using V = Vec<T>;
  for_units<T>(n, [&](int64_t j, int64_t m) {
    const V h = V::load_n(y + j, m), g = V::load_n(dh + j, m);
    if constexpr (kRelu)
      select(h <= 0.0, V::zero(), g).store_n(da + j, m);
    else
      (g * tanh_slope(h)).store_n(da + j, m);
  });
}

// c = f c + i g; h = o tanh(c), written to `h` and (unless null) to `state`.
template <class T>
void lstm_forward(int64_t n, int64_t H, const T* sum, int64_t stride, T* gates, T* c, T* cells, T* h, T* state) {
  using V = Vec<T>;
  for_units<T>(n, [&](int64_t j, int64_t m) {
    const V i = gate_sigmoid(V::load_n(gates + j, m) + V::load(sum + j));
    const V f = gate_sigmoid(V::load_n(gates + H + j, m) + V::load(sum + stride + j));
    const V g = gate_tanh(V::load_n(gates + 2 * H + j, m) + V::load(sum + 2 * stride + j));
    const V o = gate_sigmoid(V::load_n(gates + 3 * H + j, m) + V::load(sum + 3 * stride + j));
    const V cell = fma(f, V::load_n(c + j, m), i * g);
    const V out = o * gate_tanh(cell);
    i.store_n(gates + j, m);
    f.store_n(gates + H + j, m);
    g.store_n(gates + 2 * H + j, m);
    o.store_n(gates + 3 * H + j, m);
    cell.store_n(c + j, m);
    cell.store_n(cells + j, m);
    out.store_n(h + j, m);
    if (state) out.store_n(state + j, m);
  });
}

// `dc` is the gradient of the cell state, carried from the later step to the earlier.
template <class T>
void lstm_backward(int64_t n, int64_t H, const T* dh, const T* gates, const T* cells, const T* c_before, T* dc, T* da) {
  using V = Vec<T>;
  for_units<T>(n, [&](int64_t j, int64_t m) {
    const V i = V::load_n(gates + j, m), f = V::load_n(gates + H + j, m);
    const V g = V::load_n(gates + 2 * H + j, m), o = V::load_n(gates + 3 * H + j, m);
    const V t = gate_tanh(V::load_n(cells + j, m)), gh = V::load_n(dh + j, m);
    const V gc = fma(gh * o, tanh_slope(t), V::load_n(dc + j, m));
    (gc * g * sigmoid_slope(i)).store_n(da + j, m);
    (gc * V::load_n(c_before + j, m) * sigmoid_slope(f)).store_n(da + H + j, m);
    (gc * i * tanh_slope(g)).store_n(da + 2 * H + j, m);
    (gh * t * sigmoid_slope(o)).store_n(da + 3 * H + j, m);
    (gc * f).store_n(dc + j, m);
  });
}

// Reset after the product: n = tanh(a_n + r q) with q = W_hn h + b_hn, kept in `extra`; h' = (1 - z) n + z h.
template <class T>
void gru_forward(int64_t n, int64_t H, const T* sum, int64_t stride, const T* bias, T* gates, const T* before, T* extra, T* y,
                 T* state) {
  using V = Vec<T>;
  for_units<T>(n, [&](int64_t j, int64_t m) {
    const V r = gate_sigmoid(V::load_n(gates + j, m) + V::load(sum + j));
    const V z = gate_sigmoid(V::load_n(gates + H + j, m) + V::load(sum + stride + j));
    V q = V::load(sum + 2 * stride + j);
    if (bias) q = q + V::load_n(bias + j, m);
    const V c = gate_tanh(fma(r, q, V::load_n(gates + 2 * H + j, m)));
    const V h = fma(z, V::load_n(before + j, m) - c, c);
    r.store_n(gates + j, m);
    z.store_n(gates + H + j, m);
    c.store_n(gates + 2 * H + j, m);
    q.store_n(extra + j, m);
    h.store_n(y + j, m);
    h.store_n(state + j, m);
  });
}

// da holds four gradients H apart: of a_n, a_r, a_z and q, so that those of the input's products (n, r, z) and those of the
// recurrent ones (r, z, q) each lie side by side. `dh` becomes the part that reaches h directly, through z.
template <class T>
void gru_backward(int64_t n, int64_t H, T* dh, const T* gates, const T* before, const T* extra, T* da) {
  using V = Vec<T>;
  for_units<T>(n, [&](int64_t j, int64_t m) {
    const V r = V::load_n(gates + j, m), z = V::load_n(gates + H + j, m), c = V::load_n(gates + 2 * H + j, m);
    const V g = V::load_n(dh + j, m);
    const V dn = g * (1.0 - z) * tanh_slope(c);
    dn.store_n(da + j, m);
    (dn * V::load_n(extra + j, m) * sigmoid_slope(r)).store_n(da + H + j, m);
    (g * (V::load_n(before + j, m) - c) * sigmoid_slope(z)).store_n(da + 2 * H + j, m);
    (dn * r).store_n(da + 3 * H + j, m);
    (g * z).store_n(dh + j, m);
  });
}

// Reset before the product, first half: r, z and the vector r h that the product is taken of.
template <class T>
void gru_before_forward_reset(int64_t n, int64_t H, const T* sum, int64_t stride, T* gates, const T* before, T* extra,
                              T* reset) {
  using V = Vec<T>;
  for_units<T>(n, [&](int64_t j, int64_t m) {
    const V r = gate_sigmoid(V::load_n(gates + j, m) + V::load(sum + j));
    const V z = gate_sigmoid(V::load_n(gates + H + j, m) + V::load(sum + stride + j));
    const V rh = r * V::load_n(before + j, m);
    r.store_n(gates + j, m);
    z.store_n(gates + H + j, m);
    rh.store_n(extra + j, m);
    rh.store_n(reset + j, m);
  });
}

// Second half: n = tanh(a_n + W_hn (r h)), h' = (1 - z) n + z h.
template <class T>
void gru_before_forward_output(int64_t n, int64_t H, const T* sum, T* gates, const T* before, T* y, T* state) {
  using V = Vec<T>;
  for_units<T>(n, [&](int64_t j, int64_t m) {
    const V c = gate_tanh(V::load_n(gates + 2 * H + j, m) + V::load(sum + j));
    const V h = fma(V::load_n(gates + H + j, m), V::load_n(before + j, m) - c, c);
    c.store_n(gates + 2 * H + j, m);
    h.store_n(y + j, m);
    h.store_n(state + j, m);
  });
}

// Backward of the second half: gradients of a_z and a_n; `dh` becomes the part through z.
template <class T>
void gru_before_backward_output(int64_t n, int64_t H, T* dh, const T* gates, const T* before, T* da) {
  using V = Vec<T>;
  for_units<T>(n, [&](int64_t j, int64_t m) {
    const V z = V::load_n(gates + H + j, m), c = V::load_n(gates + 2 * H + j, m), g = V::load_n(dh + j, m);
    (g * (V::load_n(before + j, m) - c) * sigmoid_slope(z)).store_n(da + H + j, m);
    (g * (1.0 - z) * tanh_slope(c)).store_n(da + 2 * H + j, m);
    (g * z).store_n(dh + j, m);
  });
}

// Backward of the first half: `sum` is the gradient of r h.
template <class T>
void gru_before_backward_reset(int64_t n, const T* sum, const T* gates, const T* before, T* dh, T* da) {
  using V = Vec<T>;
  for_units<T>(n, [&](int64_t j, int64_t m) {
    const V r = V::load_n(gates + j, m), s = V::load(sum + j);
    (s * V::load_n(before + j, m) * sigmoid_slope(r)).store_n(da + j, m);
    fma(s, r, V::load_n(dh + j, m)).store_n(dh + j, m);
  });
}

}  // namespace
}  // namespace pydl
