// How a convolution looks at its source: each row (output position) sees the source through taps. Shared by the forward
// pass, the data gradient and the weight gradient, by dense and depthwise kernels.
#pragma once
#include "cpu/conv.h"
#include "cpu/gemm.h"

namespace pydl {
namespace {

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
  int64_t n, p[3];  // batch index, source position of tap offset 0
};

PYDL_INLINE Row locate(const Gather& g, int64_t row) {
  Row r;
  const int64_t q2 = row % g.rows[2], rest = row / g.rows[2];
  const int64_t q1 = rest % g.rows[1], rest1 = rest / g.rows[1];
  r.p[2] = g.start[2] + q2 * g.step[2];
  r.p[1] = g.start[1] + q1 * g.step[1];
  r.p[0] = g.start[0] + rest1 % g.rows[0] * g.step[0];
  r.n = rest1 / g.rows[0];
  return r;
}

PYDL_INLINE bool inside(int64_t p, int64_t n) { return p >= 0 && p < n; }

// Copies columns [k0, k0 + kc) of a row, where column = tap * depth + channel, channels [c0, c0 + depth) of the source.
template <class T>
void gather_row(T* to, const T* source, const Gather& g, int64_t row, int64_t c0, int64_t depth, int64_t k0, int64_t kc) {
  const Row r = locate(g, row);
  const int64_t run = g.taps[2] * depth;  // columns of one (tap0, tap1)
  // Neighbouring taps on neighbouring pixels with all channels: one copy serves them all.
  const bool merged = depth == g.channels && g.offset[2][g.taps[2] - 1] - g.offset[2][0] == g.taps[2] - 1;
  for (int64_t k = k0; k < k0 + kc;) {
    const int64_t line = k / run, t1 = line % g.taps[1], t0 = line / g.taps[1];
    const int64_t p0 = r.p[0] + g.offset[0][t0], p1 = r.p[1] + g.offset[1][t1];
    int64_t column = k - line * run;                                 // within the line
    const int64_t stop = min64(run, column + (k0 + kc - k));
    if (!inside(p0, g.source[0]) || !inside(p1, g.source[1])) {
      std::memset(to, 0, static_cast<size_t>(stop - column) * sizeof(T));
      to += stop - column;
      k += stop - column;
      continue;
    }
    const T* base = source + ((r.n * g.source[0] + p0) * g.source[1] + p1) * g.source[2] * g.channels + c0;
    if (merged) {
      const int64_t first = r.p[2] + g.offset[2][0];                 // pixel of tap 0
      const int64_t lo = max64(0, -first) * depth, hi = min64(g.taps[2], g.source[2] - first) * depth;
      const int64_t a = min64(max64(column, lo), stop), b = max64(a, min64(stop, hi));
      std::memset(to, 0, static_cast<size_t>(a - column) * sizeof(T));
      if (b > a) std::memcpy(to + (a - column), base + first * g.channels + a, static_cast<size_t>(b - a) * sizeof(T));
      std::memset(to + (b - column), 0, static_cast<size_t>(stop - b) * sizeof(T));
      to += stop - column;
      k += stop - column;
      continue;
    }
    while (column < stop) {
      const int64_t t2 = column / depth, c = column - t2 * depth, n = min64(depth - c, stop - column);
      const int64_t p2 = r.p[2] + g.offset[2][t2];
      if (inside(p2, g.source[2]))
        std::memcpy(to, base + p2 * g.channels + c, static_cast<size_t>(n) * sizeof(T));
      else
        std::memset(to, 0, static_cast<size_t>(n) * sizeof(T));
      to += n;
      column += n;
      k += n;
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

// Element offset in the weight of the tap number `tap` of a gather.
PYDL_INLINE int64_t weight_offset(const Gather& g, const Array& w, int64_t tap) {
  const int64_t t2 = tap % g.taps[2], rest = tap / g.taps[2];
  return g.index[0][rest / g.taps[1]] * w.strides[2] + g.index[1][rest % g.taps[1]] * w.strides[3] +
         g.index[2][t2] * w.strides[4];
}

}  // namespace
}  // namespace pydl
