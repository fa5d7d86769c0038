// See conv_direct.h. All three passes are one register-blocked product (`multiply`) that walks over numbers in place:
//   forward          sum over (KH, run): pixels of one output row        x output channels
//   weight gradient  sum over (rows, pixels): numbers of a filter's run  x output channels
//   data gradient    sum over output channels: output pixels             x numbers of a filter's run, added into the image
#include "cpu/conv_direct.h"

#include "cpu/conv_gather.h"
#include "cpu/conv_walk.h"
#include "cpu/conv_weight.h"

namespace pydl {
namespace {

// The convolution as rows and columns. One spatial axis: the samples are the rows of one image, and no filter spans rows.
struct Plan {
  int64_t images, height, width, channels;         // of the input
  int64_t out_height, out_width, out_channels;
  int64_t filter_height, run;                      // run = KW * C
  int64_t row_step, column_step, dilation;         // column_step in elements
  int64_t top, left;                               // padding; left in elements
  int64_t line;                                    // elements of a padded row, with room for `spare` pixels too many

  Plan(const ConvArgs& a, int64_t spare)
      : images(a.batch), height(a.in[1]), width(a.in[2]), channels(a.channels_in), out_height(a.out[1]), out_width(a.out[2]),
        out_channels(a.channels_out), filter_height(a.kernel[1]), run(a.kernel[2] * a.channels_in), row_step(a.stride[1]),
        column_step(a.stride[2] * a.channels_in), dilation(a.dilation[1]), top(a.pad[1]), left(a.pad[2] * a.channels_in) {
    if (height == 1 && out_height == 1 && filter_height == 1 && top == 0) {
      height = out_height = images;
      images = row_step = 1;
    }
    line = max64(left + width * channels, (out_width + spare) * column_step + run);
  }
  int64_t work() const { return out_width * filter_height * run * out_channels; }  // products of one output row
  int64_t span(int64_t rows) const { return (rows - 1) * row_step + (filter_height - 1) * dilation + 1; }
  // Output rows handled together: their input in the near cache, and enough work to be worth a task.
  int64_t block_rows(int64_t most) const {
    constexpr int64_t kElements = 16384, kWork = 1 << 20;
    const int64_t fit = max64(1, kElements / (line * row_step));
    return max64(1, min64(min64(fit, most), max64(ceil_div(kWork, max64(work(), 1)), 4)));
  }
};

// Rows [first, first + count) of an image with zeros around it.
template <class T>
void copy_padded(const Plan& p, const T* image, int64_t first, int64_t count, T* to) {
  const int64_t numbers = min64(p.width * p.channels, p.line - p.left);
  for (int64_t i = 0; i < count; ++i, to += p.line) {
    if (!inside(first + i, p.height)) {
      zero_run(to, p.line);
      continue;
    }
    zero_run(to, p.left);
    copy_run(to + p.left, image + (first + i) * p.width * p.channels, numbers);
    zero_run(to + p.left + numbers, p.line - p.left - numbers);
  }
}

// body(image, first output row, rows, scratch) for all blocks of rows; `scratch` holds `elements`.
template <class T, class F>
void for_blocks(int64_t images, int64_t height, int64_t block, int64_t work, int64_t elements, const F& body) {
  const int64_t blocks = ceil_div(height, block), grain = max64(1, (1 << 19) / max64(1, work * block));
  parallel_for(images * blocks, grain, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch(elements);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i % blocks * block;
      body(i / blocks, row, min64(block, height - row), scratch.data);
    }
  });
}

// Element offset of number k (pixel, channel) of a filter's run.
PYDL_INLINE int64_t run_offset(const ConvArgs& a, int64_t k) {
  return k / a.channels_in * a.weight.strides[4] + k % a.channels_in * a.weight.strides[1];
}

// ---------------------------------------------------------------- forward
template <class T>
void forward(const ConvArgs& a) {
  constexpr int64_t W = 2 * Vec<T>::lanes;
  const int64_t R = choose_rows(a.out[2]);
  const Plan p(a, R);
  const int64_t depth = p.filter_height * p.run, outputs = p.out_channels, padded = ceil_div(outputs, W) * W;
  const T *x = a.x.as<T>(), *w = a.weight.as<T>();
  const auto finish = finish_of<T>(a);
  T* y = a.y.as<T>();
  Scratch<T> packed(depth * padded);  // [block of W outputs][KH][run][W]
  order_weight(a.weight, w, a.channels_in, a.weight.strides[1], outputs, a.weight.strides[0], packed.data, W,
               a.channels_in * W, depth * W);
  const int64_t block = p.block_rows(p.out_height);
  for_blocks<T>(p.images, p.out_height, block, p.work(), p.span(block) * p.line, [&](int64_t n, int64_t row, int64_t rows,
                                                                                     T* scratch) {
    copy_padded(p, x + n * p.height * p.width * p.channels, row * p.row_step - p.top, p.span(rows), scratch);
    for_columns<T>(outputs, [&](auto vectors, int64_t j, int64_t columns) {
      constexpr int64_t V = decltype(vectors)::value, L = Vec<T>::lanes;
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t q = 0; q < p.out_width; q += R) {
          const Walk<T> walk{scratch + i * p.row_step * p.line + q * p.column_step, 0, p.column_step, p.dilation * p.line, 1,
                             packed.data + j * depth, p.run * W, W, p.filter_height, p.run, columns};
          T* to = y + (((n * p.out_height + row + i) * p.out_width) + q) * outputs + j;
          const int64_t live = p.out_width - q;
          with_rows(R, [&](auto r) {
            multiply<1, decltype(r)::value, V, 0, false>(walk, [&](int64_t, int64_t k, int64_t v, Vec<T> sum) {
              if (k >= live) return;
              T* at = to + k * outputs + v * L;
              const int64_t n = columns - v * L;
              finish(sum, at, j + v * L, n).store_n(at, n);
            });
          });
        }
    });
  });
}

// ---------------------------------------------------------------- weight gradient
// sums[kh][k][columns] += the products of one block of output rows, for filter rows [kh, kh + S) and numbers [k, k + R).
template <int64_t S, int64_t R, class T>
void weight_block(const Plan& p, const T* scratch, const T* dy, int64_t rows, int64_t kh, int64_t k, T* sums) {
  for_columns<T>(p.out_channels, [&](auto vectors, int64_t j, int64_t columns) {
    constexpr int64_t V = decltype(vectors)::value, L = Vec<T>::lanes;
    if constexpr (S * V <= S + 1) {
      const Walk<T> walk{scratch + kh * p.dilation * p.line + k, p.dilation * p.line, 1, p.row_step * p.line, p.column_step,
                         dy + j, p.out_width * p.out_channels, p.out_channels, rows, p.out_width, columns};
      const auto add = [&](int64_t s, int64_t r, int64_t v, Vec<T> sum) {
        if (k + r >= p.run) return;
        T* to = sums + ((kh + s) * p.run + k + r) * p.out_channels + j + v * L;
        (Vec<T>::load_n(to, columns - v * L) + sum).store_n(to, columns - v * L);
      };
      if (columns == V * L)
        multiply<S, R, V, 1, false>(walk, add);
      else
        multiply<S, R, V, 1, true>(walk, add);
    }
  });
}

// Each chunk of blocks sums into its own copy; the copies are added in order.
template <class T>
void weight_gradient(const ConvArgs& a) {
  const int64_t R = choose_rows(a.kernel[2] * a.channels_in);
  const Plan p(a, 0);
  const T *x = a.x.as<T>(), *dy = a.y.as<T>();
  T* dw = a.weight.as<T>();
  const int64_t size = p.filter_height * p.run * p.out_channels;
  const int64_t block = p.block_rows(max64(1, 2048 / max64(p.out_width, 1))), blocks = ceil_div(p.out_height, block);
  const int64_t total = p.images * blocks, chunk = max64(1, ceil_div(total, 16)), chunks = max64(1, ceil_div(total, chunk));
  const bool few = kManyRegisters && p.run <= 5 && p.out_channels <= Vec<T>::lanes;  // all filter rows at once
  Scratch<T> copies(chunks * size);
  std::memset(copies.data, 0, static_cast<size_t>(chunks * size) * sizeof(T));
  parallel_for(total, chunk, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch(p.span(block) * p.line + kRows[0]);  // rows of the last block of numbers may reach beyond the run
    zero_run(scratch.data + p.span(block) * p.line, kRows[0]);
    T* sums = copies.data + begin / chunk * size;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / blocks, row = i % blocks * block, rows = min64(block, p.out_height - row);
      copy_padded(p, x + n * p.height * p.width * p.channels, row * p.row_step - p.top, p.span(rows), scratch.data);
      const T* grad = dy + (n * p.out_height + row) * p.out_width * p.out_channels;
      if (few && p.filter_height == 5) {
        weight_block<5, 5>(p, scratch.data, grad, rows, 0, 0, sums);
      } else if (few && p.filter_height == 3) {
        weight_block<3, 5>(p, scratch.data, grad, rows, 0, 0, sums);
      } else {
        for (int64_t kh = 0; kh < p.filter_height; ++kh)
          for (int64_t k = 0; k < p.run; k += R)
            with_rows(R, [&](auto r) { weight_block<1, decltype(r)::value>(p, scratch.data, grad, rows, kh, k, sums); });
      }
    }
  });
  parallel_for(p.out_channels, 8, [&](int64_t begin, int64_t end) {
    for (int64_t k = 0; k < p.filter_height * p.run; ++k)
      for (int64_t o = begin; o < end; ++o) {
        T sum = copies.data[k * p.out_channels + o];
        for (int64_t c = 1; c < chunks; ++c) sum += copies.data[c * size + k * p.out_channels + o];
        dw[o * a.weight.strides[0] + k / p.run * a.weight.strides[3] + run_offset(a, k % p.run)] = sum;
      }
  });
}

// ---------------------------------------------------------------- data gradient
// Adds the contribution of output pixels [first, first + count) through one filter row into `image`, where pixel i of them
// begins at offset[i]. The pixels of one product lie far apart, so that no sum waits for the store of its neighbour.
template <class T>
void spread(const Plan& p, const T* dy, int64_t first, int64_t count, const T* packed, const int64_t* offset, T* image) {
  constexpr int64_t L = Vec<T>::lanes, W = 2 * L;
  const int64_t depth = p.out_channels;
  for_columns<T>(p.run, [&](auto vectors, int64_t j, int64_t columns) {
    constexpr int64_t V = decltype(vectors)::value;
    // Pixels begin + i * distance for i in [dead, rows).
    const auto product = [&](int64_t rows, int64_t begin, int64_t distance, int64_t dead) {
      const Walk<T> walk{dy + (first + begin) * depth, 0, distance * depth, 0, 1, packed + j * depth, 0, W, 1, depth, columns};
      with_rows(rows, [&](auto r) {
        multiply<1, decltype(r)::value, V, 0, false>(walk, [&](int64_t, int64_t i, int64_t v, Vec<T> sum) {
          if (i < dead) return;
          T* to = image + offset[begin + i * distance] + j + v * L;
          (Vec<T>::load_n(to, columns - v * L) + sum).store_n(to, columns - v * L);
        });
      });
    };
    const int64_t rows = choose_rows(count), distance = count / rows, rest = count - distance * rows;
    for (int64_t b = 0; b < distance; ++b) product(rows, b, distance, 0);
    if (first + count >= rows && rest > 0)  // the last pixels together with some before them, whose sums are dropped
      product(rows, count - rows, 1, rows - rest);
    else
      for (int64_t i = count - rest; i < count; ++i) product(1, i, 1, 0);
  });
}

template <class T>
void data_gradient(const ConvArgs& a) {
  constexpr int64_t W = 2 * Vec<T>::lanes;
  const Plan p(a, 0);
  const T *dy = a.y.as<T>(), *w = a.weight.as<T>(), *bias = a.bias.data ? a.bias.as<T>() : nullptr;
  T* dx = a.x.as<T>();
  const int64_t depth = p.out_channels, padded = ceil_div(p.run, W) * W;
  Scratch<T> packed(p.filter_height * padded * depth);  // [KH][block of W numbers][outputs][W]
  if (a.channels_in % W == 0) {  // every block within one pixel of the filter
    order_weight(a.weight, w, depth, a.weight.strides[0], a.channels_in, a.weight.strides[1], packed.data, W,
                 a.channels_in * depth, depth * W);
  } else {
    parallel_for(p.filter_height * padded, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t kh = i / padded, k = i % padded;
        T* to = packed.data + kh * padded * depth + k / W * W * depth + k % W;
        const T* from = w + kh * a.weight.strides[3] + (k < p.run ? run_offset(a, k) : 0);
        for (int64_t o = 0; o < depth; ++o) to[o * W] = k < p.run ? from[o * a.weight.strides[0]] : T(0);
      }
    });
  }
  const int64_t block = p.block_rows(p.out_height) * p.row_step;  // rows of dx
  const int64_t most = (block / p.row_step + 1) * p.out_width;    // output pixels that one filter row gives to a block
  Scratch<int64_t> offset(most);
  for (int64_t i = 0; i < most; ++i) offset.data[i] = i / p.out_width * p.row_step * p.line + i % p.out_width * p.column_step;
  for_blocks<T>(p.images, p.height, block, p.work(), block * p.line, [&](int64_t n, int64_t row, int64_t rows, T* scratch) {
    zero_run(scratch, rows * p.line);
    for (int64_t kh = 0; kh < p.filter_height; ++kh) {
      // Output rows q with row <= q * step + reach < row + rows.
      const int64_t reach = kh * p.dilation - p.top;
      const int64_t begin = max64(0, ceil_div(max64(row - reach, 0), p.row_step));
      const int64_t end = min64(p.out_height, ceil_div(max64(row + rows - reach, 0), p.row_step));
      if (begin < end)
        spread(p, dy, (n * p.out_height + begin) * p.out_width, (end - begin) * p.out_width,
               packed.data + kh * padded * depth, offset.data, scratch + (begin * p.row_step + reach - row) * p.line);
    }
    const int64_t numbers = p.width * p.channels;
    for (int64_t i = 0; i < rows; ++i) {
      T* to = dx + (n * p.height + row + i) * numbers;
      const T* from = scratch + i * p.line + p.left;
      copy_run(to, from, numbers);
      for (int64_t q = 0; bias && q < numbers; q += p.channels)
        for (int64_t c = 0; c < p.channels; ++c) to[q + c] += bias[c];
    }
  });
}

template <void (*Float)(const ConvArgs&), void (*Double)(const ConvArgs&)>
void typed(const ConvArgs& a) {
  a.x.dtype == DType::f32 ? Float(a) : Double(a);
}

PYDL_REGISTER(conv_direct_forward, (typed<forward<float>, forward<double>>));
PYDL_REGISTER(conv_direct_data_gradient, (typed<data_gradient<float>, data_gradient<double>>));
PYDL_REGISTER(conv_direct_weight_gradient, (typed<weight_gradient<float>, weight_gradient<double>>));

}  // namespace
}  // namespace pydl
