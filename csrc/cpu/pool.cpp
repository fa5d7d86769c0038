#include "cpu/pool.h"

#include <type_traits>

#include "cpu/pool_windows.h"

namespace pydl {
namespace {

constexpr int64_t kBlock = 4;  // vectors of channels in registers at once
// Bytes ahead of a load that are asked for: the lines of a window are more streams than the hardware follows by itself.
constexpr int64_t kAhead = 4096;

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
  if constexpr (std::is_same_v<T, float> && std::is_same_v<I, uint8_t>) return widen(t);
  return __builtin_convertvector(t, typename Vec<T>::bits);
}

template <class T, class I>
PYDL_INLINE void store_taps(typename Vec<T>::bits taps, I* p, int64_t n) {
  constexpr int64_t L = Vec<T>::lanes;
  typedef I Narrow __attribute__((vector_size(Vec<T>::lanes * sizeof(I))));
  Narrow t;
  if constexpr (std::is_same_v<T, float> && std::is_same_v<I, uint8_t>)
    t = narrow(taps);
  else
    t = __builtin_convertvector(taps, Narrow);
  if (n >= L) {
    std::memcpy(p, &t, sizeof t);
    return;
  }
  I from[L];
  std::memcpy(from, &t, sizeof t);
  store_pieces(p, from, n, L);
}

// Hands fold.take(i, vector, tap) what a window sees of kVecs vectors, `c` elements from its first, in the order of the taps;
// load(pixel, i) makes them.
template <int kVecs, class T, class Load, class Fold>
PYDL_INLINE void walk(const View<T>& view, int64_t c, const Load& load, Fold& fold) {
  const int64_t step = view.stride[2], count = view.count[2];
  for (int64_t k0 = 0; k0 < view.count[0]; ++k0)
    for (int64_t k1 = 0; k1 < view.count[1]; ++k1) {
      const T* pixel = view.first + c + k0 * view.stride[0] + k1 * view.stride[1];
      const int64_t tap = view.tap + k0 * view.tap_stride[0] + k1 * view.tap_stride[1];
      for (int64_t k2 = 0; k2 < count; ++k2, pixel += step)
#pragma GCC unroll 4
        for (int i = 0; i < kVecs; ++i) {
          __builtin_prefetch(reinterpret_cast<const char*>(pixel + i * Vec<T>::lanes) + kAhead);
          fold.take(i, load(pixel, i), tap + k2);
        }
      fold.end_row();
    }
}

// The loops over the outputs: calls block(view, c, load, to, n, width) for vectors of neighbouring elements of y that
// start at `to` and see what lies `c` elements from the view's first; n elements of the last of `width` vectors count.
// Many channels: a vector is channels of one output, in blocks of 4, 2 and 1 vectors.
template <class T, class Block>
void for_each_channels(const Plan& p, int64_t stride, const T* x, const Block& block) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  constexpr int64_t kManyOutputs = 64;  // fewer (global pooling): threads share the channels
  const int64_t slab = p.batch * p.outputs() < kManyOutputs ? kBlock * L : max64(p.channels, 1);
  for_each_output(p, stride, x, slab, [&](const View<T>& view, int64_t pixel, int64_t c, int64_t c1) {
    const int64_t to = pixel * p.channels;
    const auto whole = [](const T* pixel, int i) { return V::load(pixel + i * V::lanes); };
    for (; c + kBlock * L <= c1; c += kBlock * L)
      block(view, c, whole, to + c, L, std::integral_constant<int, kBlock>());
    for (; c + 2 * L <= c1; c += 2 * L) block(view, c, whole, to + c, L, std::integral_constant<int, 2>());
    for (; c < c1; c += L) {
      const int64_t n = min64(L, c1 - c);
      block(view, c, [n](const T* pixel, int) { return V::load_n(pixel, n); }, to + c, n, std::integral_constant<int, 1>());
    }
  });
}

constexpr int64_t kNearBy = 1 << 14;  // elements that stay in a near cache

// Few channels: a vector is several neighbouring outputs of a row. With a stride, what each tap sees of the row is laid side by
// side first. The border goes output by output.
template <class T, class Block>
void for_each_neighbours(const Plan& p, const T* x, int64_t stride, const Block& block) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes, kPiece = 1024;  // outputs of a row that one thread takes at a time
  const std::integral_constant<int, 1> one;
  const int64_t channels = p.channels, outs = p.axis[2].out, image = p.inputs() * channels;
  const Cover inner = interior(p.axis[2]);
  const int64_t piece = min64(min64(outs, kPiece), stride == 1 ? outs : max64(1, kNearBy / (p.taps() * channels)));
  const int64_t pieces = ceil_div(outs, piece), pitch = piece * channels + L;
  const int64_t rows = p.batch * p.axis[0].out * p.axis[1].out, work = piece * channels * p.taps();
  parallel_for(rows * pieces, kPoolGrain / (work + 1) + 1, [&](int64_t begin, int64_t end) {
    Scratch<T> laid(stride == 1 ? 1 : p.taps() * pitch);
    for (int64_t u = begin; u < end; ++u) {
      const int64_t first = u % pieces * piece, last = min64(outs, first + piece) - 1;
      Cursor at(p, u / pieces * outs + first);
      const T* from = x + at.n * image;
      for (int64_t next; at.o[2] <= last; at.pixel += next - at.o[2], at.o[2] = next) {
        const int64_t to = at.pixel * channels;
        next = at.o[2] + 1;
        View<T> view(at, from);
        if (at.o[2] < inner.first || at.o[2] > inner.last) {
          block(view, 0, [channels](const T* pixel, int) { return V::load_n(pixel, channels); }, to, channels, one);
          continue;
        }
        next = min64(inner.last, last) + 1;
        if (stride > 1) view.lay(next - at.o[2], stride * channels, channels, laid.data, pitch);
        const int64_t count = (next - at.o[2]) * channels;
        for (int64_t e = 0; e < count; e += L) {
          const int64_t n = min64(L, count - e);
          block(view, e, [n](const T* pixel, int) { return V::load_n(pixel, n); }, to + e, n, one);
        }
      }
    }
  });
}

template <class T, class Block>
void for_each_vector(const Plan& p, const PoolAxis& inner, const T* x, const Block& block) {
  const bool few = 2 * p.channels <= Vec<T>::lanes && (inner.stride == 1 || p.taps() * Vec<T>::lanes <= kNearBy);
  if (inner.kernel && few)
    for_each_neighbours<T>(p, x, inner.stride, block);
  else
    for_each_channels<T>(p, inner.kernel ? inner.stride : 0, x, block);
}

// Of equal ones the first stays; NaN beats all.
template <class T>
PYDL_INLINE Mask<T> beats(Vec<T> v, Vec<T> best) {
  return (v > best) | is_nan(v);
}

template <class T, int kVecs, bool kKeepTaps>
struct MaxFold {
  using V = Vec<T>;
  using bits = typename V::bits;
  V best[kVecs];
  bits at[kVecs];

  PYDL_INLINE explicit MaxFold(int64_t first_tap) {
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) {
      best[i] = V::splat(-std::numeric_limits<T>::infinity());
      at[i] = bits{} + static_cast<typename Raw<T>::integer>(first_tap);
    }
  }
  PYDL_INLINE void take(int i, V v, int64_t tap) {
    const Mask<T> wins = beats(v, best[i]);
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
  for_each_vector<T>(p, a.axis[2], x, [&](const View<T>& view, int64_t c, const auto& load, int64_t to, int64_t n, auto width) {
    constexpr int kVecs = decltype(width)::value;
    MaxFold<T, kVecs, kKeepTaps> fold(view.empty() ? p.taps() : view.tap);
    walk<kVecs>(view, c, load, fold);
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) {
      fold.best[i].store_n(y + to + i * V::lanes, n);
      if constexpr (kKeepTaps) store_taps<T, I>(fold.at[i], taps + to + i * V::lanes, n);
    }
  });
}

// Windows that overlap: each input pixel adds up what the outputs that see it send back, in registers.
template <class T, class I>
void max_backward_overlapping(const PoolArgs& a, const Plan& p) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  struct Line {  // a row of outputs that sees the row of inputs
    int64_t first, tap;
  };
  const Axis &a0 = p.axis[0], &a1 = p.axis[1], &a2 = p.axis[2];
  const Watchers seen0(a0), seen1(a1), seen2(a2);
  const int64_t channels = p.channels, row = a2.in * channels;
  const int64_t work = row * max64(1, p.taps() * p.outputs() / p.inputs());
  const bool dense = 2 * p.outputs() > p.inputs();  // with a stride the prefetching below costs more than it gains
  const T* g = a.y.as<T>();
  const I *taps = a.taps.as<I>(), *end = taps + a.taps.size();
  T* dx = a.x.as<T>();
  parallel_for(p.batch * a0.in * a1.in, kPoolGrain / (work + 1) + 1, [&](int64_t begin, int64_t stop) {
    Scratch<Line> lines(seen0.most() * seen1.most() + 1);
    for (int64_t u = begin; u < stop; ++u) {
      const int64_t i1 = u % a1.in, i0 = u / a1.in % a0.in, n = u / a1.in / a0.in;
      int64_t count = 0;
      for (const auto* w0 = seen0.begin(i0); w0 != seen0.end(i0); ++w0)
        for (const auto* w1 = seen1.begin(i1); w1 != seen1.end(i1); ++w1)
          lines.data[count++] = {((n * a0.out + w0->out) * a1.out + w1->out) * a2.out, (w0->tap * a1.taps + w1->tap) * a2.taps};
      const auto vectors = [&](int64_t i2, int64_t c, int64_t rest, auto width) __attribute__((always_inline)) {
        constexpr int kVecs = decltype(width)::value;
        const int64_t m = kVecs > 1 ? L : min64(rest, L);
        V sum[kVecs];
#pragma GCC unroll 4
        for (int i = 0; i < kVecs; ++i) sum[i] = V::zero();
        if (const auto* w2 = seen2.begin(i2); dense && count > 0 && w2 != seen2.end(i2)) {  // the line that is new to this row
          const int64_t from = (lines.data[count - 1].first + w2->out) * channels + c;
#pragma GCC unroll 4
          for (int i = 0; i < kVecs; ++i) __builtin_prefetch(reinterpret_cast<const char*>(g + from + i * L) + kAhead);
          __builtin_prefetch(taps + from + kAhead / static_cast<int64_t>(sizeof(T)));
        }
        for (int64_t l = 0; l < count; ++l)
          for (const auto* w2 = seen2.begin(i2); w2 != seen2.end(i2); ++w2) {
            const int64_t from = (lines.data[l].first + w2->out) * channels + c;
            const auto tap = static_cast<typename Raw<T>::integer>(lines.data[l].tap + w2->tap);
#pragma GCC unroll 4
            for (int i = 0; i < kVecs; ++i) {
              const Mask<T> here{load_taps<T, I>(taps + from + i * L, m, end) == tap};
              sum[i] += select(here, loaded(V::load_n(g + from + i * L, m)), V::zero());
            }
          }
#pragma GCC unroll 4
        for (int i = 0; i < kVecs; ++i) sum[i].store_n(dx + u * row + i2 * channels + c + i * L, m);
      };
      for (int64_t i2 = 0; i2 < a2.in; ++i2) {
        int64_t c = 0;
        for (; c + kBlock * L <= channels; c += kBlock * L) vectors(i2, c, L, std::integral_constant<int, kBlock>());
        for (; c < channels; c += L) vectors(i2, c, channels - c, std::integral_constant<int, 1>());
      }
    }
  });
}

// Windows that tile the input, of few channels: what a row of outputs sends back is laid out tap by tap, a line for each, and copied
// from there pixel by pixel.
template <class T, class I>
void max_backward_tiles(const PoolArgs& a, const Plan& p) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  const Axis &a0 = p.axis[0], &a1 = p.axis[1], &a2 = p.axis[2];
  const int64_t channels = p.channels, row = a2.in * channels, outs = a2.out * channels, pitch = outs + L;
  const T* g = a.y.as<T>();
  const I *taps = a.taps.as<I>(), *end = taps + a.taps.size();
  Scratch<int64_t> place(a2.in);  // of each pixel in the lines
  for (int64_t i = 0; i < a2.in; ++i) {
    const int64_t o = a2.covers[i].first;
    place.data[i] = a2.tap_of(o, i) * pitch + o * channels;
  }
  parallel_for(p.batch * a0.in * a1.in, kPoolGrain / (row + 1) + 1, [&](int64_t begin, int64_t stop) {
    Scratch<T> lines(a2.taps * pitch);
    for (int64_t u = begin; u < stop; ++u) {
      const int64_t i1 = u % a1.in, i0 = u / a1.in % a0.in, n = u / a1.in / a0.in;
      const int64_t o0 = a0.covers[i0].first, o1 = a1.covers[i1].first, first = ((n * a0.out + o0) * a1.out + o1) * outs;
      const int64_t tap = (a0.tap_of(o0, i0) * a1.taps + a1.tap_of(o1, i1)) * a2.taps;
      for (int64_t j = 0; j < outs; j += L) {
        const int64_t m = min64(outs - j, L);
        const V v = V::load_n(g + first + j, m);
        const typename V::bits which = load_taps<T, I>(taps + first + j, m, end);
        for (int64_t k = 0; k < a2.taps; ++k) {
          const Mask<T> here{which == static_cast<typename Raw<T>::integer>(tap + k)};
          select(here, v, V::zero()).store(lines.data + k * pitch + j);
        }
      }
      T* dx = a.x.as<T>() + u * row;
      for (int64_t i = 0; i < a2.in; ++i)  // lanes beyond a pixel are overwritten by the next one
        V::load(lines.data + place.data[i]).store_n(dx + i * channels, min64(L, row - i * channels));
    }
  });
}

template <class T, class I>
void max_scatter(const PoolArgs& a) {
  using V = Vec<T>;
  const Plan p(a);
  const int64_t lines = p.axis[2].taps * (p.axis[2].out * p.channels + V::lanes);
  if (p.tiled() && p.channels < V::lanes && lines <= kNearBy) return max_backward_tiles<T, I>(a, p);
  if (!p.tiled() && p.channels > 2) return max_backward_overlapping<T, I>(a, p);
  const T* y = a.y.as<T>();
  const I *taps = a.taps.as<I>(), *end = taps + a.taps.size();
  const int64_t channels = p.channels, step = p.axis[2].step * channels;
  const bool few = channels <= 2;
  for_each_input_row(p, a.x.as<T>(), few, [&](const Cursor& at, T* row, int64_t tap, int64_t lo, int64_t hi) {
    T* first = row + at.window(2).start * channels;
    const T* from = y + at.pixel * channels;
    const I* chosen = taps + at.pixel * channels;
    for (int64_t c = 0; few && c < channels; ++c) {
      const int64_t k = chosen[c] - tap;  // no branch on data: a guess would be wrong half of the time
      const bool here = (k >= lo) & (k < hi);
      const T pick[2] = {T(0), from[c]};
      first[(lo + here * (k - lo)) * step + c] += pick[here];
    }
    for (int64_t c = 0; !few && c < channels; c += V::lanes) {
      const int64_t n = min64(channels - c, V::lanes);
      const V g = V::load_n(from + c, n);
      const typename V::bits which = load_taps<T, I>(chosen + c, n, end);
      for (int64_t k = lo; k < hi; ++k) {
        const Mask<T> here{which == static_cast<typename Raw<T>::integer>(tap + k)};
        select(here, g, V::zero()).store_n(first + k * step + c, n);
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
  parallel_for(p.batch * p.outputs(), kPoolGrain / (p.channels + 1) + 1, [&](int64_t begin, int64_t end) {
    for (Cursor at(p, begin); at.pixel < end; at.next()) {
      const int64_t start = at.start();
      for (int64_t c = 0; c < p.channels; ++c) {
        const int64_t to = at.pixel * p.channels + c, tap = taps[to];
        const int64_t flat = tap >= 0 && tap < count ? start + offset.data[tap] : -1;
        f(to, at.n, c, flat >= 0 && flat < p.inputs() ? flat : -1);
      }
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
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) row[i] = total[i] = V::zero();
  }
  PYDL_INLINE void take(int i, V v, int64_t) { row[i] += v; }
  PYDL_INLINE void end_row() {
#pragma GCC unroll 4
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
  for_each_vector<T>(p, a.axis[2], x, [&](const View<T>& view, int64_t c, const auto& load, int64_t to, int64_t n, auto width) {
    constexpr int kVecs = decltype(width)::value;
    const V divisor = V::splat(static_cast<T>(a.divisor ? a.divisor : view.divisor));
    SumFold<T, kVecs> fold;
    walk<kVecs>(view, c, load, fold);
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) (fold.total[i] / divisor).store_n(y + to + i * V::lanes, n);
  });
}

template <class T>
void avg_backward(const PoolArgs& a) {
  using V = Vec<T>;
  const Plan p(a);
  const T* y = a.y.as<T>();
  const int64_t channels = p.channels, step = p.axis[2].step * channels;
  const bool few = 2 * channels <= V::lanes, add = !p.tiled();
  for_each_input_row(p, a.x.as<T>(), add, [&](const Cursor& at, T* row, int64_t, int64_t lo, int64_t hi) {
    const T divisor = static_cast<T>(a.divisor ? a.divisor : at.divisor());
    T* first = row + at.window(2).start * channels;
    const T* from = y + at.pixel * channels;
    for (int64_t c = 0; few && c < channels; ++c) {
      const T share = from[c] / divisor;
      for (int64_t k = lo; k < hi; ++k) first[k * step + c] = add ? first[k * step + c] + share : share;
    }
    for (int64_t c = 0; !few && c < channels; c += V::lanes) {
      const int64_t n = min64(channels - c, V::lanes);
      const V share = V::load_n(from + c, n) / V::splat(divisor);
      for (int64_t k = lo; k < hi; ++k) {
        T* to = first + k * step + c;
        (add ? V::load_n(to, n) + share : share).store_n(to, n);
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
