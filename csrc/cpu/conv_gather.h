// How a convolution looks at its source: each row (output position) sees the source through taps. Shared by the forward
// pass, the data gradient and the weight gradient, by dense and depthwise kernels.
#pragma once
#include "cpu/conv.h"
#include "cpu/gemm.h"

namespace pydl {
namespace {

template <class T>
Finish<T> finish_of(const ConvArgs& a) {
  return {a.bias.data ? a.bias.as<T>() : nullptr, a.relu, a.scale.data ? a.scale.as<T>() : nullptr,
          a.residual.data ? a.residual.as<T>() - a.y.as<T>() : 0};
}

// Rows are the positions (n, q0, q1, q2) with 0 <= q < rows; along each axis, tap t of row q reads the source at
// start + q * step + offset[t] (zero outside), and belongs to index[t] of the kernel.
struct Gather {
  int64_t batch, channels;      // channels of the source in memory
  int64_t source[3], rows[3];   // sizes
  int64_t start[3], step[3];
  int64_t taps[3];
  const int64_t* offset[3];     // ascending
  const int64_t* index[3];

  int64_t row_count() const { return batch * rows[0] * rows[1] * rows[2]; }
  int64_t tap_count() const { return taps[0] * taps[1] * taps[2]; }
};

struct Row {
  int64_t n, q[3], p[3];  // batch index, position among the rows, source position of tap offset 0

  // The next row in memory order: counting up is cheaper than the divisions of `locate`.
  PYDL_INLINE void advance(const Gather& g) {
    for (int d = 2; d >= 0; --d) {
      p[d] += g.step[d];
      if (++q[d] < g.rows[d]) return;
      q[d] = 0;
      p[d] = g.start[d];
    }
    ++n;
  }
};

PYDL_INLINE Row locate(const Gather& g, int64_t row) {
  Row r;
  for (int d = 2; d >= 0; --d) {
    r.q[d] = row % g.rows[d];
    r.p[d] = g.start[d] + r.q[d] * g.step[d];
    row /= g.rows[d];
  }
  r.n = row;
  return r;
}

PYDL_INLINE bool inside(int64_t p, int64_t n) { return p >= 0 && p < n; }

// Runs here are mostly a few elements long, where a call of memcpy or memset costs more than the copy.
template <class T>
PYDL_INLINE void copy_run(T* to, const T* from, int64_t n) {
  constexpr int64_t L = Vec<T>::lanes;
  for (; n > L; n -= L, to += L, from += L) Vec<T>::load(from).store(to);
  if (n > 0) Vec<T>::load_n(from, n).store_n(to, n);
}

template <class T>
PYDL_INLINE void zero_run(T* to, int64_t n) {
  constexpr int64_t L = Vec<T>::lanes;
  for (; n > L; n -= L, to += L) Vec<T>::zero().store(to);
  if (n > 0) Vec<T>::zero().store_n(to, n);
}

// Copies columns [k0, k0 + kc) of a row, where column = tap * depth + channel, channels [c0, c0 + depth) of the source.
template <class T>
void gather_row(T* to, const T* source, const Gather& g, const Row& r, int64_t c0, int64_t depth, int64_t k0, int64_t kc) {
  const int64_t run = g.taps[2] * depth;  // columns of one (tap0, tap1)
  // Neighbouring taps on neighbouring pixels with all channels: one copy serves them all.
  const bool merged = depth == g.channels && g.offset[2][g.taps[2] - 1] - g.offset[2][0] == g.taps[2] - 1;
  int64_t column = k0, t1 = 0, t0 = 0;               // column within the line of (t0, t1)
  if (k0 > 0) {
    column = k0 % run;
    t1 = k0 / run % g.taps[1];
    t0 = k0 / run / g.taps[1];
  }
  for (int64_t left = kc; left > 0; column = 0) {
    const int64_t p0 = r.p[0] + g.offset[0][t0], p1 = r.p[1] + g.offset[1][t1];
    const int64_t stop = min64(run, column + left);
    left -= stop - column;
    if (++t1 == g.taps[1]) {
      t1 = 0;
      ++t0;
    }
    if (!inside(p0, g.source[0]) || !inside(p1, g.source[1])) {
      zero_run(to, stop - column);
      to += stop - column;
      continue;
    }
    const T* base = source + ((r.n * g.source[0] + p0) * g.source[1] + p1) * g.source[2] * g.channels + c0;
    if (merged) {
      const int64_t first = r.p[2] + g.offset[2][0];                 // pixel of tap 0
      const int64_t lo = max64(0, -first) * depth, hi = min64(g.taps[2], g.source[2] - first) * depth;
      const int64_t a = min64(max64(column, lo), stop), b = max64(a, min64(stop, hi));
      zero_run(to, a - column);
      copy_run(to + (a - column), base + first * g.channels + a, b - a);
      zero_run(to + (b - column), stop - b);
      to += stop - column;
      continue;
    }
    while (column < stop) {
      const int64_t t2 = column / depth, c = column - t2 * depth, n = min64(depth - c, stop - column);
      const int64_t p2 = r.p[2] + g.offset[2][t2];
      if (inside(p2, g.source[2]))
        copy_run(to, base + p2 * g.channels + c, n);
      else
        zero_run(to, n);
      to += n;
      column += n;
    }
  }
}

// The taps of the forward pass: source position q * stride - pad + t * dilation.
struct ForwardTaps {
  Scratch<int64_t> memory;
  Gather gather;

  explicit ForwardTaps(const ConvArgs& a) : memory(2 * (a.kernel[0] + a.kernel[1] + a.kernel[2])) {
    gather.batch = a.batch;
    gather.channels = a.channels_in;
    int64_t* next = memory.data;
    for (int d = 0; d < 3; ++d) {
      gather.source[d] = a.in[d];
      gather.rows[d] = a.out[d];
      gather.start[d] = -a.pad[d];
      gather.step[d] = a.stride[d];
      gather.taps[d] = a.kernel[d];
      gather.offset[d] = next;
      gather.index[d] = next + a.kernel[d];
      for (int64_t t = 0; t < a.kernel[d]; ++t) {
        next[t] = t * a.dilation[d];
        next[a.kernel[d] + t] = t;
      }
      next += 2 * a.kernel[d];
    }
  }
};

// The taps of the data gradient for the input positions p = phase + stride * q: only those kernel elements t for which
// (p + pad - t * dilation) is a multiple of the stride meet an output, at q + (phase + pad - t * dilation) / stride.
struct GradientTaps {
  Scratch<int64_t> memory;
  Gather gather;

  GradientTaps(const ConvArgs& a, const int64_t (&phase)[3])
      : memory(2 * (a.kernel[0] + a.kernel[1] + a.kernel[2])) {
    gather.batch = a.batch;
    gather.channels = a.channels_out;
    int64_t* next = memory.data;
    for (int d = 0; d < 3; ++d) {
      gather.source[d] = a.out[d];
      gather.rows[d] = phase[d] < a.in[d] ? ceil_div(a.in[d] - phase[d], a.stride[d]) : 0;
      gather.start[d] = 0;
      gather.step[d] = 1;
      gather.offset[d] = next;
      gather.index[d] = next + a.kernel[d];
      gather.taps[d] = 0;
      for (int64_t t = a.kernel[d] - 1; t >= 0; --t) {  // falling t: ascending offsets
        const int64_t reach = phase[d] + a.pad[d] - t * a.dilation[d];
        if (reach % a.stride[d] != 0) continue;
        next[gather.taps[d]] = reach / a.stride[d];
        next[a.kernel[d] + gather.taps[d]] = t;
        ++gather.taps[d];
      }
      next += 2 * a.kernel[d];
    }
  }
};

// The number, in the whole kernel, of the tap number `tap` of a gather.
PYDL_INLINE int64_t kernel_tap(const Gather& g, const Array& w, int64_t tap) {
  const int64_t t2 = tap % g.taps[2], rest = tap / g.taps[2];
  return (g.index[0][rest / g.taps[1]] * w.shape[3] + g.index[1][rest % g.taps[1]]) * w.shape[4] + g.index[2][t2];
}

// Element offset in the weight of the tap number `tap` of a gather.
PYDL_INLINE int64_t weight_offset(const Gather& g, const Array& w, int64_t tap) {
  const int64_t t2 = tap % g.taps[2], rest = tap / g.taps[2];
  return g.index[0][rest / g.taps[1]] * w.strides[2] + g.index[1][rest % g.taps[1]] * w.strides[3] +
         g.index[2][t2] * w.strides[4];
}

}  // namespace
}  // namespace pydl
