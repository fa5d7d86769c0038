// Convolutions whose pixels are rows of a matrix as they lie in memory: 1x1 of stride 1, and the data gradient (transposed
// convolution) whose kernel is as large as its stride: each output pixel belongs to one tap.
#pragma once
#include "cpu/conv_gather.h"
#include "cpu/conv_walk.h"

namespace pydl {
namespace {

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

constexpr int64_t kRowDepth = 512;  // numbers summed at a time: half of an L1 for a panel of weights

// rows x depth from memory (rows side by side) times depth x columns, plus a bias.
template <class T>
struct RowProduct {
  int64_t rows, depth, columns;
  const T *a, *bias;
};

// Products of `count` rows with the panels of one tap, `panel` elements apart. `pitch` elements lie between the rows of `a`;
// row i's results go to to + place[i]. What comes next is asked for early: the hardware does not foresee so many streams.
template <class T>
void multiply_rows(const RowProduct<T>& g, const T* a, int64_t pitch, int64_t count, const T* panels, int64_t panel, T* to,
                   const int64_t* place) {
  constexpr int64_t L = Vec<T>::lanes, W = 2 * L;
  for (int64_t k0 = 0; k0 < g.depth; k0 += kRowDepth) {
    const int64_t depth = min64(g.depth - k0, kRowDepth);
    const bool first = k0 == 0;
    for_columns<T>(g.columns, [&](auto vectors, int64_t j, int64_t columns) {
      constexpr int64_t V = decltype(vectors)::value;
      Vec<T> add[V];
      for (int64_t v = 0; v < V; ++v)
        add[v] = g.bias && first ? Vec<T>::load_n(g.bias + j + v * L, columns - v * L) : Vec<T>::zero();
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
            (sum + (first ? add[v] : Vec<T>::load_n(at, n))).store_n(at, n);
          });
        });
      }
    });
  }
}

// fill(weights, panel) writes the weights of the taps as panels of two vectors of columns, `panel` elements apart, each
// [tap][depth][2 L].
template <class T, class Fill>
void unfold(const ConvArgs& a, const Fill& fill) {
  constexpr int64_t W = 2 * Vec<T>::lanes, block = 8 * kRows[0];
  const int64_t* s = a.stride;
  const RowProduct<T> g{a.batch * a.out[0] * a.out[1] * a.out[2], a.channels_out, a.channels_in, a.y.as<T>(),
                        a.bias.data ? a.bias.as<T>() : nullptr};
  const int64_t taps = s[0] * s[1] * s[2], matrix = g.depth * W, panel = taps * matrix;
  Scratch<T> weights(ceil_div(g.columns, W) * panel);
  fill(weights.data, panel);
  // Rows a multiple of 4 KB apart fall into one set of the L1: they are copied apart.
  const bool copy = g.depth * static_cast<int64_t>(sizeof(T)) % 4096 == 0;
  const int64_t pitch = copy ? g.depth + 16 : g.depth;
  const auto position = [&](int64_t row) {
    const int64_t q2 = row % a.out[2], line = row / a.out[2], q1 = line % a.out[1], plane = line / a.out[1];
    return ((plane * s[0] * a.in[1] + q1 * s[1]) * a.in[2] + q2 * s[2]) * a.channels_in;
  };
  parallel_for(g.rows, block, [&](int64_t begin, int64_t end) {
    Scratch<T> own(copy ? block * pitch : 0);
    Scratch<int64_t> place(block);
    for (int64_t i = begin; i < end; ++i) {
      place.data[i - begin] = position(i);
      if (copy) copy_run(own.data + (i - begin) * pitch, g.a + i * g.depth, g.depth);
    }
    const T* rows = copy ? own.data : g.a + begin * g.depth;
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t shift = ((t / s[2] / s[1] * a.in[1] + t / s[2] % s[1]) * a.in[2] + t % s[2]) * a.channels_in;
      multiply_rows(g, rows, pitch, end - begin, weights.data + t * matrix, panel, a.x.as<T>() + shift, place.data);
    }
  });
}

}  // namespace
}  // namespace pydl
