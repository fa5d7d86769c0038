// Depthwise convolution: each channel with its own filter. Vectorised over the channels, which are adjacent in memory, with
// several neighbouring pixels at a time, so that a weight is loaded once for all of them.
#pragma once
#include <type_traits>

#include "cpu/conv_gather.h"

namespace pydl {
namespace {

constexpr int64_t kPixels = 4;  // at a time: fewer load the weights more often, more read too many places at once

inline bool is_depthwise(const ConvArgs& a) {
  return a.groups > 1 && a.groups == a.channels_in && a.channels_in == a.channels_out;
}

// Where the result of position q of a gather goes: the rows of the forward pass, one phase of the data gradient.
template <class T>
struct Target {
  T* data;
  int64_t size[3], start[3], step[3];

  T* row(int64_t n, int64_t q0, int64_t q1, int64_t channels) const {
    const int64_t line = (n * size[0] + start[0] + q0 * step[0]) * size[1] + start[1] + q1 * step[1];
    return data + (line * size[2] + start[2]) * channels;
  }
};

// The taps' weights as [tap][channel].
template <class T>
void transpose_taps(const Gather& g, const Array& w, const T* weight, T* to) {
  for (int64_t t = 0; t < g.tap_count(); ++t) {
    const int64_t offset = weight_offset(g, w, t);
    for (int64_t c = 0; c < g.channels; ++c) to[t * g.channels + c] = weight[offset + c * w.strides[0]];
  }
}

// The positions [lo, hi) of a row that see the source through each of the taps [first, last] of the last axis.
struct Span {
  int64_t lo, hi;
  Span(const Gather& g, int64_t first, int64_t last) : lo(0), hi(0) {
    if (g.tap_count() == 0) return;
    const int64_t step = g.step[2], begin = -(g.start[2] + g.offset[2][first]);
    const int64_t end = g.source[2] - g.start[2] - g.offset[2][last];
    lo = min64(max64(0, ceil_div(max64(begin, 0), step)), g.rows[2]);
    hi = max64(lo, min64(g.rows[2], ceil_div(max64(end, 0), step)));
  }
};

// The source lines that row (n, q0, q1) sees, and the number of the first tap on each; returns how many.
template <class T>
int64_t visible_lines(const Gather& g, const T* source, int64_t n, int64_t q0, int64_t q1, const T** lines, int64_t* taps) {
  int64_t count = 0;
  for (int64_t t0 = 0; t0 < g.taps[0]; ++t0)
    for (int64_t t1 = 0; t1 < g.taps[1]; ++t1) {
      const int64_t p0 = g.start[0] + q0 * g.step[0] + g.offset[0][t0], p1 = g.start[1] + q1 * g.step[1] + g.offset[1][t1];
      if (!inside(p0, g.source[0]) || !inside(p1, g.source[1])) continue;
      lines[count] = source + ((n * g.source[0] + p0) * g.source[1] + p1) * g.source[2] * g.channels;
      taps[count++] = (t0 * g.taps[1] + t1) * g.taps[2];
    }
  return count;
}

// What the next row will see as new: `lines` lines, `pitch` apart. Asked for early: several lines at once are more streams than
// the hardware follows.
template <class T>
struct NewLines {
  const T* at;
  int64_t lines, pitch;
};

// P pixels, `pitch` apart, that see the sources from[t] + shift (of the first one) through the weights taps[t], t < count.
template <int64_t P, class T>
PYDL_INLINE void depthwise_pixels(const T* const* from, int64_t shift, const T* const* taps, int64_t count, int64_t pitch,
                                  int64_t channels, NewLines<T> ahead, const Finish<T>& finish, T* to, int64_t to_pitch) {
  using V = Vec<T>;
  const bool plain = !finish.scale && !finish.residual && !finish.relu;
  const T* bias = finish.scale ? nullptr : finish.bias;  // comes first where nothing is scaled
  Finish<T> last = finish;
  if (!finish.scale) last.bias = nullptr;
  const auto vector = [&](int64_t c, auto lanes) __attribute__((always_inline)) {
    const int64_t n = lanes;
    for (int64_t l = 0; l < ahead.lines; ++l)
      for (int64_t k = 0; k < pitch; k += channels)
#pragma GCC unroll 8
        for (int64_t i = 0; i < P; ++i) __builtin_prefetch(ahead.at + l * ahead.pitch + k + i * pitch + c);
    V sum[P];
#pragma GCC unroll 8
    for (int64_t i = 0; i < P; ++i) sum[i] = bias ? V::load_n(bias + c, n) : V::zero();
    for (int64_t t = 0; t < count; ++t) {
      const V w = V::load_n(taps[t] + c, n);
      const T* x = from[t] + shift + c;
#pragma GCC unroll 8
      for (int64_t i = 0; i < P; ++i) sum[i] = fma(V::load_n(x + i * pitch, n), w, sum[i]);
    }
    T* y = to + c;
    if (plain)
#pragma GCC unroll 8
      for (int64_t i = 0; i < P; ++i) sum[i].store_n(y + i * to_pitch, n);
    else
      for (int64_t i = 0; i < P; ++i) last(sum[i], y + i * to_pitch, c, n).store_n(y + i * to_pitch, n);
  };
  int64_t c = 0;
  for (; c + V::lanes <= channels; c += V::lanes) vector(c, std::integral_constant<int64_t, V::lanes>());
  if (c < channels) vector(c, channels - c);
}

template <class T>
void depthwise_rows(const Gather& g, const T* source, const Array& w, const T* weight, const Finish<T>& finish,
                    const Target<T>& target) {
  const int64_t channels = g.channels, width = g.rows[2], lines = g.taps[0] * g.taps[1], all = g.tap_count();
  Scratch<T> wt(all * channels);
  transpose_taps(g, w, weight, wt.data);
  const Span inner(g, 0, g.taps[2] - 1);
  const bool few = g.step[2] > 1 && all <= 9;  // little is done for what is read: two pixels at a time, almost as memory lies
  const int64_t rows = g.batch * g.rows[0] * g.rows[1], pitch = g.step[2] * channels, to_pitch = target.step[2] * channels;
  parallel_for(rows, max64(1, 524288 / (all * channels * width + 1)), [&](int64_t begin, int64_t end) {
    Scratch<const T*> memory(lines + 2 * all);
    Scratch<int64_t> first(lines);
    const T **line = memory.data, **from = line + lines, **taps = from + all;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t q1 = r % g.rows[1], q0 = r / g.rows[1] % g.rows[0], n = r / g.rows[1] / g.rows[0];
      const int64_t seen = visible_lines(g, source, n, q0, q1, line, first.data);
      T* to = target.row(n, q0, q1, channels);
      const auto look = [&](int64_t q) {  // through the taps that see the source from position q; returns how many
        int64_t count = 0;
        for (int64_t k = 0; k < seen; ++k)
          for (int64_t t = 0; t < g.taps[2]; ++t) {
            const int64_t p = g.start[2] + q * g.step[2] + g.offset[2][t];
            if (!inside(p, g.source[2])) continue;
            from[count] = line[k] + p * channels;
            taps[count++] = wt.data + (first.data[k] + t) * channels;
          }
        return count;
      };
      const auto alone = [&](int64_t lo, int64_t hi) {
        for (int64_t q = lo; q < hi; ++q)
          depthwise_pixels<1, T>(from, 0, taps, look(q), pitch, channels, {}, finish, to + q * to_pitch, to_pitch);
      };
      if (inner.hi - inner.lo < kPixels) {
        alone(0, width);
        continue;
      }
      alone(0, inner.lo);
      const int64_t count = look(inner.lo);  // once for all of them: pointers just stored are slow to load
      const int64_t line_pitch = g.source[2] * channels;
      const NewLines<T> ahead{count > 0 ? from[count - 1] + line_pitch : source, count > 0 ? g.step[1] : 0, line_pitch};
      const auto walk = [&](auto pixels) {
        constexpr int64_t P = decltype(pixels)::value;
        for (int64_t q = inner.lo; q < inner.hi; q += P) {
          const int64_t at = min64(q, inner.hi - P);  // the last ones are partly done again
          const int64_t shift = (at - inner.lo) * pitch;
          depthwise_pixels<P>(from, shift, taps, count, pitch, channels, {ahead.at + shift, ahead.lines, ahead.pitch}, finish,
                              to + at * to_pitch, to_pitch);
        }
      };
      few ? walk(std::integral_constant<int64_t, 2>()) : walk(std::integral_constant<int64_t, kPixels>());
      alone(inner.hi, width);
    }
  });
}

// sums[tap][channel] += what N neighbouring taps of one source line see from the positions [lo, hi) of a row.
template <int64_t N, class T>
PYDL_INLINE void depthwise_taps(const Gather& g, const T* line, const T* dy, int64_t t, int64_t lo, int64_t hi, T* sums) {
  using V = Vec<T>;
  if (lo >= hi) return;
  const int64_t channels = g.channels, pitch = g.step[2] * channels;
  const T* from[N];
  for (int64_t i = 0; i < N; ++i) from[i] = line + (g.start[2] + lo * g.step[2] + g.offset[2][t + i]) * channels;
  for (int64_t c = 0; c < channels; c += V::lanes) {
    const int64_t n = min64(channels - c, V::lanes);
    V sum[N];
#pragma GCC unroll 8
    for (int64_t i = 0; i < N; ++i) sum[i] = V::load_n(sums + i * channels + c, n);
    for (int64_t q = lo; q < hi; ++q) {
      const V d = V::load_n(dy + q * channels + c, n);
#pragma GCC unroll 8
      for (int64_t i = 0; i < N; ++i) sum[i] = fma(V::load_n(from[i] + (q - lo) * pitch + c, n), d, sum[i]);
    }
#pragma GCC unroll 8
    for (int64_t i = 0; i < N; ++i) sum[i].store_n(sums + i * channels + c, n);
  }
}

// All positions of a row for N taps at once where all of them see the source, the borders tap by tap.
template <int64_t N, class T>
PYDL_INLINE void depthwise_tap_row(const Gather& g, const T* line, const T* dy, int64_t t, T* sums) {
  const Span inner(g, t, t + N - 1);
  const bool any = inner.lo < inner.hi;
  if (any) depthwise_taps<N>(g, line, dy, t, inner.lo, inner.hi, sums);
  if constexpr (N > 1)
    for (int64_t i = 0; i < N; ++i) {
      const Span own(g, t + i, t + i);
      T* to = sums + i * g.channels;
      depthwise_taps<1>(g, line, dy, t + i, own.lo, any ? inner.lo : own.hi, to);
      if (any) depthwise_taps<1>(g, line, dy, t + i, inner.hi, own.hi, to);
    }
}

// Partial sums over fixed chunks of rows, added in order.
template <class T>
void depthwise_weight(const Gather& g, const T* source, const T* dy, const Array& w, T* dw) {
  const int64_t taps = g.tap_count(), lines = g.taps[0] * g.taps[1], channels = g.channels;
  const int64_t rows = g.batch * g.rows[0] * g.rows[1];
  const int64_t chunk = max64(1, ceil_div(rows, 32)), chunks = max64(1, ceil_div(rows, chunk)), size = taps * channels;
  Scratch<T> partial(chunks * size);
  std::memset(partial.data, 0, static_cast<size_t>(chunks * size) * sizeof(T));
  parallel_for(rows, chunk, [&](int64_t begin, int64_t end) {
    Scratch<const T*> line(lines);
    Scratch<int64_t> first(lines);
    for (int64_t r = begin; r < end; ++r) {
      const int64_t q1 = r % g.rows[1], q0 = r / g.rows[1] % g.rows[0], n = r / g.rows[1] / g.rows[0];
      const int64_t seen = visible_lines(g, source, n, q0, q1, line.data, first.data);
      const T* grad = dy + r * g.rows[2] * channels;
      for (int64_t k = 0; k < seen; ++k) {
        T* sums = partial.data + begin / chunk * size + first.data[k] * channels;
        int64_t t = 0;
        for (; t + 5 <= g.taps[2]; t += 5) depthwise_tap_row<5>(g, line.data[k], grad, t, sums + t * channels);
        for (; t + 3 <= g.taps[2]; t += 3) depthwise_tap_row<3>(g, line.data[k], grad, t, sums + t * channels);
        for (; t < g.taps[2]; ++t) depthwise_tap_row<1>(g, line.data[k], grad, t, sums + t * channels);
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
