// Depthwise convolution: each channel with its own filter. Vectorised over the channels, which are adjacent in memory.
#pragma once
#include "cpu/conv_gather.h"

namespace pydl {
namespace {

inline bool is_depthwise(const ConvArgs& a) {
  return a.groups > 1 && a.groups == a.channels_in && a.channels_in == a.channels_out;
}

// The taps' weights as [tap][channel].
template <class T>
void transpose_taps(const Gather& g, const Array& w, const T* weight, T* to) {
  for (int64_t t = 0; t < g.tap_count(); ++t) {
    const int64_t offset = weight_offset(g, w, t);
    for (int64_t c = 0; c < g.channels; ++c) to[t * g.channels + c] = weight[offset + c * w.strides[0]];
  }
}

// The source pixel of each tap of a row, or null outside.
template <class T>
void locate_taps(const Gather& g, const T* source, int64_t row, const T** pixels) {
  const Row r = locate(g, row);
  for (int64_t t0 = 0; t0 < g.taps[0]; ++t0)
    for (int64_t t1 = 0; t1 < g.taps[1]; ++t1)
      for (int64_t t2 = 0; t2 < g.taps[2]; ++t2) {
        const int64_t p0 = r.p[0] + g.offset[0][t0], p1 = r.p[1] + g.offset[1][t1], p2 = r.p[2] + g.offset[2][t2];
        const bool in = inside(p0, g.source[0]) && inside(p1, g.source[1]) && inside(p2, g.source[2]);
        *pixels++ = in ? source + (((r.n * g.source[0] + p0) * g.source[1] + p1) * g.source[2] + p2) * g.channels : nullptr;
      }
}

template <class T>
void depthwise_rows(const Gather& g, const T* source, const Array& w, const T* weight, const T* bias, T* out) {
  using V = Vec<T>;
  const int64_t taps = g.tap_count(), channels = g.channels;
  Scratch<T> wt(taps * channels);
  transpose_taps(g, w, weight, wt.data);
  parallel_for(g.row_count(), max64(1, 16384 / (taps * channels + 1)), [&](int64_t begin, int64_t end) {
    Scratch<const T*> pixels(taps);
    for (int64_t row = begin; row < end; ++row) {
      locate_taps(g, source, row, pixels.data);
      for (int64_t c = 0; c < channels; c += V::lanes) {
        const int64_t n = min64(channels - c, V::lanes);
        V sum = bias ? V::load_n(bias + c, n) : V::zero();
        for (int64_t t = 0; t < taps; ++t)
          if (pixels.data[t]) sum = fma(V::load_n(pixels.data[t] + c, n), V::load_n(wt.data + t * channels + c, n), sum);
        sum.store_n(out + row * channels + c, n);
      }
    }
  });
}

// Partial sums over fixed chunks of rows, added in order.
template <class T>
void depthwise_weight(const Gather& g, const T* source, const T* dy, const Array& w, T* dw) {
  using V = Vec<T>;
  const int64_t taps = g.tap_count(), channels = g.channels, rows = g.row_count();
  const int64_t chunk = max64(64, ceil_div(rows, 64)), chunks = max64(1, ceil_div(rows, chunk)), size = taps * channels;
  Scratch<T> partial(chunks * size);
  std::memset(partial.data, 0, static_cast<size_t>(chunks * size) * sizeof(T));
  parallel_for(rows, chunk, [&](int64_t begin, int64_t end) {
    Scratch<const T*> pixels(taps);
    T* sums = partial.data + begin / chunk * size;
    for (int64_t row = begin; row < end; ++row) {
      locate_taps(g, source, row, pixels.data);
      for (int64_t t = 0; t < taps; ++t) {
        if (!pixels.data[t]) continue;
        for (int64_t c = 0; c < channels; c += V::lanes) {
          const int64_t n = min64(channels - c, V::lanes);
          fma(V::load_n(pixels.data[t] + c, n), V::load_n(dy + row * channels + c, n), V::load_n(sums + t * channels + c, n))
              .store_n(sums + t * channels + c, n);
        }
      }
    }
  });
  for (int64_t t = 0; t < taps; ++t)
    for (int64_t c = 0; c < channels; ++c) {
      T total = 0;
      for (int64_t k = 0; k < chunks; ++k) total += partial.data[k * size + t * channels + c];
      dw[weight_offset(g, w, t) + c * w.strides[0]] = total;
    }
}

}  // namespace
}  // namespace pydl
