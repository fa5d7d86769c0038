// Sizes of a recurrent layer, the order of its steps, and the checks that memory safety needs.
#pragma once
#include "cpu/rnn.h"
#include "cpu/rnn_panels.h"

namespace pydl {
namespace {

constexpr int64_t gate_count(RnnCell cell) {
  switch (cell) {
    case RnnCell::lstm: return 4;
    case RnnCell::gru:
    case RnnCell::gru_before: return 3;
    default: return 1;
  }
}

inline void check_array(const Array& a, DType dtype, int64_t rows, int64_t columns, const char* message) {
  PYDL_CHECK(a.data && a.dtype == dtype && a.contiguous() && a.ndim == 2 && a.shape[0] == rows && a.shape[1] == columns,
             message);
}
inline void check_optional(const Array& a, DType dtype, int64_t rows, int64_t columns, const char* message) {
  if (a.data) check_array(a, dtype, rows, columns, message);
}
inline void check_vector(const Array& a, DType dtype, int64_t n, const char* message) {
  PYDL_CHECK(!a.data || (a.dtype == dtype && a.contiguous() && a.ndim == 1 && a.shape[0] == n), message);
}

struct Geometry {
  RnnCell cell;
  bool reverse;
  int64_t T, B, rows, E, H, P, G;
  const int64_t* sizes;
  Scratch<int64_t> offset;  // first row of each step

  explicit Geometry(const RnnArgs& a)
      : cell(a.cell), reverse(a.reverse), T(a.batch_sizes.ndim == 1 ? a.batch_sizes.shape[0] : 0), offset(T + 1) {
    PYDL_CHECK(static_cast<int>(cell) >= 0 && static_cast<int>(cell) < kRnnCells, "unknown cell");
    PYDL_CHECK(T > 0 && a.batch_sizes.contiguous(), "batch_sizes must be a contiguous vector");
    PYDL_CHECK(a.x.ndim == 2 && a.w_ih.ndim == 2 && a.w_hh.ndim == 2 && a.gates.ndim == 2, "expected matrices");
    sizes = a.batch_sizes.as<int64_t>();
    B = sizes[0];
    rows = 0;
    for (int64_t t = 0; t < T; ++t) {
      PYDL_CHECK(sizes[t] >= 0 && sizes[t] <= B && (t == 0 || sizes[t] <= sizes[t - 1]), "batch_sizes must fall");
      offset.data[t] = rows;
      rows += sizes[t];
    }
    G = gate_count(cell);
    E = a.x.shape[1];
    P = a.w_hh.shape[1];
    H = a.w_hh.shape[0] / G;
    check(a);
  }

  void check(const RnnArgs& a) const {
    const DType d = a.x.dtype;
    PYDL_CHECK(d == DType::f32 || d == DType::f64, "expected float32 or float64");
    PYDL_CHECK(H > 0 && P > 0, "no hidden units");
    check_array(a.x, d, rows, E, "x of the wrong shape");
    check_array(a.w_ih, d, G * H, E, "w_ih of the wrong shape");
    check_array(a.w_hh, d, G * H, P, "w_hh of the wrong shape");
    check_vector(a.b_ih, d, G * H, "b_ih of the wrong shape");
    check_vector(a.b_hh, d, G * H, "b_hh of the wrong shape");
    PYDL_CHECK(!a.b_ih.data == !a.b_hh.data, "give both biases or none");
    PYDL_CHECK(a.w_hr.data ? cell == RnnCell::lstm : P == H, "only an LSTM has a projection");
    check_optional(a.w_hr, d, P, H, "w_hr of the wrong shape");
    check_optional(a.h0, d, B, P, "h0 of the wrong shape");
    check_optional(a.c0, d, B, H, "c0 of the wrong shape");
    check_array(a.y, d, rows, P, "y of the wrong shape");
    check_array(a.gates, d, rows, G * H, "gates of the wrong shape");
    if (G > 1) check_array(a.extra, d, rows, H, "extra of the wrong shape");
    if (a.w_hr.data) check_array(a.hidden, d, rows, H, "hidden of the wrong shape");
  }

  int64_t time(int64_t step) const { return reverse ? T - 1 - step : step; }
  // How many of the sequences [first, last) take part in step t: the first ones.
  int64_t active(int64_t t, int64_t first, int64_t last) const { return max64(0, min64(sizes[t], last) - first); }
  // The row of sequence b that was computed before step t; -1: the initial state.
  int64_t row_before(int64_t t, int64_t b) const {
    const int64_t before = reverse ? t + 1 : t - 1;
    return before >= 0 && before < T && b < sizes[before] ? offset.data[before] + b : -1;
  }
};

// Rows of a state before each step: from the rows that were computed, or the initial state, or zeros.
template <class T>
struct StateBefore {
  const Geometry& g;
  const T *rows, *initial;
  int64_t width;
  Scratch<T> zeros;
  StateBefore(const Geometry& g_, const Array& rows_, const Array& initial_, int64_t width_)
      : g(g_), rows(rows_.as<T>()), initial(initial_.data ? initial_.as<T>() : nullptr), width(width_), zeros(width_) {
    std::memset(zeros.data, 0, static_cast<size_t>(width) * sizeof(T));
  }
  const T* operator()(int64_t t, int64_t b) const {
    const int64_t row = g.row_before(t, b);
    return row >= 0 ? rows + row * width : initial ? initial + b * width : zeros.data;
  }
};

// Runs f(first, last) over the sequences. Small recurrent weights stay in each core's cache: then every thread takes its
// own sequences through all steps and never waits. Otherwise one call has all sequences and each step is cut over units.
// No sum depends on the cut, so it may follow the number of threads.
template <class F>
void for_sequences(const Geometry& g, int64_t item_size, const F& f) {
  constexpr int64_t kCached = 1 << 20, kFewest = 4;
  const bool split = g.G * g.H * g.P * item_size <= kCached;
  const int64_t groups = split ? min64(num_threads(), ceil_div(g.B, kFewest)) : 1;
  parallel_for(g.B, ceil_div(g.B, max64(groups, 1)), f);
}

// Panels to take side by side for this many rows.
inline int64_t panels_at_once(int64_t rows) {
  int64_t n = kMostPanels;
  while (n > 1 && !fits(rows, n)) n /= 2;
  return n;
}

// Runs f(first, count) over blocks of units, `together` at a time; a thread is given at least some microseconds of work.
template <class F>
void for_blocks(int64_t blocks, int64_t together, int64_t flops_per_block, const F& f) {
  constexpr int64_t kLeastFlops = 400000;
  parallel_for(ceil_div(blocks, together), ceil_div(kLeastFlops, max64(1, flops_per_block * together)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) f(i * together, min64(together, blocks - i * together));
               });
}

template <class T>
void copy_rows(const T* from, int64_t from_pitch, T* to, int64_t to_pitch, int64_t rows, int64_t n) {
  for (int64_t i = 0; i < rows; ++i) {
    if (from)
      std::memcpy(to + i * to_pitch, from + i * from_pitch, static_cast<size_t>(n) * sizeof(T));
    else
      std::memset(to + i * to_pitch, 0, static_cast<size_t>(n) * sizeof(T));
  }
}

template <class T>
const T* data_or_null(const Array& a) { return a.data ? a.as<T>() : nullptr; }

}  // namespace
}  // namespace pydl
