// Recurrent networks over a whole sequence: one layer, one direction, forward and backpropagation through time.
//
// Rows are (time, sequence) pairs in time order: step t holds the sequences 0 .. batch_sizes[t] - 1, longest first, so a
// padded batch of equal lengths and a packed ragged batch are the same thing. G gates, H hidden units, E inputs,
// P outputs (H, or the size of the projection), B sequences.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

// gru: reset gate applied after the recurrent product (PyTorch, cuDNN); gru_before: before it (Cho et al. 2014).
enum class RnnCell : int { tanh, relu, lstm, gru, gru_before };
constexpr int kRnnCells = 5;

// All arrays contiguous and of one dtype. Gate order: LSTM i f g o, GRU r z n. "or none": no data.
struct RnnArgs {
  RnnCell cell;
  bool reverse;       // from the last step of each sequence to the first
  Array batch_sizes;  // int64 [T], falling
  Array x;            // [rows, E]
  Array w_ih, w_hh;   // [G H, E], [G H, P]
  Array b_ih, b_hh;   // [G H], or both none
  Array w_hr;         // [P, H], or none
  Array h0, c0;       // [B, P], [B, H], or none (zeros)
  Array y;            // [rows, P]
  Array hn, cn;       // [B, P], [B, H] (LSTM only)
  // Written by forward, read by backward.
  Array gates;        // [rows, G H] after their nonlinearities; for tanh and relu the same memory as y
  Array extra;        // [rows, H] LSTM: cell state; gru: recurrent part of n; gru_before: r * h; none for tanh, relu
  Array hidden;       // [rows, H] output before the projection, or none
};

struct RnnGradients {
  Array gy, ghn, gcn;  // of the outputs; none is zero
  // Overwritten; none is not wanted.
  Array dx, dw_ih, dw_hh, db_ih, db_hh, dw_hr, dh0, dc0;
};

PYDL_KERNEL(rnn_forward, void(const RnnArgs& args));
PYDL_KERNEL(rnn_backward, void(const RnnArgs& args, const RnnGradients& gradients));

// out[i] = x[index[i]], a whole row; rows of `fill` where the index is negative. Contiguous, float32 or float64.
PYDL_KERNEL(rnn_take_rows, void(const Array& x, const Array& index, double fill, const Array& out));

}  // namespace pydl
