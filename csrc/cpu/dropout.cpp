#include "cpu/dropout.h"

#include "core/parallel.h"
#include "core/philox_lanes.h"

namespace pydl {
namespace {

constexpr int64_t kLanes = kDropoutGroup / 4;
constexpr int64_t kGrain = 256;  // groups of a parallel chunk

// The words of 16 blocks, first word first.
PYDL_INLINE void philox_group(const Philox& key, uint64_t counter, uint32_t* out) {
  typedef uint32_t Words __attribute__((vector_size(PYDL_VECTOR_BYTES / 2)));
  constexpr int64_t N = kLanes / kWide;
  Wide words[4][N];
  philox_lanes(key, counter, words);
  for (int64_t w = 0; w < 4; ++w)
    for (int64_t j = 0; j < N; ++j) {
      const Words low = __builtin_convertvector(words[w][j], Words);
      std::memcpy(out + w * kLanes + j * kWide, &low, sizeof low);
    }
}

template <class T>
void run(const DropoutArgs& a) {
  using V = Vec<T>;
  typedef uint32_t U __attribute__((vector_size(V::lanes * sizeof(uint32_t))));
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  const int64_t n = a.x.size();
  const double limit = std::nearbyint(a.p * 4294967296.0);
  const bool none = limit >= 4294967296.0;  // p = 1: no 32-bit number reaches the limit
  const uint32_t threshold = none ? 0 : static_cast<uint32_t>(limit);
  const T scale = static_cast<T>(a.scale), shift = static_cast<T>(a.shift), fill = static_cast<T>(a.fill);
  const Philox key(a.seed);
  parallel_for((n + kDropoutGroup - 1) / kDropoutGroup, kGrain, [&](int64_t begin, int64_t end) {
    uint32_t random[kDropoutGroup];
    for (int64_t g = begin; g < end; ++g) {
      const int64_t first = g * kDropoutGroup, count = n - first < kDropoutGroup ? n - first : kDropoutGroup;
      const T* from = x + first;
      T* to = y + first;
      if (none) {
        for (int64_t i = 0; i < count; ++i) to[i] = fill;
        continue;
      }
      philox_group(key, a.offset + static_cast<uint64_t>(g * kLanes), random);
      for (int64_t i = 0; i < count; i += V::lanes) {
        const int64_t k = count - i < V::lanes ? count - i : V::lanes;
        U words;
        std::memcpy(&words, random + i, sizeof words);
        const Mask<T> keep{__builtin_convertvector(words >= threshold, typename Raw<T>::bits)};
        select(keep, V::load_n(from + i, k) * V::splat(scale) + V::splat(shift), V::splat(fill)).store_n(to + i, k);
      }
    }
  });
}

void dropout_elements_impl(const DropoutArgs& a) {
  PYDL_CHECK(a.x.contiguous() && a.y.contiguous() && a.x.size() == a.y.size() && a.x.dtype == a.y.dtype,
             "expected two arrays of one size and dtype in C order");
  PYDL_CHECK(a.p >= 0 && a.p <= 1, "the probability must lie in [0, 1]");
  if (a.x.dtype == DType::f32) return run<float>(a);
  PYDL_CHECK(a.x.dtype == DType::f64, "expected float32 or float64");
  run<double>(a);
}

PYDL_REGISTER(dropout_elements, dropout_elements_impl);

}  // namespace
}  // namespace pydl
