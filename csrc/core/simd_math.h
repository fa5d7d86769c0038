// exp, log, tanh, erf ... on vectors. float32: polynomials of the Cephes library (S. Moshier, netlib.org/cephes), a few
// ULP. float64: the C library lane by lane (gradient checks, not speed).
#pragma once
#include "core/simd.h"

namespace pydl {
namespace {

// t[0] + t[1] x + t[2] x^2 ... joined in pairs (Estrin): the chain of dependent products is log2 N long. Horner's, N long, leaves
// the units waiting for each other: too few vectors are under way at once.
template <class T, size_t N>
PYDL_INLINE Vec<T> join_pairs(const Vec<T> (&t)[N], Vec<T> x) {
  if constexpr (N == 1) {
    return t[0];
  } else {
    Vec<T> half[(N + 1) / 2];
#pragma GCC unroll 8
    for (size_t i = 0; i < N / 2; ++i) half[i] = fma(t[2 * i + 1], x, t[2 * i]);
    if constexpr (N % 2) half[N / 2] = t[N - 1];
    return join_pairs(half, x * x);
  }
}
template <class T, size_t N>
PYDL_INLINE Vec<T> polynomial(Vec<T> x, const T (&c)[N]) {  // highest power first
  Vec<T> t[N];
#pragma GCC unroll 16
  for (size_t i = 0; i < N; ++i) t[i] = Vec<T>::splat(c[N - 1 - i]);
  return join_pairs(t, x);
}

// exp(x) = (1 + q) 2^n with n the integer nearest to x log2(e). `shifted` holds n in its lowest bits.
struct Exponent {
  Vec<float> q, n, shifted;
};
PYDL_INLINE Exponent split_exp(Vec<float> x) {
  constexpr float c[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                         5.0000001201e-1f};
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
  const Vec<float> shifted = x * 1.44269504088896341 + magic, n = shifted - magic;
  const Vec<float> r = (x - n * 0.693359375) - n * -2.12194440e-4;
  return {fma(polynomial(r, c), r * r, r), n, shifted};
}

// exp(x) - 1 and exp(x) as scale * q + (scale - 1) and scale * q + scale: |x| must be below 88. Half the work of the general
// function, which cares for overflow and denormals. NaN stays NaN.
struct Exponential {
  Vec<float> q, scale;
};
PYDL_INLINE Exponential bounded_exp(Vec<float> x) {
  const Exponent e = split_exp(x);
  return {e.q, {(Raw<float>::type)(((Raw<float>::bits)e.shifted.v + 127) << 23)}};
}

PYDL_INLINE Vec<float> exp(Vec<float> x) {
  // Beyond these bounds the result is 0 or Inf anyhow. A NaN stays.
  const Exponent e = split_exp(at_least(at_most(x, 89.0), -104.0));
  const Vec<float> p = e.q + 1.0;
#if defined(__AVX512F__)
  return {_mm512_maskz_scalef_ps(0xffff, p.v, e.n.v)};  // the unmasked form warns of its own unset operand
#else
  // 2^n in two factors, so that denormal results round gradually and 2^128 does not wrap.
  using Bits = Raw<float>::bits;
  const Bits i = __builtin_convertvector(select(is_nan(e.n), Vec<float>::zero(), e.n).v, Bits);
  const Bits half = i >> 1;
  const Vec<float> s0{(Raw<float>::type)((half + 127) << 23)}, s1{(Raw<float>::type)((i - half + 127) << 23)};
  return p * s0 * s1;
#endif
}

PYDL_INLINE Vec<float> log(Vec<float> x) {
  constexpr float c[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,  -1.2420140846e-1f, 1.4249322787e-1f,
                         -1.6668057665e-1f, 2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
  using Bits = Raw<float>::bits;
  const auto denormal = x < 1.17549435e-38;
  const Vec<float> y = select(denormal, x * 8388608.0, x);
  const Bits bits = (Bits)y.v;
  Vec<float> e{__builtin_convertvector(((bits >> 23) & 0xff) - 126, Raw<float>::type)};
  e = select(denormal, e - 23.0, e);
  Vec<float> m{(Raw<float>::type)((bits & 0x007fffff) | 0x3f000000)};  // in [0.5, 1)
  const auto small = m < 0.707106781186547524;
  e = select(small, e - 1.0, e);
  m = select(small, m + m, m) - 1.0;
  const Vec<float> z = m * m;
  Vec<float> r = m * z * polynomial(m, c);
  r = (r + e * -2.12194440e-4) - 0.5 * z;
  r = m + r + e * 0.693359375;
  const Vec<float> inf = Vec<float>::splat(std::numeric_limits<float>::infinity());
  r = select(x == inf, inf, r);
  r = select(x == Vec<float>::zero(), -inf, r);
  return select((x < 0.0) | is_nan(x), Vec<float>::splat(std::numeric_limits<float>::quiet_NaN()), r);
}

PYDL_INLINE Vec<float> tanh(Vec<float> x) {
  constexpr float c[] = {-5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f};
  const Vec<float> a = abs(x), z = x * x;
  const Vec<float> near = fma(polynomial(z, c) * z, x, x);
  const Vec<float> far = copysign(1.0 - 2.0 / (exp(2.0 * a) + 1.0), x);
  return select(a > 0.625, far, near);
}

PYDL_INLINE Vec<float> sigmoid(Vec<float> x) {
  // exp of a negative number only: no overflow, and small results keep their relative precision.
  const Vec<float> e = exp(-abs(x));
  return select(x >= 0.0, Vec<float>::splat(1.0f), e) / (1.0 + e);
}

PYDL_INLINE Vec<float> expm1(Vec<float> x) {
  // exp(x) - 1 loses digits near 0: there expm1(x) = tanh(x/2) * (exp(x) + 1).
  const Vec<float> e = exp(x);
  return select(abs(x) > 0.5, e - 1.0, tanh(0.5 * x) * (e + 1.0));
}

PYDL_INLINE Vec<float> log1p(Vec<float> x) {
  // Correction of Kahan: log(u) * x / (u - 1) with u = 1 + x rounded.
  const Vec<float> u = 1.0 + x, d = u - 1.0;
  const auto tiny = d == Vec<float>::zero();
  const Vec<float> r = log(u) * (x / select(tiny, Vec<float>::splat(1.0f), d));
  const auto infinite = u == Vec<float>::splat(std::numeric_limits<float>::infinity());
  return select(tiny, x, select(infinite, x, r));
}

PYDL_INLINE Vec<float> erf(Vec<float> x) {
  constexpr float t[] = {7.853861353153693e-5f, -8.010193625184903e-4f, 5.188327685732524e-3f, -2.685381193529856e-2f,
                         1.128358514861418e-1f, -3.761262582423300e-1f, 1.128379165726710e+0f};
  constexpr float p[] = {2.326819970068386e-2f,  -1.387039388740657e-1f, 3.687424674597105e-1f,
                         -5.824733027278666e-1f, 6.210004621745983e-1f,  -4.944515323274145e-1f,
                         3.404879937665872e-1f,  -2.741127028184656e-1f, 5.638259427386472e-1f};
  constexpr float r[] = {-1.047766399936249e+1f, 1.297719955372516e+1f,  -7.495518717768503e+0f, 2.921019019210786e+0f,
                         -1.015265279202700e+0f, 4.218463358204948e-1f, -2.820767439740514e-1f, 5.641895067754075e-1f};
  const Vec<float> a = min(abs(x), Vec<float>::splat(10.0f)), z = a * a;  // erf(10) is 1 in float32
  const Vec<float> q = 1.0 / max(a, Vec<float>::splat(1.0f)), y = q * q;
  const Vec<float> tail = exp(-z) * q * select(a < 2.0, polynomial(y, p), polynomial(y, r));
  const Vec<float> far = copysign(1.0 - tail, x);
  return select(is_nan(x), x, select(a > 1.0, far, x * polynomial(z, t)));
}

// 2^x for x below 127; 0 from -127 down (and 0 instead of denormal numbers). NaN stays NaN.
PYDL_INLINE Exponential bounded_exp2(Vec<float> x) {
  constexpr float c[] = {1.5353362e-4f, 1.3398874e-3f, 9.6184373e-3f, 5.5503324e-2f, 2.4022648e-1f, 6.9314720e-1f};
  constexpr float magic = 12582912.0f + 127.0f;  // 1.5 * 2^23 rounds to the nearest integer, 127 is the exponent's bias
  x = at_least(x, -127.0);
  const Vec<float> shifted = x + magic, r = x - (shifted - magic);
  return {polynomial(r, c) * r, {(Raw<float>::type)((Raw<float>::bits)shifted.v << 23)}};
}

// P(X > t) of the normal distribution for t >= 0 as 2^p(t): log2 P is close to a parabola. p by least squares on [0, 8], weighted
// towards the least largest error of P (9e-8 with the roundings; the relative error is below 5e-6 to t = 5.5); beyond 8 it
// falls faster than log2 P.
PYDL_INLINE Exponential normal_tail(Vec<float> t) {
  constexpr float c[] = {-1.408126672e-08f, 4.833652540e-07f,  -6.996544859e-06f, 5.383262709e-05f,
                         -2.042696107e-04f, -1.496000325e-04f, 7.119756508e-03f,  -5.255047053e-02f,
                         -4.591876248e-01f, -1.151107887e+00f, -9.999999384e-01f};
  return bounded_exp2(polynomial(t, c));
}
// x P(X <= x), as max(x, 0) - |x| P(X > |x|): 0 at minus infinity.
PYDL_INLINE Vec<float> gelu(Vec<float> x) {
  const Vec<float> t = at_most(abs(x), 100.0);
  const Exponential tail = normal_tail(t);
  const Vec<float> s = t * tail.scale;
  return max(Vec<float>::zero(), x) - fma(s, tail.q, s);
}
// Its derivative, P(X <= x) + x exp(-x^2 / 2) / sqrt(2 pi).
PYDL_INLINE Vec<float> gelu_slope(Vec<float> x) {
  const Vec<float> y = at_least(at_most(x, 100.0), -100.0);
  const Exponential tail = normal_tail(abs(y)), density = bounded_exp2(-0.72134752044448170368 * y * y);
  const Vec<float> p = fma(tail.q, tail.scale, tail.scale), s = 0.39894228040143267794 * y * density.scale;
  return select(x > 0.0, 1.0 - p, p) + fma(s, density.q, s);
}

PYDL_INLINE Vec<double> exp(Vec<double> x) { return per_lane(x, [](double a) { return std::exp(a); }); }
PYDL_INLINE Vec<double> log(Vec<double> x) { return per_lane(x, [](double a) { return std::log(a); }); }
PYDL_INLINE Vec<double> tanh(Vec<double> x) { return per_lane(x, [](double a) { return std::tanh(a); }); }
PYDL_INLINE Vec<double> expm1(Vec<double> x) { return per_lane(x, [](double a) { return std::expm1(a); }); }
PYDL_INLINE Vec<double> log1p(Vec<double> x) { return per_lane(x, [](double a) { return std::log1p(a); }); }
PYDL_INLINE Vec<double> erf(Vec<double> x) { return per_lane(x, [](double a) { return std::erf(a); }); }
PYDL_INLINE Vec<double> gelu(Vec<double> x) {
  return per_lane(x, [](double a) { return a < -1e3 ? 0.0 : 0.5 * a * std::erfc(a * -0.70710678118654752440); });
}
PYDL_INLINE Vec<double> gelu_slope(Vec<double> x) {
  return per_lane(at_least(at_most(x, 100.0), -100.0), [](double a) {
    return 0.5 * std::erfc(a * -0.70710678118654752440) + a * std::exp(-0.5 * a * a) * 0.39894228040143267794;
  });
}
PYDL_INLINE Vec<double> sigmoid(Vec<double> x) {
  return per_lane(x, [](double a) { return a >= 0 ? 1 / (1 + std::exp(-a)) : std::exp(a) / (1 + std::exp(a)); });
}

}  // namespace
}  // namespace pydl
