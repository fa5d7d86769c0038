#include "cpu/conv.h"

#include <atomic>

#include "bindings/array.h"
#include "bindings/tape.h"

namespace pydl {

namespace {

using Sizes = std::vector<int64_t>;

std::atomic<ConvMethod> g_method{ConvMethod::automatic};

constexpr const char* kMethodNames[] = {"automatic", "gemm", "winograd2", "winograd4"};  // in the order of ConvMethod

void set_method(const std::string& name) {
  for (uint8_t i = 0; i < 4; ++i)
    if (name == kMethodNames[i]) {
      g_method = static_cast<ConvMethod>(i);
      return;
    }
  fail("set_conv_method", "unknown method '" + name + "'");
}

ConvArgs make_args(const py::object& x, const py::object& weight, const py::object& bias, const py::object& y,
                   const Sizes& stride, const Sizes& pad, const Sizes& dilation, int64_t groups) {
  ConvArgs a{};
  a.x = view(x);
  a.weight = view(weight);
  a.y = view(y);
  if (!bias.is_none()) a.bias = view(bias);
  PYDL_CHECK(a.x.ndim == 5 && a.weight.ndim == 5 && a.y.ndim == 5, "expected five axes");
  PYDL_CHECK(stride.size() == 3 && pad.size() == 3 && dilation.size() == 3, "expected three sizes");
  a.batch = a.x.shape[0];
  a.channels_in = a.x.shape[4];
  a.channels_out = a.y.shape[4];
  a.groups = groups;
  a.method = g_method;
  for (int d = 0; d < 3; ++d) {
    a.in[d] = a.x.shape[d + 1];
    a.out[d] = a.y.shape[d + 1];
    a.kernel[d] = a.weight.shape[d + 2];
    a.stride[d] = stride[static_cast<size_t>(d)];
    a.pad[d] = pad[static_cast<size_t>(d)];
    a.dilation[d] = dilation[static_cast<size_t>(d)];
  }
  return a;
}

void check_bias(const ConvArgs& a, int64_t channels) {
  if (!a.bias.data) return;
  PYDL_CHECK(a.bias.ndim == 1 && a.bias.contiguous() && a.bias.shape[0] == channels && a.bias.dtype == a.x.dtype,
             "bias of the wrong shape or dtype");
}

void forward(const py::object& x, const py::object& weight, const py::object& bias, const py::object& y, const Sizes& stride,
             const Sizes& pad, const Sizes& dilation, int64_t groups, bool relu, const py::object& norm,
             const py::object& residual) {
  ConvArgs args = make_args(x, weight, bias, y, stride, pad, dilation, groups);
  args.relu = relu;
  if (!norm.is_none()) {
    const auto parts = norm.cast<py::tuple>();
    PYDL_CHECK(parts.size() == 5, "expected weight, bias, mean, variance and eps");
    Array* const vectors[] = {&args.norm.weight, &args.norm.bias, &args.norm.mean, &args.norm.var};
    for (size_t i = 0; i < 4; ++i)
      if (!parts[i].is_none()) *vectors[i] = view(parts[i]);
    args.norm.eps = parts[4].cast<double>();
  }
  if (!residual.is_none()) args.residual = view(residual);
  check_bias(args, args.channels_out);
  launch(conv_forward, args);
}

template <class K>
auto gradient(const K& kernel) {
  return [&kernel](const py::object& x, const py::object& weight, const py::object& bias, const py::object& y,
                   const Sizes& stride, const Sizes& pad, const Sizes& dilation, int64_t groups) {
    const ConvArgs args = make_args(x, weight, bias, y, stride, pad, dilation, groups);
    check_bias(args, args.channels_in);
    launch(kernel, args);
  };
}

void relu_gradient(const py::object& dy, const py::object& y, const py::object& dx, const py::object& sums) {
  ReluArgs args{};
  args.dy = view(dy);
  args.y = view(y);
  args.dx = view(dx);
  PYDL_CHECK(args.y.ndim == 5, "expected five axes");
  if (!sums.is_none()) args.sums = view(sums);
  args.channels = args.y.shape[4];
  args.rows = args.channels ? args.y.size() / args.channels : 0;
  launch(conv_relu_gradient, args);
}

}  // namespace

PYDL_BINDINGS(conv) {
  using py::arg;
  m.def("conv_forward", &forward, arg("x"), arg("weight"), arg("bias"), arg("y"), arg("stride"), arg("pad"), arg("dilation"),
        arg("groups"), arg("relu") = false, arg("norm") = py::none(), arg("residual") = py::none());
  m.def("conv_data_gradient", gradient(conv_data_gradient));
  m.def("conv_weight_gradient", gradient(conv_weight_gradient));
  m.def("conv_relu_gradient", &relu_gradient);
  m.def("set_conv_method", &set_method);
  m.def("conv_method", [] { return kMethodNames[static_cast<int>(g_method.load())]; });
}

}  // namespace pydl
