// Winograd convolution, weight gradient. Per position p of a tile: sums[p] (O x C) = gradients[p]' (O x tiles) inputs[p] (tiles
// x C); both factors are used as their transforms leave them, without packing (but for tiles).
//
// Two schedules. Few channels: each of a fixed number of pieces of the tiles has its own sums, a block of tiles at a time goes
// through transform and product within the cache of one core, and the pieces' sums are added in order. Many channels: a large
// block of tiles is transformed by all threads, then each thread computes the sums of some outputs and channels.
#include "cpu/winograd.h"

#include "cpu/winograd_choice.h"
#include "cpu/winograd_tile.h"

namespace pydl {
namespace {

struct Gradient {
  int64_t batch, channels, outputs;
  int64_t in[2], out[2], pad[2];
  const float *x, *dy;
  float* dw;
  int64_t w_out, w_in, w_tap[2];
};

// Pitches keep the rows of a panel in different cache sets; whole panels may be read beyond the last channel.
template <class W>
struct GradientLayout {
  static constexpr int64_t positions = W::size * W::size, rows = Tile<float>::rows, columns = Tile<float>::columns;
  int64_t tiles, pitch_x, pitch_dy;

  GradientLayout(const Gradient& g, int64_t t)
      : tiles(t), pitch_x(ceil_div(g.channels, columns) * columns + 16), pitch_dy(ceil_div(g.outputs, 16) * 16 + 16) {}
  int64_t inputs() const { return positions * tiles * pitch_x; }
  int64_t gradients() const { return positions * tiles * pitch_dy; }
};

// Tiles [first, first + count) become rows [row, row + count) of inputs and gradients. Pairs of tiles, if the format is that, take
// the place of the first of the two (`row` is even then).
template <class W, class Format>
void transform_tiles(const Gradient& g, const GradientLayout<W>& l, const Tiling& tx, const Tiling& ty, int64_t first,
                     int64_t count, int64_t row, float* inputs, float* gradients, float* border) {
  TilePlace at(tx, first);
  for (int64_t i = row; i < row + count; ++i, at.advance(tx)) {
    const Patch p = find_patch<W::size>(tx, g.x, at, 0, g.channels, border);
    transform_patch<W::size, W::size>(p.data, p.row, p.column, g.channels, inputs + i * l.pitch_x, l.tiles * l.pitch_x,
                                      [](const Lane* d, Lane* r) { W::input(d, r); });
    const Patch q = find_patch<W::outputs>(ty, g.dy, at, 0, g.outputs, border);
    transform_patch<W::outputs, W::size>(q.data, q.row, q.column, g.outputs, gradients + i * l.pitch_dy, l.tiles * l.pitch_dy,
                                         [](const Lane* d, Lane* r) { W::gradient(d, r); });
  }
  if constexpr (Format::step == 2)
    for (int64_t p = 0; p < l.positions; ++p) {
      float *x = inputs + (p * l.tiles + row) * l.pitch_x, *dy = gradients + (p * l.tiles + row) * l.pitch_dy;
      Format::pack_columns(x, l.pitch_x, count, x, 2 * l.pitch_x);
      Format::pack_columns(dy, l.pitch_dy, count, dy, 2 * l.pitch_dy);
    }
}

// sums[p] of outputs [o0, o0 + outputs) and channels [c0, c0 + channels) over `count` tiles.
template <class W, class Format>
void multiply_transformed(const GradientLayout<W>& l, const float* inputs, const float* gradients, int64_t count, int64_t o0,
                          int64_t outputs, int64_t c0, int64_t channels, bool accumulate, float* sums, int64_t pitch,
                          int64_t position) {
  using Y = GradientLayout<W>;
  [[maybe_unused]] const int64_t panel = outer_panel(outputs);
  for (int64_t p = 0; p < Y::positions; ++p) {
    const float *a = gradients + p * l.tiles * l.pitch_dy + o0, *b = inputs + p * l.tiles * l.pitch_x + c0;
    const Store<float> store{sums + p * position, pitch, accumulate};
    constexpr int64_t S = Format::step;
    if constexpr (Format::tiled)
      outer_block_packed<Format>(a, l.pitch_dy, b, l.pitch_x, outputs, channels, count, store);
    else
      outer_block<float, Format>(a, S * l.pitch_dy, b, S * l.pitch_x, panel, outputs, channels, ceil_div(count, S), store);
  }
}

// The T x T taps, as [tap][channel], of n channels of one output to their places.
template <int64_t T>
PYDL_INLINE void scatter_taps(const Gradient& g, const float* taps, int64_t n, float* dw) {
  constexpr int64_t L = Lane::lanes;
  if (g.w_tap[0] == T && g.w_tap[1] == 1) {
    for (int64_t t = 0; t < T * T; t += L) transpose_square(taps + t * L, L, min64(T * T - t, L), n, dw + t, g.w_in, false);
    return;
  }
  for (int64_t t = 0; t < T * T; ++t)
    for (int64_t c = 0; c < n; ++c) dw[c * g.w_in + t / T * g.w_tap[0] + t % T * g.w_tap[1]] = taps[t * L + c];
}

// From the sums of one output, channels [c0, c0 + channels), to its taps. Sums of several pieces (`piece` apart) are added first.
template <class W>
void transform_sums(const Gradient& g, const float* sums, int64_t position, int64_t pieces, int64_t piece, int64_t o, int64_t c0,
                    int64_t channels) {
  constexpr int64_t L = Lane::lanes, S = W::size, T = W::taps;
  alignas(64) float taps[T * T * L];
  for (int64_t c = 0; c < channels; c += L) {
    Lane u[S][S], result[T][T];
#pragma GCC unroll 6
    for (int64_t i = 0; i < S; ++i)
#pragma GCC unroll 6
      for (int64_t j = 0; j < S; ++j) u[i][j] = Lane::load(sums + (i * S + j) * position + c);
    for (int64_t k = 1; k < pieces; ++k)
#pragma GCC unroll 6
      for (int64_t i = 0; i < S; ++i)
#pragma GCC unroll 6
        for (int64_t j = 0; j < S; ++j) u[i][j] += Lane::load(sums + k * piece + (i * S + j) * position + c);
    transform_square(u, result, [](const Lane* d, Lane* r) { W::weight_gradient(d, r); });
    for (int64_t t = 0; t < T * T; ++t) result[t / T][t % T].store(taps + t * L);
    scatter_taps<T>(g, taps, min64(L, channels - c), g.dw + o * g.w_out + (c0 + c) * g.w_in);
  }
}

template <class W>
Tiling gradient_tiling(const Gradient& g, const Tiling& tx) {
  return {g.out[0], g.out[1], g.outputs, tx.rows, tx.columns, W::outputs, {0, 0}};
}

template <class W, class Format>
void by_pieces(const Gradient& g, const Tiling& tx, int64_t tiles, int64_t block, int64_t pieces) {
  using Y = GradientLayout<W>;
  const Tiling ty = gradient_tiling<W>(g, tx);
  const Y l(g, block);
  const int64_t pitch = l.pitch_x, position = g.outputs * pitch, piece = Y::positions * position;
  const int64_t per_piece = ceil_div(ceil_div(tiles, block), pieces) * block;
  pieces = ceil_div(tiles, per_piece);
  Scratch<float> sums(pieces * piece);
  parallel_for(tiles, per_piece, [&](int64_t begin, int64_t end) {
    [[maybe_unused]] const Registers<Format> registers{};
    Scratch<float> inputs(l.inputs()), gradients(l.gradients()), border(Y::positions * max64(g.channels, g.outputs));
    for (int64_t t = begin; t < end; t += block) {
      const int64_t count = min64(block, end - t);
      transform_tiles<W, Format>(g, l, tx, ty, t, count, 0, inputs.data, gradients.data, border.data);
      multiply_transformed<W, Format>(l, inputs.data, gradients.data, count, 0, g.outputs, 0, g.channels, t > begin,
                                      sums.data + begin / per_piece * piece, pitch, position);
    }
  });
  parallel_for(g.outputs, 4, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      transform_sums<W>(g, sums.data + o * pitch, position, pieces, piece, o, 0, g.channels);
  });
}

template <class W, class Format>
void by_channels(const Gradient& g, const Tiling& tx, int64_t tiles, int64_t block) {
  using Y = GradientLayout<W>;
  const Tiling ty = gradient_tiling<W>(g, tx);
  const Y l(g, block);
  // An item of work: at most 8 panels of outputs and 4 of channels, all of about the same size.
  const int64_t o_panels = ceil_div(g.outputs, Y::rows), per_o = ceil_div(o_panels, ceil_div(o_panels, 8)) * Y::rows;
  const int64_t c_panels = ceil_div(g.channels, Y::columns), per_c = ceil_div(c_panels, ceil_div(c_panels, 4)) * Y::columns;
  const int64_t o_items = ceil_div(g.outputs, per_o), c_items = ceil_div(g.channels, per_c);
  const int64_t pitch = per_c + 16, position = per_o * pitch, item = Y::positions * position;
  const bool once = tiles <= block;  // then sums need not outlive their item
  Scratch<float> inputs(l.inputs()), gradients(l.gradients()), kept(once ? 0 : o_items * c_items * item);
  for (int64_t first = 0; first < tiles; first += block) {
    const int64_t count = min64(block, tiles - first);
    parallel_for(count, 8, [&](int64_t begin, int64_t end) {
      Scratch<float> border(Y::positions * max64(g.channels, g.outputs));
      transform_tiles<W, Format>(g, l, tx, ty, first + begin, end - begin, begin, inputs.data, gradients.data, border.data);
    });
    parallel_for(o_items * c_items, 1, [&](int64_t begin, int64_t end) {
      [[maybe_unused]] const Registers<Format> registers{};
      Scratch<float> own(once ? item : 0);
      for (int64_t k = begin; k < end; ++k) {
        const int64_t o0 = k / c_items * per_o, c0 = k % c_items * per_c;
        const int64_t outputs = min64(g.outputs - o0, per_o), channels = min64(g.channels - c0, per_c);
        float* sums = once ? own.data : kept.data + k * item;
        multiply_transformed<W, Format>(l, inputs.data, gradients.data, count, o0, outputs, c0, channels, first > 0, sums, pitch,
                                        position);
        if (first + count < tiles) continue;
        for (int64_t o = 0; o < outputs; ++o)
          transform_sums<W>(g, sums + o * pitch, position, 1, 0, o0 + o, c0, channels);
      }
    });
  }
}

void clear(const Gradient& g, int64_t taps) {
  for (int64_t o = 0; o < g.outputs; ++o)
    for (int64_t c = 0; c < g.channels; ++c)
      for (int64_t t = 0; t < taps * taps; ++t)
        g.dw[o * g.w_out + c * g.w_in + t / taps * g.w_tap[0] + t % taps * g.w_tap[1]] = 0;
}

template <class W, class Format>
void weight_gradient_tiled(const Gradient& g) {
  const Tiling tx = input_tiling<W>(g.in[0], g.in[1], g.channels, g.out[0], g.out[1], g.pad);
  const int64_t tiles = g.batch * tx.per_image();
  if (tiles == 0) return clear(g, W::taps);
  constexpr int64_t positions = W::size * W::size;
  // Measured: as for the forward pass, small blocks where sums are few; where they are many, a copy for each piece costs more
  // than sharing them.
  constexpr int64_t kMostSums = int64_t{1} << 23, kFewSums = 36 * 64 * 64;
  const int64_t sums = positions * g.channels * g.outputs, pieces = min64(16, kMostSums / max64(1, sums));
  if (pieces >= 8)
    by_pieces<W, Format>(g, tx, tiles, sums <= kFewSums ? 32 : Format::tiled ? 3 * kTileDepth : 112, pieces);
  else
    by_channels<W, Format>(g, tx, tiles, min64(256, tiles));
}

template <class W>
void weight_gradient_in_format(const Gradient& g) {
  const int64_t tiles = g.batch * ceil_div(g.out[0], W::outputs) * ceil_div(g.out[1], W::outputs);
  with_winograd_format<W::outputs, W::taps>(g.outputs, g.channels, tiles,
                                            [&](auto format) { weight_gradient_tiled<W, decltype(format)>(g); });
}

void weight_gradient(const ConvArgs& a, int tile) {
  const int64_t* s = a.weight.strides;
  const Gradient g{a.batch, a.channels_in, a.channels_out, {a.in[1], a.in[2]}, {a.out[1], a.out[2]}, {a.pad[1], a.pad[2]},
                   a.x.as<float>(), a.y.as<float>(), a.weight.as<float>(), s[0], s[1], {s[3], s[4]}};
  if (a.kernel[1] == 5) return weight_gradient_in_format<Winograd<2, 5>>(g);
  if (tile == 4) return weight_gradient_in_format<Winograd<4, 3>>(g);
  weight_gradient_in_format<Winograd<2, 3>>(g);
}

PYDL_REGISTER(winograd_weight_gradient, weight_gradient);

}  // namespace
}  // namespace pydl
