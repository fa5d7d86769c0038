#include "cpu/warp.h"

#include <cmath>
#include <type_traits>

#include "core/parallel.h"
#include "core/scratch.h"

namespace pydl {
namespace {

constexpr int64_t kGrain = 1 << 14;  // output pixels per chunk

struct Plan {
  int64_t channels, height, width, out_height, out_width;
  const double* matrix;
  const double* fill;
  bool linear;
  WarpBorder border;
};

// Where one output pixel reads: two rows of two neighbouring pixels, and how much of the fill value it gets. A tap that
// lies outside has its weight in `fill`, and a place inside.
template <class A>
struct Tap {
  int64_t at, right, below;  // offset of the first, distances to the others (0 where there is no other)
  A w00, w01, w10, w11, fill;
};

// The two taps along one axis. Kept as plain values so that the compiler can hold them in registers.
struct Axis {
  int64_t first, step;
  double w0, w1, outside;
};

inline double reflected(double p, double last) {
  if (last <= 0) return 0;
  p = std::fmod(std::fabs(p), 2 * last);
  return p > last ? 2 * last - p : p;
}

// NaN and infinities of the map end up outside, or at the first pixel.
inline Axis locate(double p, int64_t size, bool linear, WarpBorder border) {
  const double last = static_cast<double>(size - 1);
  if (!linear) p = std::floor(p + 0.5);
  if (border == WarpBorder::constant) {
    if (!(p > -1 && p < last + 1)) return {0, 0, 0, 0, 1};
  } else {
    if (!std::isfinite(p)) p = 0;
    if (border == WarpBorder::reflect) p = reflected(p, last);
    p = p < 0 ? 0 : (p > last ? last : p);
  }
  const double low = std::floor(p), share = p - low;
  const int64_t first = static_cast<int64_t>(low);
  if (first < 0) return {0, 0, share, 0, 1 - share};
  if (first >= size - 1) return {size - 1, 0, 1 - share, 0, share};
  return {first, 1, 1 - share, share, 0};
}

template <class A>
void find_taps(const Plan& p, int64_t row, Tap<A>* taps) {
  const double* m = p.matrix;
  const double y = static_cast<double>(row);
  for (int64_t column = 0; column < p.out_width; ++column) {
    const double x = static_cast<double>(column);
    const double depth = m[6] * x + m[7] * y + m[8];
    const double scale = depth > 0 ? 1 / depth : NAN;  // behind the viewer there is nothing
    const Axis h = locate((m[0] * x + m[1] * y + m[2]) * scale, p.width, p.linear, p.border);
    const Axis v = locate((m[3] * x + m[4] * y + m[5]) * scale, p.height, p.linear, p.border);
    const double inside = (1 - h.outside) * (1 - v.outside);
    taps[column] = {v.first * p.width + h.first,
                    h.step,
                    v.step * p.width,
                    static_cast<A>(v.w0 * h.w0),
                    static_cast<A>(v.w0 * h.w1),
                    static_cast<A>(v.w1 * h.w0),
                    static_cast<A>(v.w1 * h.w1),
                    static_cast<A>(1 - inside)};
  }
}

template <class T, class A>
inline T rounded(A value) {
  if constexpr (std::is_integral_v<T>) {
    value = value < 0 ? 0 : (value > 255 ? 255 : value);
    return static_cast<T>(value + A{0.5});
  } else {
    return static_cast<T>(value);
  }
}

template <class T, class A>
void linear_row(const Plan& p, const T* x, T* y, A fill, const Tap<A>* taps) {
  for (int64_t i = 0; i < p.out_width; ++i) {
    const Tap<A>& t = taps[i];
    const T* a = x + t.at;
    const T* b = a + t.below;
    const A value = t.w00 * static_cast<A>(a[0]) + t.w01 * static_cast<A>(a[t.right]) + t.w10 * static_cast<A>(b[0]) +
                    t.w11 * static_cast<A>(b[t.right]);
    // Not added where nothing is missing: an infinite or NaN fill value stays outside.
    y[i] = rounded<T>(t.fill > 0 ? value + t.fill * fill : value);
  }
}

template <class T, class A>
void nearest_row(const Plan& p, const T* x, T* y, T fill, const Tap<A>* taps) {
  for (int64_t i = 0; i < p.out_width; ++i) y[i] = taps[i].fill > 0 ? fill : x[taps[i].at];
}

template <class T>
void run(const Plan& p, const T* x, T* y) {
  using A = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const int64_t grain = kGrain / p.out_width + 1;
  // One buffer a chunk, taken before the threads start: they must not throw.
  const int64_t chunks = (p.out_height + grain - 1) / grain;
  Scratch<Tap<A>> buffer(chunks * p.out_width);
  parallel_for(p.out_height, grain, [&](int64_t begin, int64_t end) {
    Tap<A>* taps = buffer.data + begin / grain * p.out_width;
    for (int64_t row = begin; row < end; ++row) {
      find_taps(p, row, taps);
      for (int64_t c = 0; c < p.channels; ++c) {
        const T* from = x + c * p.height * p.width;
        T* to = y + (c * p.out_height + row) * p.out_width;
        if constexpr (std::is_same_v<T, uint8_t> || std::is_floating_point_v<T>) {
          if (p.linear) {
            linear_row<T, A>(p, from, to, static_cast<A>(p.fill[c]), taps);
            continue;
          }
        }
        nearest_row<T, A>(p, from, to, static_cast<T>(p.fill[c]), taps);
      }
    }
  });
}

void check(const WarpArgs& a) {
  PYDL_CHECK(a.x.ndim == 3 && a.y.ndim == 3, "images must be [C, H, W]");
  PYDL_CHECK(a.x.contiguous() && a.y.contiguous(), "images must be in C order");
  PYDL_CHECK(a.x.dtype == a.y.dtype, "input and output of unequal dtype");
  PYDL_CHECK(a.x.shape[0] == a.y.shape[0], "input and output of unequal numbers of channels");
  PYDL_CHECK(a.fill.ndim == 1 && a.fill.shape[0] == a.x.shape[0] && a.fill.contiguous() && a.fill.dtype == DType::f64,
             "fill must be float64, one number a channel");
  PYDL_CHECK(a.y.size() == 0 || a.x.size() > 0, "an empty input");
  PYDL_CHECK(!a.linear || a.x.dtype == DType::f32 || a.x.dtype == DType::f64 || a.x.dtype == DType::u8,
             "bilinear interpolation is for float32, float64 and uint8");
  PYDL_CHECK(a.x.shape[1] < (int64_t{1} << 31) && a.x.shape[2] < (int64_t{1} << 31), "an image of more than 2^31 rows");
  const double* fill = static_cast<const double*>(a.fill.data);
  if (a.x.dtype != DType::f32 && a.x.dtype != DType::f64)
    for (int64_t c = 0; c < a.x.shape[0]; ++c)
      PYDL_CHECK(fill[c] >= (a.x.dtype == DType::u8 ? 0 : -2147483648.0) && fill[c] <= (a.x.dtype == DType::u8 ? 255 : 2147483647.0),
                 "a fill value that the image's dtype cannot hold");
}

void warp_kernel(const WarpArgs& a) {
  check(a);
  if (a.y.size() == 0) return;
  const Plan p{a.x.shape[0], a.x.shape[1], a.x.shape[2],           a.y.shape[1], a.y.shape[2],
               a.matrix,     static_cast<const double*>(a.fill.data), a.linear,     a.border};
  switch (a.x.dtype) {
    case DType::f32: return run(p, a.x.as<float>(), a.y.as<float>());
    case DType::f64: return run(p, a.x.as<double>(), a.y.as<double>());
    case DType::u8: return run(p, a.x.as<uint8_t>(), a.y.as<uint8_t>());
    case DType::i32: return run(p, a.x.as<int32_t>(), a.y.as<int32_t>());
    case DType::i64: return run(p, a.x.as<int64_t>(), a.y.as<int64_t>());
    case DType::boolean: return run(p, a.x.as<bool>(), a.y.as<bool>());
  }
}

}  // namespace

PYDL_REGISTER(warp, &warp_kernel);

}  // namespace pydl
