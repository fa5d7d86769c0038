#include "cpu/probe.h"

#include "core/parallel.h"
#include "core/simd.h"
#include "cpu/pairs.h"

namespace pydl {
namespace {

using V = Vec<float>;

constexpr int kChains = 12;  // as many as hide the latency of two units and fit the 16 registers of AVX2
constexpr int64_t kGrain = int64_t{1} << 18;

volatile float g_seed = 0.5f;  // unknown to the compiler: nothing can be computed ahead
volatile float g_sink;

// Multiply-adds of float32, or of pairs where this thread computes in bfloat16.
template <class Format>
int64_t rounds_of(int64_t chunks, int64_t steps) {
  const float seed = g_seed;
  parallel_for(chunks, 1, [=](int64_t begin, int64_t end) {
    const V factor = V::splat(seed), term = V::splat(seed);
    const auto next = [=](V x) {  // pairs cannot be made of a sum, so there the chain is that of the sums
      if constexpr (Format::step == 1) return Format::multiply(x, factor, term);
      return Format::multiply(factor, term, x);
    };
    V chain[kChains];
    for (int k = 0; k < kChains; ++k) chain[k] = V::splat(seed + static_cast<float>(k));
    for (int64_t i = (end - begin) * steps; i > 0; --i)
#pragma GCC unroll 12
      for (int k = 0; k < kChains; ++k) chain[k] = next(chain[k]);
    V total = V::zero();
    for (int k = 0; k < kChains; ++k) total += chain[k];
    g_sink = sum_lanes(total);
  });
  return 2 * Format::step * V::lanes * kChains * chunks * steps;
}

int64_t fma_rounds(int64_t chunks, int64_t steps) {
  int64_t flops = 0;
  with_format<float>([&](auto format) { flops = rounds_of<decltype(format)>(chunks, steps); });
  return flops;
}

float read_all(const float* x, int64_t n) {
  parallel_for(n, kGrain, [=](int64_t begin, int64_t end) {
    V sum[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
    int64_t i = begin;
    for (; i + 4 * V::lanes <= end; i += 4 * V::lanes)
      for (int k = 0; k < 4; ++k) sum[k] += V::load(x + i + k * V::lanes);
    for (; i < end; i += V::lanes) sum[0] += V::load_n(x + i, end - i);
    g_sink = sum_lanes(sum[0] + sum[1] + sum[2] + sum[3]);
  });
  return g_sink;
}

void write_all(float* x, int64_t n) {
  parallel_for(n, kGrain, [=](int64_t begin, int64_t end) {
    const V one = V::splat(1.0f);
    for (int64_t i = begin; i < end; i += V::lanes) one.store_n(x + i, end - i);
  });
}

void triad_all(float* a, const float* b, const float* c, int64_t n) {
  parallel_for(n, kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += V::lanes)
      fma(V::load_n(c + i, end - i), V::splat(2.0f), V::load_n(b + i, end - i)).store_n(a + i, end - i);
  });
}

PYDL_REGISTER(probe_fma, fma_rounds);
PYDL_REGISTER(probe_read, read_all);
PYDL_REGISTER(probe_write, write_all);
PYDL_REGISTER(probe_triad, triad_all);

}  // namespace
}  // namespace pydl
