#include "cpu/random.h"

#include <cmath>

#include "core/parallel.h"
#include "core/philox.h"

namespace pydl {
namespace {

// One block gives two elements, each from 64 bits.
struct Pair {
  double u0, u1;  // uniform in [0, 1), 53 bits
};

Pair uniform_pair(const Philox& philox, uint64_t counter) {
  const auto b = philox(counter);
  const uint64_t x = (uint64_t{b.v[0]} << 32 | b.v[1]) >> 11, y = (uint64_t{b.v[2]} << 32 | b.v[3]) >> 11;
  constexpr double unit = 1.0 / 9007199254740992.0;  // 2^-53
  return {static_cast<double>(x) * unit, static_cast<double>(y) * unit};
}

template <class T>
void fill(const RandomArgs& args) {
  T* out = args.out.as<T>();
  const int64_t n = args.out.size();
  const Philox philox(args.seed);
  const double a = args.a, b = args.b;
  parallel_for(random_blocks(n), 2048, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Pair u = uniform_pair(philox, args.offset + static_cast<uint64_t>(i));
      double x = 0, y = 0;
      switch (args.kind) {
        case Distribution::uniform:
          x = a + (b - a) * u.u0;
          y = a + (b - a) * u.u1;
          break;
        case Distribution::normal: {  // Box and Muller; 1 - u0 is never 0
          const double r = std::sqrt(-2.0 * std::log(1.0 - u.u0)), t = 6.283185307179586476925 * u.u1;
          x = a + b * r * std::cos(t);
          y = a + b * r * std::sin(t);
          break;
        }
        case Distribution::bernoulli:
          x = u.u0 < a;
          y = u.u1 < a;
          break;
      }
      T vx = static_cast<T>(x), vy = static_cast<T>(y);
      if (args.kind == Distribution::uniform) {  // rounding to float32 may reach the open end
        if (vx >= static_cast<T>(b) && b > a) vx = std::nextafter(static_cast<T>(b), static_cast<T>(a));
        if (vy >= static_cast<T>(b) && b > a) vy = std::nextafter(static_cast<T>(b), static_cast<T>(a));
      }
      out[2 * i] = vx;
      if (2 * i + 1 < n) out[2 * i + 1] = vy;
    }
  });
}

void random_fill_impl(const RandomArgs& args) {
  PYDL_CHECK(args.out.contiguous(), "expected a C-ordered array");
  if (args.out.dtype == DType::f32) return fill<float>(args);
  PYDL_CHECK(args.out.dtype == DType::f64, "expected float32 or float64");
  fill<double>(args);
}

PYDL_REGISTER(random_fill, random_fill_impl);

}  // namespace
}  // namespace pydl
