// The transforms of Winograd convolution along one axis, and over a tile. Internal linkage: compiled per instruction set.
//
// Forward:          Y  = A' [(G g G') * (B' d B)] A      d: (M+K-1)^2 inputs, g: KxK, Y: M x M outputs, * by element
// Weight gradient:  dg = G' [(A dY A') * (B' d B)] G     (the same map, transposed in g)
// They interpolate polynomials at the points 0, +-a, +-b and infinity (0, +-1, infinity for K = 3, M = 2). Row p of B'
// holds the coefficients of the product of (x - q) over the other points, G the powers of p over the product of (p - q), A
// the powers of p.
//
// Accuracy. The points decide how far the rounding of transformed values is amplified. Relative L2 error against float64,
// normal data, 64 channels, forward and weight gradient alike: (a, b) = (1, 2), the textbook's: 1.7e-6; (5/8, 3/2): 7.7e-7, the
// best of those tried ((1/2, 1) 1.7e-6, (3/4, 3/2) 8.4e-7, (2/3, 3/2) 7.7e-7, (3/5, 8/5) 7.9e-7); M = 2: 2e-7; K = 5, M = 2
// 0.9e-6 to 1.7e-6; the sum in its usual order: 1.3e-7. The powers and products of 5/8 and 3/2 in A and B are exact in binary; G
// rounds. With more channels the error grows as that of any float32 sum. The error is relative to the largest values of the tile,
// not to each element: an output near zero by cancellation has fewer correct digits. Inputs beyond 1e36 may overflow on the way,
// and a NaN or an infinity reaches (as NaN) every output of each tile whose inputs contain it.
#pragma once
#include "cpu/gemm_outer.h"

namespace pydl {
namespace {

using Lane = Vec<float>;

template <int Outputs, int Taps>
struct Winograd;

// What all maps of six points share: 4 outputs of 3 taps, or 2 of 5.
struct SixPoints {
  static constexpr int64_t size = 6;
  static constexpr double a = 0.625, b = 1.5, a2 = a * a, b2 = b * b;
  static constexpr double n0 = 1 / (a2 * b2), na = 1 / (2 * a2 * (a2 - b2)), nb = 1 / (2 * b2 * (b2 - a2));

  static PYDL_INLINE void input(const Lane* d, Lane* t) {  // B'
    const Lane ea = fma(d[2], Lane::splat(-b2), d[4]), oa = fma(d[1], Lane::splat(-b2), d[3]);
    const Lane eb = fma(d[2], Lane::splat(-a2), d[4]), ob = fma(d[1], Lane::splat(-a2), d[3]);
    t[0] = fma(d[0], Lane::splat(a2 * b2), fma(d[2], Lane::splat(-(a2 + b2)), d[4]));
    t[1] = fma(oa, Lane::splat(a), ea);
    t[2] = fma(oa, Lane::splat(-a), ea);
    t[3] = fma(ob, Lane::splat(b), eb);
    t[4] = fma(ob, Lane::splat(-b), eb);
    t[5] = fma(d[1], Lane::splat(a2 * b2), fma(d[3], Lane::splat(-(a2 + b2)), d[5]));
  }
};

template <>
struct Winograd<4, 3> : SixPoints {
  static constexpr int64_t outputs = 4, taps = 3;

  static PYDL_INLINE void weight(const Lane* g, Lane* u) {  // G
    const Lane ea = fma(g[2], Lane::splat(a2), g[0]) * na, oa = g[1] * (a * na);
    const Lane eb = fma(g[2], Lane::splat(b2), g[0]) * nb, ob = g[1] * (b * nb);
    u[0] = g[0] * n0;
    u[1] = ea + oa;
    u[2] = ea - oa;
    u[3] = eb + ob;
    u[4] = eb - ob;
    u[5] = g[2];
  }
  static PYDL_INLINE void output(const Lane* m, Lane* y) {  // A'
    const Lane ea = m[1] + m[2], oa = m[1] - m[2], eb = m[3] + m[4], ob = m[3] - m[4];
    y[0] = m[0] + ea + eb;
    y[1] = fma(oa, Lane::splat(a), ob * b);
    y[2] = fma(ea, Lane::splat(a2), eb * b2);
    y[3] = fma(oa, Lane::splat(a * a2), fma(ob, Lane::splat(b * b2), m[5]));
  }
  static PYDL_INLINE void gradient(const Lane* y, Lane* t) {  // A
    const Lane ea = fma(y[2], Lane::splat(a2), y[0]), oa = fma(y[3], Lane::splat(a * a2), y[1] * a);
    const Lane eb = fma(y[2], Lane::splat(b2), y[0]), ob = fma(y[3], Lane::splat(b * b2), y[1] * b);
    t[0] = y[0];
    t[1] = ea + oa;
    t[2] = ea - oa;
    t[3] = eb + ob;
    t[4] = eb - ob;
    t[5] = y[3];
  }
  static PYDL_INLINE void weight_gradient(const Lane* u, Lane* g) {  // G'
    const Lane ea = u[1] + u[2], oa = u[1] - u[2], eb = u[3] + u[4], ob = u[3] - u[4];
    g[0] = fma(u[0], Lane::splat(n0), fma(ea, Lane::splat(na), eb * nb));
    g[1] = fma(oa, Lane::splat(a * na), ob * (b * nb));
    g[2] = fma(ea, Lane::splat(a2 * na), fma(eb, Lane::splat(b2 * nb), u[5]));
  }
};

template <>
struct Winograd<2, 5> : SixPoints {
  static constexpr int64_t outputs = 2, taps = 5;

  static PYDL_INLINE void weight(const Lane* g, Lane* u) {
    const Lane ea = fma(fma(g[4], Lane::splat(a2), g[2]), Lane::splat(a2), g[0]) * na;
    const Lane eb = fma(fma(g[4], Lane::splat(b2), g[2]), Lane::splat(b2), g[0]) * nb;
    const Lane oa = fma(g[3], Lane::splat(a2), g[1]) * (a * na), ob = fma(g[3], Lane::splat(b2), g[1]) * (b * nb);
    u[0] = g[0] * n0;
    u[1] = ea + oa;
    u[2] = ea - oa;
    u[3] = eb + ob;
    u[4] = eb - ob;
    u[5] = g[4];
  }
  static PYDL_INLINE void output(const Lane* m, Lane* y) {
    y[0] = m[0] + (m[1] + m[2]) + (m[3] + m[4]);
    y[1] = fma(m[1] - m[2], Lane::splat(a), fma(m[3] - m[4], Lane::splat(b), m[5]));
  }
  static PYDL_INLINE void gradient(const Lane* y, Lane* t) {
    t[0] = y[0];
    t[1] = fma(y[1], Lane::splat(a), y[0]);
    t[2] = fma(y[1], Lane::splat(-a), y[0]);
    t[3] = fma(y[1], Lane::splat(b), y[0]);
    t[4] = fma(y[1], Lane::splat(-b), y[0]);
    t[5] = y[1];
  }
  static PYDL_INLINE void weight_gradient(const Lane* u, Lane* g) {
    const Lane ea = (u[1] + u[2]) * na, oa = (u[1] - u[2]) * (a * na);
    const Lane eb = (u[3] + u[4]) * nb, ob = (u[3] - u[4]) * (b * nb);
    g[0] = fma(u[0], Lane::splat(n0), ea + eb);
    g[1] = oa + ob;
    g[2] = fma(ea, Lane::splat(a2), eb * b2);
    g[3] = fma(oa, Lane::splat(a2), ob * b2);
    g[4] = fma(ea, Lane::splat(a2 * a2), fma(eb, Lane::splat(b2 * b2), u[5]));
  }
};

template <>
struct Winograd<2, 3> {
  static constexpr int64_t outputs = 2, taps = 3, size = 4;

  static PYDL_INLINE void input(const Lane* d, Lane* t) {
    t[0] = d[0] - d[2];
    t[1] = d[2] + d[1];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
  }
  static PYDL_INLINE void weight(const Lane* g, Lane* u) {
    const Lane e = (g[0] + g[2]) * 0.5, o = g[1] * 0.5;
    u[0] = g[0];
    u[1] = e + o;
    u[2] = e - o;
    u[3] = g[2];
  }
  static PYDL_INLINE void output(const Lane* m, Lane* y) {
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] + m[3];
  }
  static PYDL_INLINE void gradient(const Lane* y, Lane* t) {
    t[0] = y[0];
    t[1] = y[0] + y[1];
    t[2] = y[0] - y[1];
    t[3] = y[1];
  }
  static PYDL_INLINE void weight_gradient(const Lane* u, Lane* g) {
    const Lane e = (u[1] + u[2]) * 0.5;
    g[0] = u[0] + e;
    g[1] = (u[1] - u[2]) * 0.5;
    g[2] = e + u[3];
  }
};

// One axis after the other: to = T from T', where `map` applies T to a column of From values giving To.
template <int64_t From, int64_t To, class Map>
PYDL_INLINE void transform_square(const Lane (&from)[From][From], Lane (&to)[To][To], const Map& map) {
  Lane half[To][From];
#pragma GCC unroll 6
  for (int64_t j = 0; j < From; ++j) {
    Lane column[From], result[To];
#pragma GCC unroll 6
    for (int64_t i = 0; i < From; ++i) column[i] = from[i][j];
    map(column, result);
#pragma GCC unroll 6
    for (int64_t i = 0; i < To; ++i) half[i][j] = result[i];
  }
#pragma GCC unroll 6
  for (int64_t i = 0; i < To; ++i) map(half[i], to[i]);
}

// Transforms a From x From patch of `channels` channels into Size^2 values per channel; value p goes to to[p * position].
// `to` is written in whole vectors.
template <int64_t From, int64_t Size, class Map>
PYDL_INLINE void transform_patch(const float* from, int64_t row, int64_t column, int64_t channels, float* to, int64_t position,
                                 const Map& map) {
  constexpr int64_t L = Lane::lanes;
  const auto one = [&](int64_t c, const auto& load) {
    Lane patch[From][From], result[Size][Size];
#pragma GCC unroll 6
    for (int64_t i = 0; i < From; ++i)
#pragma GCC unroll 6
      for (int64_t j = 0; j < From; ++j) patch[i][j] = load(from + i * row + j * column + c);
    transform_square(patch, result, map);
#pragma GCC unroll 6
    for (int64_t i = 0; i < Size; ++i)
#pragma GCC unroll 6
      for (int64_t j = 0; j < Size; ++j) result[i][j].store(to + (i * Size + j) * position + c);
  };
  int64_t c = 0;
  for (; c + L <= channels; c += L) one(c, [](const float* p) { return Lane::load(p); });
  if (c < channels) one(c, [n = channels - c](const float* p) { return Lane::load_n(p, n); });
}

// How an image [N, H, W, C] is cut into tiles of `step` x `step` positions, each seen with `size` x `size` values from
// `offset` before it; tiles are numbered along the rows, image after image.
struct Tiling {
  int64_t height, width, channels;  // of the image
  int64_t rows, columns;            // tiles of one image
  int64_t step, offset[2];

  int64_t per_image() const { return rows * columns; }
};

struct TilePlace {
  int64_t image, row, column;
  TilePlace(const Tiling& t, int64_t tile)
      : image(tile / t.per_image()), row(tile % t.per_image() / t.columns), column(tile % t.columns) {}
  PYDL_INLINE void advance(const Tiling& t) {
    if (++column < t.columns) return;
    column = 0;
    if (++row < t.rows) return;
    row = 0;
    ++image;
  }
};

// The patch of a tile: in the image itself, or in `border` (size^2 x channels) with zeros where it lies outside.
struct Patch {
  const float* data;
  int64_t row, column;  // strides
};
template <int64_t Size>
PYDL_INLINE Patch find_patch(const Tiling& t, const float* image, const TilePlace& at, int64_t first_channel, int64_t channels,
                             float* border) {
  const int64_t i0 = at.row * t.step - t.offset[0], j0 = at.column * t.step - t.offset[1];
  const int64_t row = t.width * t.channels;
  const float* base = image + at.image * t.height * row + first_channel;
  if (i0 >= 0 && j0 >= 0 && i0 + Size <= t.height && j0 + Size <= t.width)
    return {base + i0 * row + j0 * t.channels, row, t.channels};
  const auto bytes = static_cast<size_t>(channels) * sizeof(float);
  for (int64_t i = 0; i < Size; ++i)
    for (int64_t j = 0; j < Size; ++j) {
      float* to = border + (i * Size + j) * channels;
      if (i0 + i >= 0 && i0 + i < t.height && j0 + j >= 0 && j0 + j < t.width)
        std::memcpy(to, base + (i0 + i) * row + (j0 + j) * t.channels, bytes);
      else
        std::memset(to, 0, bytes);
    }
  return {border, Size * channels, channels};
}

// The forward tiling: patches of W::size that begin W::outputs apart.
template <class W>
Tiling input_tiling(int64_t height, int64_t width, int64_t channels, int64_t out_height, int64_t out_width, const int64_t* pad) {
  return {height, width, channels, ceil_div(out_height, W::outputs), ceil_div(out_width, W::outputs), W::outputs,
          {pad[0], pad[1]}};
}

}  // namespace
}  // namespace pydl
