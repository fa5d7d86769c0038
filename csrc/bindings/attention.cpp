#include "cpu/attention.h"

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

namespace {

AttentionArgs attention_args(const py::object& q, const py::object& k, const py::object& v, const py::object& mask, double scale,
                             const py::object& causal_offset, double dropout, uint64_t seed, uint64_t offset,
                             const py::object& out, const py::object& log_sum) {
  AttentionArgs a{};
  a.q = view(q);
  a.k = view(k);
  a.v = view(v);
  a.mask = optional_view(mask);
  a.scale = scale;
  a.causal = !causal_offset.is_none();
  a.causal_offset = a.causal ? causal_offset.cast<int64_t>() : 0;
  a.dropout = dropout;
  a.seed = seed;
  a.offset = offset;
  a.out = view(out, true);
  a.log_sum = view(log_sum, true);
  return a;
}

}  // namespace

PYDL_BINDINGS(attention) {
  m.def("attention", [](const py::object& q, const py::object& k, const py::object& v, const py::object& mask, double scale,
                        const py::object& causal_offset, double dropout, uint64_t seed, uint64_t offset, const py::object& out,
                        const py::object& log_sum) {
    const AttentionArgs args = attention_args(q, k, v, mask, scale, causal_offset, dropout, seed, offset, out, log_sum);
    if (dropout > 0)
      launch_random(attention_forward, args, [](AttentionArgs& a) -> AttentionArgs& { return a; });
    else
      launch(attention_forward, args);
  });
  m.def("attention_backward", [](const py::object& q, const py::object& k, const py::object& v, const py::object& mask,
                                 double scale, const py::object& causal_offset, double dropout, uint64_t seed, uint64_t offset,
                                 const py::object& out, const py::object& log_sum, const py::object& grad, const py::object& dq,
                                 const py::object& dk, const py::object& dv, const py::object& dmask) {
    AttentionGradArgs args{};
    args.forward = attention_args(q, k, v, mask, scale, causal_offset, dropout, seed, offset, out, log_sum);
    args.grad = view(grad);
    args.dq = view(dq, true);
    args.dk = view(dk, true);
    args.dv = view(dv, true);
    args.dmask = optional_view(dmask, true);
    if (dropout > 0)
      launch_random(attention_backward, args, [](AttentionGradArgs& a) -> AttentionArgs& { return a.forward; });
    else
      launch(attention_backward, args);
  });
  m.def("attention_random_blocks", &attention_random_blocks);
}

}  // namespace pydl
