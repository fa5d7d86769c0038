// Convolutions whose pixels are rows of a matrix as they lie in memory: 1x1 of stride 1, and the data gradient (transposed
// convolution) whose kernel is as large as its stride: each output pixel belongs to one tap.
#pragma once
#include "cpu/conv_gather.h"
#include "cpu/conv_walk.h"

namespace pydl {
namespace {

constexpr int64_t kRowDepth = 512;  // numbers summed at a time: half of an L1 for a panel of weights

// One product: rows x depth from `a` (rows side by side) times depth x columns, stored at to + place[row] + column.
template <class T>
struct RowProduct {
  int64_t rows, depth, columns;
  const T* a;
  Finish<T> finish;
};

// Products of `count` rows with the panels of one tap, `panel` elements apart. `pitch` elements lie between the rows of `a`;
// row i's results go to to + place[i]. What comes next is asked for early: the hardware does not foresee so many streams.
template <class T>
void multiply_rows(const RowProduct<T>& g, const T* a, int64_t pitch, int64_t count, const T* panels, int64_t panel, T* to,
                   const int64_t* place) {
  constexpr int64_t L = Vec<T>::lanes, W = 2 * L;
  const bool biased = g.finish.bias && !g.finish.scale;  // then with the first block, else with the last
  Finish<T> finish = g.finish;
  if (biased) finish.bias = nullptr;
  for (int64_t k0 = 0; k0 < g.depth; k0 += kRowDepth) {
    const int64_t depth = min64(g.depth - k0, kRowDepth);
    const bool first = k0 == 0, last = k0 + depth == g.depth;
    for_columns<T>(g.columns, [&](auto vectors, int64_t j, int64_t columns) {
      constexpr int64_t V = decltype(vectors)::value;
      Vec<T> add[V];
      for (int64_t v = 0; v < V; ++v)
        add[v] = biased && first ? Vec<T>::load_n(g.finish.bias + j + v * L, columns - v * L) : Vec<T>::zero();
      for (int64_t i = 0, rows; i < count; i += rows) {
        rows = rows_within(count - i);
        for (int64_t k = 0; k < rows; ++k)
          for (int64_t v = 0; v < V; ++v) __builtin_prefetch(to + place[i + k] + j + v * L, 1);
        if (j == 0 && i + rows < count) {
          const T* next = a + (i + rows) * pitch + k0;
          const int64_t lines = min64(rows, count - i - rows) * pitch;
          for (int64_t k = 0; k < lines; k += L) __builtin_prefetch(next + k, 0);
        }
        const Walk<T> walk{a + i * pitch + k0, 0, pitch, 0, 1, panels + j / W * panel + k0 * W, 0, W, 1, depth, columns};
        with_rows(rows, [&](auto r) {
          multiply<1, decltype(r)::value, V, 0, false>(walk, [&](int64_t, int64_t k, int64_t v, Vec<T> sum) {
            T* at = to + place[i + k] + j + v * L;
            const int64_t n = columns - v * L;
            sum = sum + (first ? add[v] : Vec<T>::load_n(at, n));
            (last ? finish(sum, at, j + v * L, n) : sum).store_n(at, n);
          });
        });
      }
    });
  }
}

// The product for each of `taps` matrices of weights; fill(weights, panel) writes them as panels of two vectors of columns,
// `panel` elements apart, each [tap][depth][2 L]. Row i goes to to + position(i) + shift(tap).
template <class T, class Fill, class Position, class Shift>
void product_of_rows(const RowProduct<T>& g, int64_t taps, const Fill& fill, T* to, const Position& position,
                     const Shift& shift) {
  constexpr int64_t W = 2 * Vec<T>::lanes;
  const int64_t panels = ceil_div(g.columns, W), matrix = g.depth * W, panel = taps * matrix;
  Scratch<T> weights(panels * panel);
  fill(weights.data, panel);
  // Rows a multiple of 4 KB apart fall into one set of the L1: they are copied apart.
  const bool copy = g.depth * static_cast<int64_t>(sizeof(T)) % 4096 == 0;
  const int64_t pitch = copy ? g.depth + 16 : g.depth;
  constexpr int64_t block = 8 * kRows[0];
  parallel_for(g.rows, block, [&](int64_t begin, int64_t end) {
    Scratch<T> own(copy ? block * pitch : 0);
    Scratch<int64_t> place(block);
    for (int64_t i = begin; i < end; ++i) {
      place.data[i - begin] = position(i);
      if (copy) copy_run(own.data + (i - begin) * pitch, g.a + i * g.depth, g.depth);
    }
    const T* a = copy ? own.data : g.a + begin * g.depth;
    for (int64_t t = 0; t < taps; ++t)
      multiply_rows(g, a, pitch, end - begin, weights.data + t * matrix, panel, to + shift(t), place.data);
  });
}

// ---------------------------------------------------------------- 1x1
inline bool is_pointwise(const ConvArgs& a) {
  for (int d = 0; d < 3; ++d)
    if (a.kernel[d] != 1 || a.stride[d] != 1 || a.pad[d] != 0 || a.in[d] != a.out[d]) return false;
  return a.groups == 1;
}

// Rows of `depth` numbers times the weight; the strides say which of its axes is summed over.
template <class T>
void pointwise(int64_t rows, int64_t depth, int64_t columns, const T* a, const T* weight, int64_t depth_stride,
               int64_t column_stride, T* to, const Finish<T>& finish) {
  gemm<T>(
      rows, columns, depth,
      [&](T* panel, int64_t i, int64_t n, int64_t k, int64_t kc) { pack_a_strided(panel, a + i * depth + k, depth, 1, n, kc); },
      [&](T* panel, int64_t j, int64_t n, int64_t k, int64_t kc) {
        pack_b_strided(panel, weight + k * depth_stride + j * column_stride, depth_stride, column_stride, n, kc);
      },
      to, columns, finish, false, a);
}

// ---------------------------------------------------------------- kernel as large as the stride
// Enough channels that the panels of a tap are not mostly empty.
inline bool is_unfolding(const ConvArgs& a) {
  for (int d = 0; d < 3; ++d)
    if (a.kernel[d] != a.stride[d] || a.pad[d] != 0 || a.dilation[d] != 1 || a.in[d] != a.out[d] * a.stride[d]) return false;
  return a.groups == 1 && a.channels_in >= 16 && a.channels_out > 0;
}

template <class T, class Fill>
void unfold(const ConvArgs& a, const Fill& fill) {
  const int64_t* s = a.stride;
  const RowProduct<T> g{a.batch * a.out[0] * a.out[1] * a.out[2], a.channels_out, a.channels_in, a.y.as<T>(),
                        {a.bias.data ? a.bias.as<T>() : nullptr}};
  const auto position = [&](int64_t row) {
    const int64_t q2 = row % a.out[2], line = row / a.out[2], q1 = line % a.out[1], plane = line / a.out[1];
    return ((plane * s[0] * a.in[1] + q1 * s[1]) * a.in[2] + q2 * s[2]) * a.channels_in;
  };
  const auto shift = [&](int64_t tap) {
    return ((tap / s[2] / s[1] * a.in[1] + tap / s[2] % s[1]) * a.in[2] + tap % s[2]) * a.channels_in;
  };
  product_of_rows<T>(g, s[0] * s[1] * s[2], fill, a.x.as<T>(), position, shift);
}

}  // namespace
}  // namespace pydl
