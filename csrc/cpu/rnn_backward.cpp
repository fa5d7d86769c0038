// Backpropagation through time. The steps are taken backwards; each gives the gradients of its gates (before their
// nonlinearities), from which the gradients of weights and inputs follow as three products over all steps at once.
#include "cpu/rnn.h"
#include "cpu/rnn_cells.h"
#include "cpu/rnn_geometry.h"

namespace pydl {
namespace {

template <class T>
struct Backward {
  static constexpr int64_t U = Tile<T>::columns;
  const Geometry& g;
  const RnnArgs& a;
  const RnnGradients& d;
  const int64_t columns, ldg, pitch;
  Panels<T> weights;     // W_hh, panels over P
  Panels<T> projection;  // W_hr, panels over H
  StateBefore<T> h_before, c_before;
  Scratch<T> gates;      // [rows, ldg] gradients of the gates; gru has four: a_n, a_r, a_z, q
  Scratch<T> dh;         // [B, P] gradient of h, carried from step to step
  Scratch<T> dc;         // [B, H]
  Scratch<T> projected;  // [rows, pitch] gradient of the projected output

  Backward(const Geometry& g_, const RnnArgs& a_, const RnnGradients& d_)
      : g(g_), a(a_), d(d_), columns((g.cell == RnnCell::gru ? 4 : g.G) * g.H), ldg(pitch_of(columns)), pitch(pitch_of(g.P)),
        weights(g.rows, g.B, g.cell == RnnCell::gru_before ? g.H : 0, g.G * g.H, ceil_div(g.P, U), 1,
                [&](int64_t p) {
                  return typename Panels<T>::Source{a.w_hh.as<T>() + p * U, g.P, 1, min64(U, g.P - p * U)};
                }),
        projection(g.rows, g.B, 0, g.P, a.w_hr.data ? ceil_div(g.H, U) : 0, 1,
                   [&](int64_t p) {
                     return typename Panels<T>::Source{a.w_hr.as<T>() + p * U, g.H, 1, min64(U, g.H - p * U)};
                   }),
        h_before(g, a.y, a.h0, g.P), c_before(g, g.cell == RnnCell::lstm ? a.extra : a.y, a.c0, g.H),
        gates(g.rows * ldg), dh(g.B * g.P), dc(g.B * g.H), projected(a.w_hr.data ? g.rows * pitch : 0) {
    copy_rows(data_or_null<T>(d.ghn), g.P, dh.data, g.P, g.B, g.P);
    copy_rows(data_or_null<T>(d.gcn), g.H, dc.data, g.H, g.B, g.H);
  }

  void run() {
    for_sequences(g, sizeof(T), [&](int64_t first, int64_t last) {
      const int64_t n = last - first;
      Scratch<T> packed(max64(weights.rows_size(n, g.G * g.H), projection.rows_size(n, g.P)));
      int64_t later = -1;  // the step taken just before
      for (int64_t step = g.T - 1; step >= 0; --step) {
        const int64_t t = g.time(step);
        advance(first, last, later, t, packed.data);
        later = t;
      }
      if (d.dh0.data) advance(first, last, later, -1, packed.data);
    });
    if (d.dh0.data) copy_rows<T>(dh.data, g.P, d.dh0.as<T>(), g.P, g.B, g.P);
    if (d.dc0.data) copy_rows<T>(dc.data, g.H, d.dc0.as<T>(), g.H, g.B, g.H);
    input_gradients();
    recurrent_gradients();
    bias_gradients();
  }

  // Completes the gradient of h by what step `later` (-1: none) sends back, then takes step t (-1: none).
  void advance(int64_t first, int64_t last, int64_t later, int64_t t, T* packed) {
    const int64_t from = later < 0 ? 0 : g.active(later, first, last), n = t < 0 ? 0 : g.active(t, first, last);
    const int64_t K = g.cell == RnnCell::gru_before ? 2 * g.H : g.G * g.H;  // there a_n sends back through r h
    const T* sent = later < 0 ? nullptr : recurrent(g.offset.data[later]);
    products(weights, sent, ldg, packed, 0, K, first, from, n, [&](const T* sum, int64_t b, int64_t u) {
      T* grad = dh.data + b * g.P + u;
      const int64_t m = min64(U, g.P - u), row = t < 0 ? -1 : g.offset.data[t] + b;
      if (b - first < from) add(m, sum, grad);
      if (b - first >= n) return;
      if (d.gy.data) add(m, d.gy.as<T>() + row * g.P + u, grad);
      if (!a.w_hr.data) return cell_row(t, row, b, u, grad);
      std::memcpy(projected.data + row * pitch + u, grad, static_cast<size_t>(m) * sizeof(T));
      std::memset(grad, 0, static_cast<size_t>(m) * sizeof(T));
    });
    if (n == 0) return;
    if (a.w_hr.data)
      products(projection, projected.data + g.offset.data[t] * pitch, pitch, packed, 0, g.P, first, n, 0,
               [&](const T* sum, int64_t b, int64_t u) {
                 const int64_t row = g.offset.data[t] + b;
                 lstm_backward(min64(U, g.H - u), g.H, sum, saved(row) + u, extra(row) + u, c_before(t, b) + u,
                               dc.data + b * g.H + u, grads(row) + u);
               });
    if (g.cell == RnnCell::gru_before)
      products(weights, grads(g.offset.data[t]) + 2 * g.H, ldg, packed, 2 * g.H, g.H, first, n, 0,
               [&](const T* sum, int64_t b, int64_t u) {
                 const int64_t row = g.offset.data[t] + b;
                 gru_before_backward_reset(min64(U, g.H - u), sum, saved(row) + u, h_before(t, b) + u, dh.data + b * g.P + u,
                                           grads(row) + u);
               });
  }

  // For each block of U columns: sums of a[first .. first + from) with rows [k, k + K) of the weights, then
  // finish(sums, sequence, first column) for max(from, n) sequences; sums are valid for the first `from`. `packed` has room for the
  // packed rows.
  template <class F>
  void products(const Panels<T>& w, const T* lhs, int64_t lda, T* packed, int64_t k, int64_t K, int64_t first, int64_t from,
                int64_t n, const F& finish) {
    const int64_t most = max64(from, n);
    const auto rows_of_step = w.rows_of(from > 0 ? lhs + first * lda : nullptr, lda, from, K, packed);
    for_blocks(w.blocks, panels_at_once(min64(most, kPanelRows)), 2 * most * K * U, [&](int64_t block, int64_t count) {
      constexpr int64_t stride = kTileStride<T>;
      alignas(64) T tile[kMostPanels * stride];
      for (int64_t i0 = 0; i0 < most; i0 += kRowBlock) {
        const int64_t rows = min64(most - i0, kRowBlock), with_sums = min64(rows, from - i0);
        if (with_sums > 0)
          w.multiply(rows_of_step, i0, with_sums, block, count, k, K, tile, stride);
        for (int64_t j = 0; j < count; ++j)
          for (int64_t i = 0; i < rows; ++i) finish(tile + j * stride + i * U, first + i0 + i, (block + j) * U);
      }
    });
  }

  static void add(int64_t n, const T* x, T* to) {
    for (int64_t j = 0; j < n; j += Vec<T>::lanes)
      (Vec<T>::load_n(to + j, n - j) + Vec<T>::load_n(x + j, n - j)).store_n(to + j, n - j);
  }

  void cell_row(int64_t t, int64_t row, int64_t b, int64_t u, T* grad) {
    const int64_t n = min64(U, g.H - u);
    T* to = grads(row) + u;
    switch (g.cell) {
      case RnnCell::tanh: simple_backward<false>(n, grad, saved(row) + u, to); break;
      case RnnCell::relu: simple_backward<true>(n, grad, saved(row) + u, to); break;
      case RnnCell::lstm:
        lstm_backward(n, g.H, grad, saved(row) + u, extra(row) + u, c_before(t, b) + u, dc.data + b * g.H + u, to);
        break;
      case RnnCell::gru: return gru_backward(n, g.H, grad, saved(row) + u, h_before(t, b) + u, extra(row) + u, to);
      default: return gru_before_backward_output(n, g.H, grad, saved(row) + u, h_before(t, b) + u, to);
    }
    std::memset(grad, 0, static_cast<size_t>(n) * sizeof(T));  // all of h's influence goes through the gates
  }

  // Calls f(row, first, n): weight rows [row, row + n) belong to columns first ... of the `total` gate gradients that start at
  // `from`. Only gru turns them: its gradients begin with n, its weights with r.
  template <class F>
  void for_weight_rows(int64_t from, int64_t total, const F& f) const {
    const int64_t turned = g.cell == RnnCell::gru ? g.H : 0, N = g.G * g.H;
    for (int64_t done = 0; done < total;) {
      const int64_t row = (from + done + N - turned) % N, n = min64(total - done, N - row);
      f(row, done, n);
      done += n;
    }
  }

  void input_gradients() {
    const T *dg = gates.data, *x = a.x.as<T>(), *w = a.w_ih.as<T>();
    const int64_t N = g.G * g.H, E = g.E;
    if (d.dx.data)
      gemm<T>(
          g.rows, E, N,
          [=, ld = ldg](T* panel, int64_t i, int64_t rows, int64_t k, int64_t kc) {
            pack_a_strided(panel, dg + i * ld + k, ld, 1, rows, kc);
          },
          [=, this](T* panel, int64_t j, int64_t count, int64_t k, int64_t kc) {
            for_weight_rows(k, kc, [&](int64_t row, int64_t first, int64_t n) {
              pack_b_strided(panel + first * U, w + row * E + j, E, 1, count, n);
            });
          },
          d.dx.as<T>(), E);
    if (!d.dw_ih.data) return;
    T* out = d.dw_ih.as<T>();
    Scratch<T> turned(g.cell == RnnCell::gru ? N * E : 0);
    over_rows(dg, ldg, N, E, g.cell == RnnCell::gru ? turned.data : out,
              [=](T* panel, int64_t j, int64_t count, int64_t k, int64_t kc) {
                pack_b_strided(panel, x + k * E + j, E, 1, count, kc);
              });
    if (g.cell == RnnCell::gru)
      for_weight_rows(0, N, [&](int64_t row, int64_t first, int64_t n) {
        std::memcpy(out + row * E, turned.data + first * E, static_cast<size_t>(n * E) * sizeof(T));
      });
  }

  void recurrent_gradients() {
    if (a.w_hr.data && d.dw_hr.data) {
      const T* hidden = a.hidden.as<T>();
      over_rows(projected.data, pitch, g.P, g.H, d.dw_hr.as<T>(),
                [=, H = g.H](T* panel, int64_t j, int64_t count, int64_t k, int64_t kc) {
                  pack_b_strided(panel, hidden + k * H + j, H, 1, count, kc);
                });
    }
    if (!d.dw_hh.data) return;
    Scratch<const T*> before(g.rows);
    for (int64_t t = 0; t < g.T; ++t)
      for (int64_t b = 0; b < g.sizes[t]; ++b) before.data[g.offset.data[t] + b] = h_before(t, b);
    const int64_t whole = g.cell == RnnCell::gru_before ? 2 * g.H : g.G * g.H;
    over_rows(recurrent(0), ldg, whole, g.P, d.dw_hh.as<T>(),
              [rows = before.data](T* panel, int64_t j, int64_t count, int64_t k, int64_t kc) {
                constexpr int64_t C = Tile<T>::columns;
                if (count < C) std::memset(panel, 0, static_cast<size_t>(kc * C) * sizeof(T));
                for (int64_t i = 0; i < kc; ++i)
                  std::memcpy(panel + i * C, rows[k + i] + j, static_cast<size_t>(count) * sizeof(T));
              });
    if (g.cell == RnnCell::gru_before) {
      const T* reset = a.extra.as<T>();
      over_rows(gates.data + whole, ldg, g.H, g.P, d.dw_hh.as<T>() + whole * g.P,
                [=, H = g.H](T* panel, int64_t j, int64_t count, int64_t k, int64_t kc) {
                  pack_b_strided(panel, reset + k * H + j, H, 1, count, kc);
                });
    }
  }

  // out[M, N] = sum over all rows of lhs[row, M] (columns of a wider matrix) times what pack_b gathers.
  template <class PackB>
  void over_rows(const T* lhs, int64_t ld, int64_t M, int64_t N, T* out, const PackB& pack_b) {
    const auto pack_a = [=](T* panel, int64_t i, int64_t rows, int64_t k, int64_t kc) {
      pack_a_strided(panel, lhs + k * ld + i, 1, ld, rows, kc);
    };
    if (sums_are_long(M, N, g.rows)) return gemm_long_k<T>(M, N, g.rows, pack_a, pack_b, out);
    gemm<T, true>(M, N, g.rows, [=](T* panel, int64_t i, int64_t rows, int64_t k, int64_t kc) {
      pack_a_columns(panel, lhs + k * ld + i, ld, rows, kc);
    }, pack_b, out, N);
  }

  void bias_gradients() {
    if (!d.db_ih.data && !d.db_hh.data) return;
    Scratch<T> sums(columns);
    parallel_for(columns, 4 * U, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) sums.data[j] = 0;
      for (int64_t row = 0; row < g.rows; ++row) add(end - begin, grads(row) + begin, sums.data + begin);
    });
    const int64_t N = g.G * g.H;
    if (d.db_hh.data) std::memcpy(d.db_hh.data, sums.data + columns - N, static_cast<size_t>(N) * sizeof(T));
    if (d.db_ih.data)
      for_weight_rows(0, N, [&](int64_t row, int64_t first, int64_t n) {
        std::memcpy(d.db_ih.as<T>() + row, sums.data + first, static_cast<size_t>(n) * sizeof(T));
      });
  }

  T* grads(int64_t row) const { return gates.data + row * ldg; }
  // The G gradients of the recurrent products: the last ones (gru has one more, of a_n, before them).
  const T* recurrent(int64_t row) const { return grads(row) + columns - g.G * g.H; }
  const T* saved(int64_t row) const { return a.gates.as<T>() + row * g.G * g.H; }
  const T* extra(int64_t row) const { return a.extra.as<T>() + row * g.H; }
};

void rnn_backward_impl(const RnnArgs& args, const RnnGradients& d) {
  const Geometry g(args);
  const DType dtype = args.x.dtype;
  const int64_t N = g.G * g.H;
  check_optional(d.gy, dtype, g.rows, g.P, "gy of the wrong shape");
  check_optional(d.ghn, dtype, g.B, g.P, "ghn of the wrong shape");
  check_optional(d.gcn, dtype, g.B, g.H, "gcn of the wrong shape");
  check_optional(d.dx, dtype, g.rows, g.E, "dx of the wrong shape");
  check_optional(d.dw_ih, dtype, N, g.E, "dw_ih of the wrong shape");
  check_optional(d.dw_hh, dtype, N, g.P, "dw_hh of the wrong shape");
  check_vector(d.db_ih, dtype, N, "db_ih of the wrong shape");
  check_vector(d.db_hh, dtype, N, "db_hh of the wrong shape");
  check_optional(d.dw_hr, dtype, g.P, g.H, "dw_hr of the wrong shape");
  check_optional(d.dh0, dtype, g.B, g.P, "dh0 of the wrong shape");
  check_optional(d.dc0, dtype, g.B, g.H, "dc0 of the wrong shape");
  PYDL_CHECK(!d.dw_hr.data || args.w_hr.data, "dw_hr without a projection");
  dtype == DType::f32 ? Backward<float>(g, args, d).run() : Backward<double>(g, args, d).run();
}

PYDL_REGISTER(rnn_backward, rnn_backward_impl);

}  // namespace
}  // namespace pydl
