#include "cpu/pool.h"

#include <type_traits>

#include "cpu/pool_windows.h"

namespace pydl {
namespace {

constexpr int64_t kBlock = 4;  // vectors of channels in registers at once

// Tap numbers travel as one byte where they fit and meet the data as integers of its width.
template <class T, class I>
PYDL_INLINE typename Vec<T>::bits load_taps(const I* p, int64_t n, const I* end) {
  constexpr int64_t L = Vec<T>::lanes;
  typedef I Narrow __attribute__((vector_size(Vec<T>::lanes * sizeof(I))));
  Narrow t{};
  if (n >= L || end - p >= L)  // lanes beyond n are read, not used
    std::memcpy(&t, p, sizeof t);
  else
    for (int64_t j = 0; j < n; ++j) t[j] = p[j];
  return __builtin_convertvector(t, typename Vec<T>::bits);
}

template <class T, class I>
PYDL_INLINE void store_taps(typename Vec<T>::bits taps, I* p, int64_t n) {
  constexpr int64_t L = Vec<T>::lanes;
  typedef I Narrow __attribute__((vector_size(Vec<T>::lanes * sizeof(I))));
  const Narrow t = __builtin_convertvector(taps, Narrow);
  if (n >= L) {
    std::memcpy(p, &t, sizeof t);
    return;
  }
  I from[L];
  std::memcpy(from, &t, sizeof t);
  store_pieces(p, from, n, L);
}

// Hands fold.take(i, vector, tap) what a window sees of kVecs vectors of channels, in the order of the taps.
template <class T, int kVecs, class Fold>
PYDL_INLINE void walk(const Cursor& at, const T* image, int64_t n, Fold& fold) {
  using V = Vec<T>;
  const Axis* axis = at.p.axis;
  const Window w0 = at.window(0), w1 = at.window(1), w2 = at.window(2);
  const int64_t channels = at.p.channels, step = axis[2].step * channels;
  for (int64_t k0 = w0.lo; k0 < w0.hi; ++k0)
    for (int64_t k1 = w1.lo; k1 < w1.hi; ++k1) {
      const int64_t i0 = w0.start + k0 * axis[0].step, i1 = w1.start + k1 * axis[1].step;
      const int64_t tap = (k0 * axis[1].taps + k1) * axis[2].taps;
      const T* pixel = image + ((i0 * axis[1].in + i1) * axis[2].in + w2.start) * channels + w2.lo * step;
      for (int64_t k2 = w2.lo; k2 < w2.hi; ++k2, pixel += step)
        for (int i = 0; i < kVecs; ++i)
          fold.take(i, kVecs == 1 ? V::load_n(pixel, n) : V::load(pixel + i * V::lanes), tap + k2);
      fold.end_row();
    }
}

// Calls block(c, n, width) for channels [c0, c1) in blocks of 4, 2 and 1 vectors; n counts only for the last.
template <class T, class Block>
PYDL_INLINE void for_each_block(int64_t c0, int64_t c1, const Block& block) {
  constexpr int64_t L = Vec<T>::lanes;
  int64_t c = c0;
  for (; c + kBlock * L <= c1; c += kBlock * L) block(c, L, std::integral_constant<int, kBlock>());
  for (; c + 2 * L <= c1; c += 2 * L) block(c, L, std::integral_constant<int, 2>());
  for (; c < c1; c += L) block(c, min64(L, c1 - c), std::integral_constant<int, 1>());
}

template <class T, int kVecs, bool kKeepTaps>
struct MaxFold {
  using V = Vec<T>;
  using bits = typename V::bits;
  V best[kVecs];
  bits at[kVecs];

  PYDL_INLINE explicit MaxFold(int64_t first_tap) {
    for (int i = 0; i < kVecs; ++i) {
      best[i] = V::splat(-std::numeric_limits<T>::infinity());
      at[i] = bits{} + static_cast<typename Raw<T>::integer>(first_tap);
    }
  }
  PYDL_INLINE void take(int i, V v, int64_t tap) {
    const Mask<T> wins = (v > best[i]) | is_nan(v);
    best[i] = select(wins, v, best[i]);
    if constexpr (kKeepTaps) at[i] = wins.m ? bits{} + static_cast<typename Raw<T>::integer>(tap) : at[i];
  }
  PYDL_INLINE void end_row() {}
};

template <class T, class I, bool kKeepTaps>
void max_forward(const PoolArgs& a) {
  using V = Vec<T>;
  const Plan p(a);
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  I* taps = kKeepTaps ? a.taps.as<I>() : nullptr;
  const int64_t image = p.inputs() * p.channels;
  for_each_output(p, kBlock * V::lanes, [&](const Cursor& at, int64_t c0, int64_t c1) {
    const int64_t first = at.empty() ? p.taps() : at.first_tap();
    for_each_block<T>(c0, c1, [&](int64_t c, int64_t n, auto width) {
      constexpr int kVecs = decltype(width)::value;
      MaxFold<T, kVecs, kKeepTaps> fold(first);
      walk<T, kVecs>(at, x + at.n * image + c, n, fold);
      const int64_t to = at.pixel * p.channels + c;
      for (int i = 0; i < kVecs; ++i) {
        fold.best[i].store_n(y + to + i * V::lanes, n);
        if constexpr (kKeepTaps) store_taps<T, I>(fold.at[i], taps + to + i * V::lanes, n);
      }
    });
  });
}

template <class T, class I>
void max_scatter(const PoolArgs& a) {
  using V = Vec<T>;
  const Plan p(a);
  const T* y = a.y.as<T>();
  const I *taps = a.taps.as<I>(), *end = taps + a.taps.size();
  const int64_t channels = p.channels, step = p.axis[2].step * channels;
  for_each_input_row(p, a.x.as<T>(), [&](const Cursor& at, T* row, int64_t tap, int64_t lo, int64_t hi) {
    T* first = row + at.window(2).start * channels;
    for (int64_t c = 0; c < channels; c += V::lanes) {
      const int64_t n = min64(channels - c, V::lanes);
      const V g = V::load_n(y + at.pixel * channels + c, n);
      const typename V::bits chosen = load_taps<T, I>(taps + at.pixel * channels + c, n, end);
      for (int64_t k = lo; k < hi; ++k) {
        const Mask<T> here{chosen == static_cast<typename Raw<T>::integer>(tap + k)};
        T* to = first + k * step + c;
        (V::load_n(to, n) + select(here, g, V::zero())).store_n(to, n);
      }
    }
  });
}

// Calls f(offset in y, n, c, flat position of the chosen tap or -1).
template <class I, class F>
void for_each_choice(const PoolArgs& a, const F& f) {
  const Plan p(a);
  const I* taps = a.taps.as<I>();
  const int64_t count = p.taps();
  Scratch<int64_t> offset(count);
  for (int64_t t = 0; t < count; ++t) {
    const int64_t k2 = t % p.axis[2].taps, k1 = t / p.axis[2].taps % p.axis[1].taps, k0 = t / p.axis[2].taps / p.axis[1].taps;
    offset.data[t] = (k0 * p.axis[0].step * p.axis[1].in + k1 * p.axis[1].step) * p.axis[2].in + k2 * p.axis[2].step;
  }
  for_each_output(p, p.channels, [&](const Cursor& at, int64_t c0, int64_t c1) {
    const int64_t start = at.start();
    for (int64_t c = c0; c < c1; ++c) {
      const int64_t to = at.pixel * p.channels + c, tap = taps[to];
      const int64_t flat = tap >= 0 && tap < count ? start + offset.data[tap] : -1;
      f(to, at.n, c, flat >= 0 && flat < p.inputs() ? flat : -1);
    }
  });
}

template <class T, class I>
void max_gather(const PoolArgs& a) {
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  const int64_t inputs = a.x.shape[1] * a.x.shape[2] * a.x.shape[3], channels = a.x.shape[4];
  for_each_choice<I>(a, [&](int64_t to, int64_t n, int64_t c, int64_t flat) {
    y[to] = flat < 0 ? T(0) : x[(n * inputs + flat) * channels + c];
  });
}

template <class I>
void max_indices(const PoolArgs& a) {
  int64_t* y = a.y.as<int64_t>();
  for_each_choice<I>(a, [&](int64_t to, int64_t, int64_t, int64_t flat) { y[to] = flat; });
}

// Rows are summed apart and then added: long windows lose less than in one running sum.
template <class T, int kVecs>
struct SumFold {
  using V = Vec<T>;
  V row[kVecs], total[kVecs];

  PYDL_INLINE SumFold() {
    for (int i = 0; i < kVecs; ++i) row[i] = total[i] = V::zero();
  }
  PYDL_INLINE void take(int i, V v, int64_t) { row[i] += v; }
  PYDL_INLINE void end_row() {
    for (int i = 0; i < kVecs; ++i) {
      total[i] += row[i];
      row[i] = V::zero();
    }
  }
};

template <class T>
void avg_forward(const PoolArgs& a) {
  using V = Vec<T>;
  const Plan p(a);
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  const int64_t image = p.inputs() * p.channels;
  for_each_output(p, kBlock * V::lanes, [&](const Cursor& at, int64_t c0, int64_t c1) {
    const V divisor = V::splat(static_cast<T>(a.divisor ? a.divisor : at.divisor()));
    for_each_block<T>(c0, c1, [&](int64_t c, int64_t n, auto width) {
      constexpr int kVecs = decltype(width)::value;
      SumFold<T, kVecs> fold;
      walk<T, kVecs>(at, x + at.n * image + c, n, fold);
      for (int i = 0; i < kVecs; ++i)
        (fold.total[i] / divisor).store_n(y + at.pixel * p.channels + c + i * V::lanes, n);
    });
  });
}

template <class T>
void avg_backward(const PoolArgs& a) {
  using V = Vec<T>;
  const Plan p(a);
  const T* y = a.y.as<T>();
  const int64_t channels = p.channels, step = p.axis[2].step * channels;
  for_each_input_row(p, a.x.as<T>(), [&](const Cursor& at, T* row, int64_t, int64_t lo, int64_t hi) {
    const V divisor = V::splat(static_cast<T>(a.divisor ? a.divisor : at.divisor()));
    T* first = row + at.window(2).start * channels;
    for (int64_t c = 0; c < channels; c += V::lanes) {
      const int64_t n = min64(channels - c, V::lanes);
      const V share = V::load_n(y + at.pixel * channels + c, n) / divisor;
      for (int64_t k = lo; k < hi; ++k) {
        T* to = first + k * step + c;
        (V::load_n(to, n) + share).store_n(to, n);
      }
    }
  });
}

// Scatter and gather by flat positions that the caller gives: one thread has a block of channels of an image.
template <class T, bool kForward>
bool unpool(const UnpoolArgs& a) {
  const int64_t batch = a.x.shape[0], pixels = a.x.shape[1], channels = a.x.shape[2], size = a.y.shape[1];
  T *x = a.x.as<T>(), *y = a.y.as<T>();
  const int64_t* indices = a.indices.as<int64_t>();
  constexpr int64_t block = 16;
  const int64_t blocks = ceil_div(channels, block);
  bool good = true;
  if (kForward)
    parallel_for(a.y.size(), kPoolGrain, [&](int64_t begin, int64_t end) {
      std::memset(y + begin, 0, static_cast<size_t>(end - begin) * sizeof(T));
    });
  parallel_for(batch * blocks, kPoolGrain / (pixels * min64(block, channels) + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t n = u / blocks, c0 = u % blocks * block, c1 = min64(channels, c0 + block);
      for (int64_t pixel = 0; pixel < pixels; ++pixel)
        for (int64_t c = c0; c < c1; ++c) {
          const int64_t from = (n * pixels + pixel) * channels + c, at = indices[from];
          if (at < 0 || at >= size)
            __atomic_store_n(&good, false, __ATOMIC_RELAXED);
          else if (kForward)
            y[(n * size + at) * channels + c] = x[from];
          else
            x[from] = y[(n * size + at) * channels + c];
        }
    }
  });
  return good;
}

// ---- checks and dispatch
constexpr int64_t kLimit = int64_t{1} << 30;  // keeps every product below from overflowing

void check_array(const Array& a, int ndim) {
  PYDL_CHECK(a.ndim == ndim && a.contiguous(), "expected canonical arrays");
  for (int i = 0; i < ndim; ++i) PYDL_CHECK(a.shape[i] < kLimit, "an axis is too long");
}

void check(const PoolArgs& a, bool with_taps) {
  check_array(a.x, 5);
  check_array(a.y, 5);
  PYDL_CHECK(a.x.shape[0] == a.y.shape[0] && a.x.shape[4] == a.y.shape[4], "batch or channels differ");
  int64_t taps = 1;
  for (int d = 0; d < 3; ++d) {
    const PoolAxis& p = a.axis[d];
    PYDL_CHECK(a.x.shape[d + 1] > 0 && a.y.shape[d + 1] > 0, "an empty spatial axis");
    PYDL_CHECK(p.kernel >= 0 && p.kernel < kLimit && p.stride > 0 && p.stride < kLimit && p.pad >= 0 && p.pad < kLimit &&
                   p.dilation > 0 && p.dilation < kLimit,
               "a kernel size, stride, padding or dilation out of range");
    taps *= p.kernel ? p.kernel : a.x.shape[d + 1] / a.y.shape[d + 1] + 2;
    PYDL_CHECK(taps < kLimit, "a window of more than 2^30 elements");
  }
  if (!with_taps) return;
  check_array(a.taps, 5);
  for (int i = 0; i < 5; ++i) PYDL_CHECK(a.taps.shape[i] == a.y.shape[i], "shape of taps");
  PYDL_CHECK(a.taps.dtype == DType::i32 || (a.taps.dtype == DType::u8 && taps <= 255), "dtype of taps");
}

bool is_float(const Array& a, const Array& b) {
  PYDL_CHECK(a.dtype == b.dtype && (a.dtype == DType::f32 || a.dtype == DType::f64), "expected float32 or float64");
  return a.dtype == DType::f32;
}

bool byte_taps(const PoolArgs& a) { return a.taps.dtype == DType::u8; }

template <class T>
void max_forward_any(const PoolArgs& a) {
  if (!a.taps.data) return max_forward<T, uint8_t, false>(a);
  byte_taps(a) ? max_forward<T, uint8_t, true>(a) : max_forward<T, int32_t, true>(a);
}

void max_forward_impl(const PoolArgs& a) {
  check(a, a.taps.data);
  const bool single = is_float(a.x, a.y);
  if (a.y.size() == 0) return;
  single ? max_forward_any<float>(a) : max_forward_any<double>(a);
}

void max_scatter_impl(const PoolArgs& a) {
  check(a, true);
  const bool single = is_float(a.x, a.y);
  if (a.x.size() == 0) return;
  if (byte_taps(a))
    single ? max_scatter<float, uint8_t>(a) : max_scatter<double, uint8_t>(a);
  else
    single ? max_scatter<float, int32_t>(a) : max_scatter<double, int32_t>(a);
}

void max_gather_impl(const PoolArgs& a) {
  check(a, true);
  const bool single = is_float(a.x, a.y);
  if (a.y.size() == 0) return;
  if (byte_taps(a))
    single ? max_gather<float, uint8_t>(a) : max_gather<double, uint8_t>(a);
  else
    single ? max_gather<float, int32_t>(a) : max_gather<double, int32_t>(a);
}

void max_indices_impl(const PoolArgs& a) {
  check(a, true);
  PYDL_CHECK(a.y.dtype == DType::i64, "indices are int64");
  if (a.y.size() == 0) return;
  byte_taps(a) ? max_indices<uint8_t>(a) : max_indices<int32_t>(a);
}

void avg_forward_impl(const PoolArgs& a) {
  check(a, false);
  const bool single = is_float(a.x, a.y);
  if (a.y.size() == 0) return;
  single ? avg_forward<float>(a) : avg_forward<double>(a);
}

void avg_backward_impl(const PoolArgs& a) {
  check(a, false);
  const bool single = is_float(a.x, a.y);
  if (a.x.size() == 0) return;
  single ? avg_backward<float>(a) : avg_backward<double>(a);
}

template <bool kForward>
bool unpool_impl(const UnpoolArgs& a) {
  check_array(a.x, 3);
  check_array(a.y, 3);
  check_array(a.indices, 3);
  for (int i = 0; i < 3; ++i) {
    PYDL_CHECK(a.indices.shape[i] == a.x.shape[i], "shape of indices");
    PYDL_CHECK(i == 1 || a.y.shape[i] == a.x.shape[i], "batch or channels differ");
  }
  PYDL_CHECK(a.indices.dtype == DType::i64, "indices are int64");
  return is_float(a.x, a.y) ? unpool<float, kForward>(a) : unpool<double, kForward>(a);
}

PYDL_REGISTER(max_pool_forward, max_forward_impl);
PYDL_REGISTER(max_pool_scatter, max_scatter_impl);
PYDL_REGISTER(max_pool_gather, max_gather_impl);
PYDL_REGISTER(max_pool_indices, max_indices_impl);
PYDL_REGISTER(avg_pool_forward, avg_forward_impl);
PYDL_REGISTER(avg_pool_backward, avg_backward_impl);
PYDL_REGISTER(max_unpool_forward, unpool_impl<true>);
PYDL_REGISTER(max_unpool_backward, unpool_impl<false>);

}  // namespace
}  // namespace pydl
