#include "cpu/rnn.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {
namespace {

// (batch_sizes, x, w_ih, w_hh, b_ih, b_hh, w_hr, h0, c0) and (y, hn, cn, gates, extra, hidden).
RnnArgs arguments(int cell, bool reverse, const py::tuple& inputs, const py::tuple& outputs, bool writable) {
  PYDL_CHECK(inputs.size() == 9 && outputs.size() == 6, "expected 9 inputs and 6 outputs");
  RnnArgs args{};
  args.cell = static_cast<RnnCell>(cell);
  args.reverse = reverse;
  Array* const in[] = {&args.batch_sizes, &args.x, &args.w_ih, &args.w_hh, &args.b_ih, &args.b_hh, &args.w_hr, &args.h0,
                       &args.c0};
  Array* const out[] = {&args.y, &args.hn, &args.cn, &args.gates, &args.extra, &args.hidden};
  for (size_t i = 0; i < 9; ++i) *in[i] = optional_view(inputs[i]);
  for (size_t i = 0; i < 6; ++i) *out[i] = optional_view(outputs[i], writable);
  return args;
}

}  // namespace

PYDL_BINDINGS(rnn) {
  m.def("rnn_forward", [](int cell, bool reverse, const py::tuple& inputs, const py::tuple& outputs) {
    const RnnArgs args = arguments(cell, reverse, inputs, outputs, true);
    launch(rnn_forward, args);
  });
  // gradients: (gy, ghn, gcn) given, (dx, dw_ih, dw_hh, db_ih, db_hh, dw_hr, dh0, dc0) wanted.
  m.def("rnn_backward", [](int cell, bool reverse, const py::tuple& inputs, const py::tuple& outputs, const py::tuple& given,
                           const py::tuple& wanted) {
    const RnnArgs args = arguments(cell, reverse, inputs, outputs, false);
    PYDL_CHECK(given.size() == 3 && wanted.size() == 8, "expected 3 given and 8 wanted gradients");
    RnnGradients d{};
    Array* const in[] = {&d.gy, &d.ghn, &d.gcn};
    Array* const out[] = {&d.dx, &d.dw_ih, &d.dw_hh, &d.db_ih, &d.db_hh, &d.dw_hr, &d.dh0, &d.dc0};
    for (size_t i = 0; i < 3; ++i) *in[i] = optional_view(given[i]);
    for (size_t i = 0; i < 8; ++i) *out[i] = optional_view(wanted[i], true);
    launch(rnn_backward, args, d);
  });
  m.def("rnn_take_rows", [](const py::object& x, const py::object& index, double fill, const py::object& out) {
    const Array from = view(x), rows = view(index), to = view(out, true);
    launch(rnn_take_rows, from, rows, fill, to);
  });
}

}  // namespace pydl
