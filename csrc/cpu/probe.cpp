#include "cpu/probe.h"

#include "core/parallel.h"
#include "core/simd.h"
#include "cpu/tiles.h"

namespace pydl {
namespace {

using V = Vec<float>;

constexpr int64_t kMany = 1 << 16;  // what the peak is of: large products
[[maybe_unused]] constexpr int64_t kProbeBlocks = 16;
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

#if defined(PYDL_TILES)
// Products on tiles, of which those of all pieces are one of float32 numbers. A call is about as much work as kTileSteps steps of
// the chains.
template <int P>
int64_t tile_rounds(int64_t chunks, int64_t steps) {
  constexpr int64_t kTileSteps = 512;
  const int64_t calls = 1 + steps / kTileSteps;
  parallel_for(chunks, 1, [=](int64_t begin, int64_t end) {
    [[maybe_unused]] const UseTiles<kTileRows> registers{};
    alignas(64) float a[2 * kChunkA<P>] = {}, b[kChunkB<P>] = {}, sums[2 * kTileRows * 2 * kTileColumns];
    for (int64_t i = (end - begin) * calls; i > 0; --i)
      tile_kernel<P, true>(a, kChunkA<P>, 0, b, 0, kProbeBlocks * kTileDepth, kTileDepth, sums);
    g_sink = sums[0];
  });
  return 2 * 2 * kTileRows * 2 * kTileColumns * kTileDepth * kProbeBlocks * chunks * calls;
}
#endif

int64_t fma_rounds(int64_t chunks, int64_t steps) {
  int64_t flops = 0;
  with_product_format<float>(kMany, kMany, kMany, [&](auto format) {
    using Format = decltype(format);
    if constexpr (Format::tiled)
      flops = tile_rounds<Format::pieces>(chunks, steps);
    else
      flops = rounds_of<Format>(chunks, steps);
  });
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
