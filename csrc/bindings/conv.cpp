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

// The numbers of a convolution, converted once for all of its calls.
struct Numbers {
  int64_t stride[3], pad[3], dilation[3], groups;

  Numbers(const Sizes& s, const Sizes& p, const Sizes& d, int64_t g) : groups(g) {
    PYDL_CHECK(s.size() == p.size() && s.size() == d.size() && s.size() >= 1 && s.size() <= 3, "expected one to three sizes");
    for (size_t i = 0; i < 3; ++i) {  // absent axes come first
      const bool absent = i + s.size() < 3;
      stride[i] = absent ? 1 : s[i + s.size() - 3];
      pad[i] = absent ? 0 : p[i + s.size() - 3];
      dilation[i] = absent ? 1 : d[i + s.size() - 3];
    }
  }
};

// (N, C, spatial...) as [N, D, H, W, C], the absent axes of length 1.
Array lifted(const py::handle& array, bool writable = false) {
  Array a = view(array, writable);
  PYDL_CHECK(a.ndim >= 3 && a.ndim <= 5, "expected one to three spatial axes");
  Array r = a;
  r.ndim = 5;
  r.shape[4] = a.shape[1];
  r.strides[4] = a.strides[1];
  for (int d = 0; d < 3; ++d) {
    const int from = d + a.ndim - 3;
    r.shape[d + 1] = from < 2 ? 1 : a.shape[from];
    r.strides[d + 1] = from < 2 ? 0 : a.strides[from];
  }
  return r;
}

// (O, C, spatial...) as [O, C, D, H, W].
Array lifted_weight(const py::handle& array, bool writable = false) {
  Array a = view(array, writable);
  PYDL_CHECK(a.ndim >= 3 && a.ndim <= 5, "expected one to three spatial axes");
  Array r = a;
  r.ndim = 5;
  for (int d = 0; d < 3; ++d) {
    const int from = d + a.ndim - 3;
    r.shape[d + 2] = from < 2 ? 1 : a.shape[from];
    r.strides[d + 2] = from < 2 ? 0 : a.strides[from];
  }
  return r;
}

enum class Writes { x, weight, y };

ConvArgs make_args(Writes writes, const py::object& x, const py::object& weight, const py::object& bias, const py::object& y,
                   const Numbers& numbers) {
  ConvArgs a{};
  a.x = lifted(x, writes == Writes::x);
  a.weight = lifted_weight(weight, writes == Writes::weight);
  a.y = lifted(y, writes == Writes::y);
  a.bias = optional_view(bias);
  a.batch = a.x.shape[0];
  a.channels_in = a.x.shape[4];
  a.channels_out = a.y.shape[4];
  a.groups = numbers.groups;
  a.method = g_method;
  for (int d = 0; d < 3; ++d) {
    a.in[d] = a.x.shape[d + 1];
    a.out[d] = a.y.shape[d + 1];
    a.kernel[d] = a.weight.shape[d + 2];
    a.stride[d] = numbers.stride[d];
    a.pad[d] = numbers.pad[d];
    a.dilation[d] = numbers.dilation[d];
  }
  return a;
}

void check_bias(const ConvArgs& a, int64_t channels) {
  if (!a.bias.data) return;
  PYDL_CHECK(a.bias.ndim == 1 && a.bias.contiguous() && a.bias.shape[0] == channels && a.bias.dtype == a.x.dtype,
             "bias of the wrong shape or dtype");
}

void forward(const py::object& x, const py::object& weight, const py::object& bias, const py::object& y,
             const Numbers& numbers, bool relu, const py::object& norm, const py::object& residual) {
  ConvArgs args = make_args(Writes::y, x, weight, bias, y, numbers);
  args.relu = relu;
  if (!norm.is_none()) {
    const auto parts = norm.cast<py::tuple>();
    PYDL_CHECK(parts.size() == 5, "expected weight, bias, mean, variance and eps");
    Array* const vectors[] = {&args.norm.weight, &args.norm.bias, &args.norm.mean, &args.norm.var};
    for (size_t i = 0; i < 4; ++i) *vectors[i] = optional_view(parts[i]);
    args.norm.eps = parts[4].cast<double>();
  }
  if (!residual.is_none()) args.residual = lifted(residual);
  check_bias(args, args.channels_out);
  launch(conv_forward, args);
}

template <class K>
auto gradient(const K& kernel, Writes writes) {
  return [&kernel, writes](const py::object& x, const py::object& weight, const py::object& bias, const py::object& y,
                           const Numbers& numbers) {
    const ConvArgs args = make_args(writes, x, weight, bias, y, numbers);
    check_bias(args, args.channels_in);
    launch(kernel, args);
  };
}

void relu_gradient(const py::object& dy, const py::object& y, const py::object& dx, const py::object& sums) {
  ReluArgs args{};
  args.dy = lifted(dy);
  args.y = lifted(y);
  args.dx = lifted(dx, true);
  args.sums = optional_view(sums, true);
  args.channels = args.y.shape[4];
  args.rows = args.channels ? args.y.size() / args.channels : 0;
  launch(conv_relu_gradient, args);
}

}  // namespace

PYDL_BINDINGS(conv) {
  using py::arg;
  py::class_<Numbers>(m, "ConvNumbers")
      .def(py::init<const Sizes&, const Sizes&, const Sizes&, int64_t>(), arg("stride"), arg("pad"), arg("dilation"), arg("groups"));
  m.def("conv_forward", &forward, arg("x"), arg("weight"), arg("bias"), arg("y"), arg("numbers"), arg("relu") = false,
        arg("norm") = py::none(), arg("residual") = py::none());
  m.def("conv_data_gradient", gradient(conv_data_gradient, Writes::x));
  m.def("conv_weight_gradient", gradient(conv_weight_gradient, Writes::weight));
  m.def("conv_relu_gradient", &relu_gradient);
  m.def("set_conv_method", &set_method);
  m.def("conv_method", [] { return kMethodNames[static_cast<int>(g_method.load())]; });
}

}  // namespace pydl
