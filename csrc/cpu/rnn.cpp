#include "cpu/rnn.h"

#include "cpu/rnn_cells.h"
#include "cpu/rnn_geometry.h"

namespace pydl {
namespace {

// The input's share of all gates at all steps, with the biases that can be added beforehand.
template <class T>
void input_product(const Geometry& g, const RnnArgs& a) {
  const int64_t N = g.G * g.H;
  Scratch<T> bias(N);
  if (a.b_ih.data) {
    const T *ih = a.b_ih.as<T>(), *hh = a.b_hh.as<T>();
    const int64_t both = g.cell == RnnCell::gru ? 2 * g.H : N;  // gru: the last one belongs inside the reset
    for (int64_t i = 0; i < N; ++i) bias.data[i] = i < both ? ih[i] + hh[i] : ih[i];
  }
  const T *x = a.x.as<T>(), *w = a.w_ih.as<T>();
  gemm<T>(
      g.rows, N, g.E,
      [=, E = g.E](T* panel, int64_t i, int64_t rows, int64_t k, int64_t kc) {
        pack_a_strided(panel, x + i * E + k, E, 1, rows, kc);
      },
      [=, E = g.E](T* panel, int64_t j, int64_t columns, int64_t k, int64_t kc) {
        pack_b_strided(panel, w + j * E + k, 1, E, columns, kc);
      },
      a.gates.as<T>(), N, {a.b_ih.data ? bias.data : nullptr});
}

template <class T>
struct Forward {
  static constexpr int64_t U = Tile<T>::columns;
  const Geometry& g;
  const RnnArgs& a;
  const int64_t pitch, hidden_pitch;
  Panels<T> weights;     // per block of U units: one panel for each gate
  Panels<T> projection;  // W_hr^T
  Scratch<T> state;      // h before and after a step: two of [B, pitch]
  Scratch<T> inner;      // [B, hidden_pitch]: r h (gru_before), or h before the projection
  Scratch<T> cell;       // [B, H]

  Forward(const Geometry& g_, const RnnArgs& a_)
      : g(g_), a(a_), pitch(pitch_of(g.P)), hidden_pitch(pitch_of(g.H)),
        weights(g.rows, g.B, 0, g.P, ceil_div(g.H, U), g.G,
                [&](int64_t p) {
                  const int64_t u = p / g.G * U;
                  return typename Panels<T>::Source{a.w_hh.as<T>() + (p % g.G * g.H + u) * g.P, 1, g.P, min64(U, g.H - u)};
                }),
        projection(g.rows, g.B, 0, g.H, a.w_hr.data ? ceil_div(g.P, U) : 0, 1,
                   [&](int64_t p) {
                     return typename Panels<T>::Source{a.w_hr.as<T>() + p * U * g.H, 1, g.H, min64(U, g.P - p * U)};
                   }),
        state(2 * g.B * pitch), inner(g.B * hidden_pitch), cell(g.B * g.H) {
    const T* h0 = data_or_null<T>(a.h0);
    copy_rows(h0, g.P, state.data, pitch, g.B, g.P);
    copy_rows(h0, g.P, state.data + g.B * pitch, pitch, g.B, g.P);
    if (g.cell == RnnCell::lstm) copy_rows(data_or_null<T>(a.c0), g.H, cell.data, g.H, g.B, g.H);
  }

  void run() {
    for_sequences(g, sizeof(T), [&](int64_t first, int64_t last) {
      Scratch<T> packed(max64(weights.rows_size(last - first, g.P), projection.rows_size(last - first, g.H)));
      for (int64_t step = 0; step < g.T; ++step) {
        const int64_t t = g.time(step), n = g.active(t, first, last);
        if (n == 0) continue;
        const T* from = state.data + step % 2 * g.B * pitch;
        T* to = state.data + (step + 1) % 2 * g.B * pitch;
        if (g.cell == RnnCell::gru_before) {
          products(weights, from, pitch, packed.data, first, n, 0, 2, [&](const T* sum, int64_t s, int64_t b, int64_t u) {
            const int64_t row = g.offset.data[t] + b;
            gru_before_forward_reset(units(u), g.H, sum, s, gates(row) + u, from + b * pitch + u, extra(row) + u,
                                     inner.data + b * hidden_pitch + u);
          });
          products(weights, inner.data, hidden_pitch, packed.data, first, n, 2, 1, [&](const T* sum, int64_t, int64_t b, int64_t u) {
            const int64_t row = g.offset.data[t] + b;
            gru_before_forward_output(units(u), g.H, sum, gates(row) + u, from + b * pitch + u, y(row) + u,
                                      to + b * pitch + u);
          });
          continue;
        }
        products(weights, from, pitch, packed.data, first, n, 0, g.G, [&](const T* sum, int64_t s, int64_t b, int64_t u) {
          cell_row(sum, s, g.offset.data[t] + b, b, u, from, to);
        });
        if (a.w_hr.data) project(t, first, n, packed.data, to);
      }
    });
    final_states();
  }

  // For each block of units: the products of the states with panels [gate, gate + gates) of the block, then
  // finish(sums, distance of gates, sequence, first unit) for each row. `packed` has room for the packed states.
  template <class F>
  void products(const Panels<T>& w, const T* states, int64_t lda, T* packed, int64_t first, int64_t n, int64_t gate,
                int64_t gates, const F& finish) {
    const int64_t together = w.group == 1 ? panels_at_once(min64(n, kPanelRows)) : 1;
    const auto rows_of_step = w.rows_of(states + first * lda, lda, n, w.K, packed);
    for_blocks(w.blocks, together, 2 * n * gates * w.K * U, [&](int64_t block, int64_t count) {
      constexpr int64_t stride = kTileStride<T>;
      alignas(64) T tile[kMostPanels * stride];
      for (int64_t i0 = 0; i0 < n; i0 += kRowBlock) {
        const int64_t rows = min64(n - i0, kRowBlock);
        w.multiply(rows_of_step, i0, rows, block * w.group + gate, count * gates, 0, w.K, tile, stride);
        for (int64_t j = 0; j < count; ++j)
          for (int64_t i = 0; i < rows; ++i)
            finish(tile + j * stride + i * U, stride, first + i0 + i, (block + j) * U);
      }
    });
  }

  void cell_row(const T* sum, int64_t s, int64_t row, int64_t b, int64_t u, const T* from, T* to) {
    const int64_t n = units(u);
    T* next = to + b * pitch + u;
    switch (g.cell) {
      case RnnCell::tanh: return simple_forward<false>(n, sum, gates(row) + u, next);
      case RnnCell::relu: return simple_forward<true>(n, sum, gates(row) + u, next);
      case RnnCell::lstm: {
        T* c = cell.data + b * g.H + u;
        if (a.w_hr.data)
          return lstm_forward(n, g.H, sum, s, gates(row) + u, c, extra(row) + u, a.hidden.as<T>() + row * g.H + u,
                              inner.data + b * hidden_pitch + u);
        return lstm_forward(n, g.H, sum, s, gates(row) + u, c, extra(row) + u, y(row) + u, next);
      }
      default: {
        const T* bias = a.b_hh.data ? a.b_hh.as<T>() + 2 * g.H + u : nullptr;
        return gru_forward(n, g.H, sum, s, bias, gates(row) + u, from + b * pitch + u, extra(row) + u, y(row) + u, next);
      }
    }
  }

  void project(int64_t t, int64_t first, int64_t n, T* packed, T* to) {
    products(projection, inner.data, hidden_pitch, packed, first, n, 0, 1, [&](const T* sum, int64_t, int64_t b, int64_t p) {
      const auto bytes = static_cast<size_t>(min64(U, g.P - p)) * sizeof(T);
      std::memcpy(y(g.offset.data[t] + b) + p, sum, bytes);
      std::memcpy(to + b * pitch + p, sum, bytes);
    });
  }

  // hn: the output at the last step that each sequence took part in.
  void final_states() {
    for (int64_t b = 0; b < g.B; ++b) {
      int64_t t = 0;
      if (!g.reverse)
        while (t + 1 < g.T && g.sizes[t + 1] > b) ++t;
      std::memcpy(a.hn.as<T>() + b * g.P, y(g.offset.data[t] + b), static_cast<size_t>(g.P) * sizeof(T));
    }
    if (g.cell == RnnCell::lstm) copy_rows<T>(cell.data, g.H, a.cn.as<T>(), g.H, g.B, g.H);
  }

  int64_t units(int64_t u) const { return min64(U, g.H - u); }
  T* gates(int64_t row) const { return a.gates.as<T>() + row * g.G * g.H; }
  T* extra(int64_t row) const { return a.extra.as<T>() + row * g.H; }
  T* y(int64_t row) const { return a.y.as<T>() + row * g.P; }
};

template <class T>
void forward_typed(const Geometry& g, const RnnArgs& a) {
  input_product<T>(g, a);
  Forward<T>(g, a).run();
}

void rnn_forward_impl(const RnnArgs& args) {
  const Geometry g(args);
  const DType d = args.x.dtype;
  check_array(args.hn, d, g.B, g.P, "hn of the wrong shape");
  if (g.cell == RnnCell::lstm) check_array(args.cn, d, g.B, g.H, "cn of the wrong shape");
  if (g.B == 0) return;
  d == DType::f32 ? forward_typed<float>(g, args) : forward_typed<double>(g, args);
}

void rnn_take_rows_impl(const Array& x, const Array& index, double fill, const Array& out) {
  PYDL_CHECK(x.ndim == 2 && out.ndim == 2 && index.ndim == 1, "expected matrices and a vector of rows");
  PYDL_CHECK(x.dtype == out.dtype && x.shape[1] == out.shape[1] && index.shape[0] == out.shape[0], "shapes do not fit");
  PYDL_CHECK(x.contiguous() && out.contiguous() && index.contiguous(), "expected contiguous arrays");
  PYDL_CHECK(x.dtype == DType::f32 || x.dtype == DType::f64, "expected float32 or float64");
  const int64_t n = out.shape[0], bytes = out.shape[1] * item_size(x.dtype);
  const int64_t* rows = index.as<int64_t>();
  for (int64_t i = 0; i < n; ++i) PYDL_CHECK(rows[i] < x.shape[0], "row index beyond the matrix");
  const auto* from = static_cast<const char*>(x.data);
  auto* to = static_cast<char*>(out.data);
  parallel_for(n, max64(1, 65536 / max64(bytes, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (rows[i] >= 0)
        std::memcpy(to + i * bytes, from + rows[i] * bytes, static_cast<size_t>(bytes));
      else if (out.dtype == DType::f32)
        for (int64_t j = 0; j < out.shape[1]; ++j) out.as<float>()[i * out.shape[1] + j] = static_cast<float>(fill);
      else
        for (int64_t j = 0; j < out.shape[1]; ++j) out.as<double>()[i * out.shape[1] + j] = fill;
    }
  });
}

PYDL_REGISTER(rnn_forward, rnn_forward_impl);
PYDL_REGISTER(rnn_take_rows, rnn_take_rows_impl);

}  // namespace
}  // namespace pydl
