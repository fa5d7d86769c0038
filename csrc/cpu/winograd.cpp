// Winograd convolution, forward and data gradient (which is the forward of the output's gradient with the filter turned
// around). Per position p of a tile: products[p] = inputs[p] (tiles x C) weights[p] (C x O), W::size^2 matrix products.
//
// Two schedules. Many tiles: the weights are transformed once; each thread takes a block of tiles through all three stages, so
// that its transformed inputs and products stay in the cache of one core. Many channels on few tiles: the weights are larger than
// everything else, so inputs are transformed once, and each thread takes a panel of output channels through its stages: its
// weights are used while they are in cache, and never written to memory.
#include "cpu/winograd.h"

#include "cpu/conv_gather.h"
#include "cpu/winograd_choice.h"
#include "cpu/winograd_tile.h"

namespace pydl {
namespace {

// y[n, i, j, o] = sum over u, v, c of x[n, i + u - pad[0], j + v - pad[1], c] w[o, c, u, v]
struct Correlation {
  int64_t batch, channels, outputs;
  int64_t in[2], out[2], pad[2];  // a padding may be negative
  const float* x;
  float* y;
  const float* w;
  int64_t w_out, w_in, w_tap[2];  // strides
  Finish<float> finish;
};

Correlation forward_of(const ConvArgs& a) {
  const int64_t* s = a.weight.strides;
  return {a.batch, a.channels_in, a.channels_out, {a.in[1], a.in[2]}, {a.out[1], a.out[2]}, {a.pad[1], a.pad[2]}, a.x.as<float>(),
          a.y.as<float>(), a.weight.as<float>(), s[0], s[1], {s[3], s[4]}, finish_of<float>(a)};
}

Correlation data_gradient_of(const ConvArgs& a) {
  const int64_t *s = a.weight.strides, last = a.kernel[1] - 1;
  return {a.batch, a.channels_out, a.channels_in, {a.out[1], a.out[2]}, {a.in[1], a.in[2]}, {last - a.pad[1], last - a.pad[2]},
          a.y.as<float>(), a.x.as<float>(), a.weight.as<float>() + last * (s[3] + s[4]), s[1], s[0], {-s[3], -s[4]},
          {a.bias.data ? a.bias.as<float>() : nullptr}};
}

// Sizes of the transformed arrays. Inputs: [position][block of K][panel of rows][row][Pitch]. Weights: [panel of
// columns][position][block of K][k][column]. Products: [position][tile][pitch].
template <class W, int64_t Pitch>
struct Layout {
  static constexpr int64_t positions = W::size * W::size;
  static constexpr int64_t rows = Tile<float>::rows, columns = Tile<float>::columns;
  int64_t channels, k_blocks, tiles;  // tiles that one call holds

  Layout(int64_t c, int64_t t) : channels(c), k_blocks(ceil_div(c, kBlockK)), tiles(t) {}
  int64_t input_block() const { return ceil_div(tiles, rows) * rows * Pitch; }
  int64_t input_position() const { return k_blocks * input_block(); }
  int64_t inputs() const { return positions * input_position(); }
  int64_t weight_position() const { return channels * columns; }
  // With tiles, a panel's numbers are followed by their pieces.
  template <class Format>
  int64_t weight_panel() const {
    return positions * (weight_position() + (Format::tiled ? k_blocks * PanelSize<Format, float, false>::b : 0));
  }
  int64_t depth(int64_t kb) const { return min64(channels - kb * kBlockK, kBlockK); }
};

// Transforms tiles [first, first + count) into rows [row, row + count) of `to`, in packed elements of the format.
template <class W, class Format, int64_t Pitch>
void transform_inputs(const Layout<W, Pitch>& l, const Tiling& t, const float* x, int64_t first, int64_t count, int64_t row,
                      float* to, float* border) {
  TilePlace at(t, first);
  for (int64_t i = row; i < row + count; ++i, at.advance(t))
    for (int64_t kb = 0; kb < l.k_blocks; ++kb) {
      const int64_t n = l.depth(kb);
      const Patch p = find_patch<W::size>(t, x, at, kb * kBlockK, n, border);
      transform_patch<W::size, W::size>(p.data, p.row, p.column, n, to + kb * l.input_block() + i * Pitch, l.input_position(),
                                        [](const Lane* d, Lane* r) { W::input(d, r); });
      if constexpr (Format::step > 1)
        for (int64_t q = 0; q < l.positions; ++q) {
          float* packed = to + q * l.input_position() + kb * l.input_block() + i * Pitch;
          Format::pack_row(packed, n, packed);
        }
    }
}

// The T x T taps of `n` outputs (at most one vector) for one input channel, as [tap][output]; outputs beyond are zero.
template <int64_t T>
PYDL_INLINE void gather_taps(const Correlation& g, const float* w, int64_t n, float* taps) {
  constexpr int64_t L = Lane::lanes;
  const bool forwards = g.w_tap[0] == T && g.w_tap[1] == 1, backwards = g.w_tap[0] == -T && g.w_tap[1] == -1;
  if (!forwards && !backwards) {
    for (int64_t t = 0; t < T * T; ++t)
      for (int64_t o = 0; o < L; ++o)
        taps[t * L + o] = o < n ? w[o * g.w_out + t / T * g.w_tap[0] + t % T * g.w_tap[1]] : 0.0f;
    return;
  }
  constexpr int64_t last = T * T - 1;
  const float* from = backwards ? w - last : w;
  for (int64_t t = 0; t <= last; t += L)
    transpose_square(from + t, g.w_out, n, min64(last + 1 - t, L), taps + (backwards ? last - t : t) * L, backwards ? -L : L,
                     true);
}

// Where the pieces of a position's block lie, in a panel of weights.
template <class Format, class L, class Number>
Number* pieces_of(const L& l, Number* panel, int64_t position, int64_t kb) {
  return panel + l.positions * l.weight_position() + (position * l.k_blocks + kb) * PanelSize<Format, float, false>::b;
}

// The weights of one panel of output channels.
template <class W, class Format, int64_t Pitch>
void transform_weights(const Layout<W, Pitch>& l, const Correlation& g, int64_t o0, float* to) {
  constexpr int64_t L = Lane::lanes, T = W::taps, columns = Tile<float>::columns;
  alignas(64) float taps[T * T * L];
  for (int64_t c = 0; c < g.channels; ++c)
    for (int64_t o = 0; o < columns; o += L) {
      gather_taps<T>(g, g.w + (o0 + o) * g.w_out + c * g.w_in, max64(0, min64(L, g.outputs - o0 - o)), taps);
      transform_patch<T, W::size>(taps, T * L, L, L, to + c * columns + o, l.weight_position(),
                                  [](const Lane* d, Lane* r) { W::weight(d, r); });
    }
  for (int64_t p = 0; p < l.positions; ++p)
    for (int64_t kb = 0; kb < l.k_blocks; ++kb) {
      float* block = to + p * l.weight_position() + kb * kBlockK * columns;
      if constexpr (Format::tiled)
        split_panel_b<Format::pieces>(block, l.depth(kb), pieces_of<Format>(l, to, p, kb));
      else
        Format::pack_columns(block, columns, l.depth(kb), block);
    }
}

// One block of one position: products (count x panels of columns) = inputs weights. With pairs, both are packed so.
template <class Format, int64_t Pitch>
void multiply_block(const float* inputs, int64_t count, const float* weights, int64_t panel, int64_t depth, int64_t outputs,
                    float* products, int64_t pitch, bool accumulate, const float* next_inputs) {
  constexpr int64_t R = Tile<float>::rows, C = Tile<float>::columns;
  const int64_t kc = ceil_div(depth, Format::step);
  for (int64_t o = 0; o < outputs; o += C) {
    const float* b = weights + o / C * panel;
    for (int64_t i = 0; i < count; i += R) {
      const Store<float> store{products + i * pitch + o, pitch, accumulate};
      multiply_panel<Format, Pitch, 1>(inputs + i * Pitch, b, kc, store, min64(count - i, R), min64(outputs - o, C),
                                       Ahead<float>{o + C < outputs ? b + panel + i * C * kc / count : next_inputs + i * Pitch});
    }
  }
}

#if defined(PYDL_TILES)
// The same on tiles: `pieces` are those of the weights; the inputs' are made here, for all outputs.
template <int P, int64_t Pitch>
void multiply_block_tiled(const float* inputs, int64_t count, const float* weights, const float* pieces, int64_t panel, int64_t depth,
                          int64_t outputs, float* products, int64_t pitch, bool accumulate) {
  constexpr int64_t R = Tile<float>::rows, C = Tile<float>::columns, kPanelA = PanelSize<Tiles<P>, float, false>::a;
  const int64_t panels = ceil_div(count, R);
  Scratch<float> own(panels * kPanelA);
  for (int64_t i = 0; i < panels; ++i) split_panel_rows<P>(inputs + i * R * Pitch, Pitch, depth, own.data + i * kPanelA);
  for (int64_t o = 0; o < outputs; o += C) {
    const int64_t n = min64(outputs - o, C);
    for (int64_t i = 0; i < panels; i += 2)
      multiply_tiles<P>(
          own.data + i * kPanelA, kPanelA, min64(2, panels - i), pieces + o / C * panel, depth,
          [&](int64_t p) {
            const int64_t row = (i + p) * R;
            return Place<float>{{products + row * pitch + o, pitch, accumulate}, min64(count - row, R), n};
          },
          [&](int64_t p) {
            const int64_t row = (i + p) * R;
            multiply_block<Numbers<float>, Pitch>(inputs + row * Pitch, min64(count - row, R), weights + o / C * panel, panel, depth, n,
                                                  products + row * pitch + o, pitch, accumulate, inputs);
          });
  }
}
#endif

// products[p] (count x panels of columns) = inputs[p] weights[p]
template <class W, class Format, int64_t Pitch>
void multiply(const Layout<W, Pitch>& l, const float* inputs, int64_t count, const float* weights, int64_t outputs,
              float* products, int64_t pitch, int64_t position) {
  const int64_t panel = l.template weight_panel<Format>();
  for (int64_t p = 0; p < l.positions; ++p)
    for (int64_t kb = 0; kb < l.k_blocks; ++kb) {
      const float* a = inputs + p * l.input_position() + kb * l.input_block();
      const float* b = weights + p * l.weight_position() + kb * kBlockK * l.columns;
      float* to = products + p * position;
      if constexpr (Format::tiled)
        multiply_block_tiled<Format::pieces, Pitch>(a, count, b, pieces_of<Format>(l, weights, p, kb), panel, l.depth(kb), outputs, to,
                                                    pitch, kb > 0);
      else
        multiply_block<Format, Pitch>(a, count, b, panel, l.depth(kb), outputs, to, pitch, kb > 0, a + l.input_block());
    }
}

// The results of tiles [first, first + count) for output channels [o0, o0 + outputs).
template <class W>
void transform_products(const Correlation& g, const Tiling& t, const float* products, int64_t pitch, int64_t position,
                        int64_t first, int64_t count, int64_t o0, int64_t outputs) {
  constexpr int64_t L = Lane::lanes, S = W::size, M = W::outputs;
  const int64_t row = g.out[1] * g.outputs;
  TilePlace at(t, first);
  for (int64_t i = 0; i < count; ++i, at.advance(t)) {
    const int64_t i0 = at.row * M, j0 = at.column * M;
    const int64_t height = min64(M, g.out[0] - i0), width = min64(M, g.out[1] - j0);
    float* y = g.y + (at.image * g.out[0] + i0) * row + j0 * g.outputs + o0;
    for (int64_t o = 0; o < outputs; o += L) {
      const int64_t n = min64(L, outputs - o);
      Lane m[S][S], result[M][M];
#pragma GCC unroll 6
      for (int64_t u = 0; u < S; ++u)
#pragma GCC unroll 6
        for (int64_t v = 0; v < S; ++v) m[u][v] = Lane::load(products + (u * S + v) * position + i * pitch + o);
      transform_square(m, result, [](const Lane* d, Lane* r) { W::output(d, r); });
#pragma GCC unroll 4
      for (int64_t u = 0; u < M; ++u)
#pragma GCC unroll 4
        for (int64_t v = 0; v < M; ++v)
          if (u < height && v < width) {
            float* to = y + u * row + v * g.outputs + o;
            g.finish(result[u][v], to, o0 + o, n).store_n(to, n);
          }
    }
  }
}

// Rows of the last panel that hold no tile: they are multiplied, though not stored.
template <class W, int64_t Pitch>
void clear_rest(const Layout<W, Pitch>& l, int64_t count, float* inputs) {
  const int64_t rest = ceil_div(count, l.rows) * l.rows - count;
  if (rest == 0) return;
  for (int64_t p = 0; p < l.positions * l.k_blocks; ++p)
    std::memset(inputs + p * l.input_block() + count * Pitch, 0, static_cast<size_t>(rest * Pitch) * sizeof(float));
}

template <class W, class Format, int64_t Pitch>
void by_tiles(const Correlation& g, const Tiling& t, int64_t tiles, int64_t block) {
  using Y = Layout<W, Pitch>;
  const Y l(g.channels, block);
  const int64_t panels = ceil_div(g.outputs, Y::columns), pitch = panels * Y::columns + 16, position = block * pitch;
  const int64_t panel = l.template weight_panel<Format>();
  Scratch<float> weights(panels * panel);
  parallel_for(panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) transform_weights<W, Format>(l, g, j * Y::columns, weights.data + j * panel);
  });
  parallel_for(tiles, block, [&](int64_t begin, int64_t end) {
    [[maybe_unused]] const Registers<Format> registers{};
    Scratch<float> inputs(l.inputs()), products(Y::positions * position);
    Scratch<float> border(Y::positions * min64(g.channels, kBlockK));
    transform_inputs<W, Format>(l, t, g.x, begin, end - begin, 0, inputs.data, border.data);
    clear_rest(l, end - begin, inputs.data);
    multiply<W, Format>(l, inputs.data, end - begin, weights.data, g.outputs, products.data, pitch, position);
    transform_products<W>(g, t, products.data, pitch, position, begin, end - begin, 0, g.outputs);
  });
}

template <class W, class Format, int64_t Pitch>
void by_panels(const Correlation& g, const Tiling& t, int64_t tiles) {
  using Y = Layout<W, Pitch>;
  const Y l(g.channels, tiles);
  const int64_t panels = ceil_div(g.outputs, Y::columns), pitch = Y::columns + 16, position = tiles * pitch;
  Scratch<float> inputs(l.inputs());
  parallel_for(tiles, Y::rows, [&](int64_t begin, int64_t end) {
    Scratch<float> border(Y::positions * min64(g.channels, kBlockK));
    transform_inputs<W, Format>(l, t, g.x, begin, end - begin, begin, inputs.data, border.data);
  });
  clear_rest(l, tiles, inputs.data);
  parallel_for(panels, 1, [&](int64_t begin, int64_t end) {
    [[maybe_unused]] const Registers<Format> registers{};
    Scratch<float> weights(l.template weight_panel<Format>()), products(Y::positions * position);
    for (int64_t j = begin; j < end; ++j) {
      const int64_t o = j * Y::columns, n = min64(g.outputs - o, Y::columns);
      transform_weights<W, Format>(l, g, o, weights.data);
      multiply<W, Format>(l, inputs.data, tiles, weights.data, n, products.data, pitch, position);
      transform_products<W>(g, t, products.data, pitch, position, 0, tiles, o, n);
    }
  });
}

template <class W, class Format, int64_t Pitch>
void correlate_pitched(const Correlation& g) {
  const Tiling t = input_tiling<W>(g.in[0], g.in[1], g.channels, g.out[0], g.out[1], g.pad);
  const int64_t tiles = g.batch * t.per_image();
  // Measured: with few weights, small blocks keep everything in the cache of a core; with many, large blocks use each weight
  // more often. A few tiles must not end as a single block: then threads share the panels.
  constexpr int64_t positions = W::size * W::size;
  constexpr int64_t kManyWeights = int64_t{1} << 20, kFewTiles = 9 * kPanelRows;
  const bool many = positions * g.channels * g.outputs > kManyWeights;
  if (many && tiles <= kFewTiles) return by_panels<W, Format, Pitch>(g, t, tiles);
  const int64_t panels = many ? min64(8, ceil_div(tiles, 8 * kPanelRows)) : min64(2, ceil_div(tiles, kPanelRows));
  by_tiles<W, Format, Pitch>(g, t, tiles, panels * kPanelRows);
}

template <class W, class Format>
void correlate(const Correlation& g) {
  if (g.batch * g.out[0] * g.out[1] * g.outputs == 0) return;
  if (g.channels <= 64) return correlate_pitched<W, Format, 64 + 16>(g);
  if (g.channels <= 128) return correlate_pitched<W, Format, 128 + 16>(g);
  correlate_pitched<W, Format, kPitch>(g);
}

template <class W>
void correlate_in_format(const Correlation& g) {
  const int64_t tiles = g.batch * ceil_div(g.out[0], W::outputs) * ceil_div(g.out[1], W::outputs);
  with_winograd_format<W::outputs, W::taps>(tiles, g.outputs, g.channels, [&](auto format) { correlate<W, decltype(format)>(g); });
}

void correlate_tiled(const ConvArgs& a, const Correlation& g, int tile) {
  if (a.kernel[1] == 5) return correlate_in_format<Winograd<2, 5>>(g);
  if (tile == 4) return correlate_in_format<Winograd<4, 3>>(g);
  correlate_in_format<Winograd<2, 3>>(g);
}
void forward(const ConvArgs& a, int tile) { correlate_tiled(a, forward_of(a), tile); }
void data_gradient(const ConvArgs& a, int tile) { correlate_tiled(a, data_gradient_of(a), tile); }

PYDL_REGISTER(winograd_forward, forward);
PYDL_REGISTER(winograd_data_gradient, data_gradient);

}  // namespace
}  // namespace pydl
