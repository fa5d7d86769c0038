// What each output of a pooling sees, as tables per axis, and the loops over outputs and inputs built on them. The plain
// and the adaptive form differ only in how the tables are filled.
#pragma once
#include "core/integer.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "cpu/pool.h"

namespace pydl {
namespace {

constexpr int64_t kPoolGrain = 1 << 15;  // elements read per chunk

// Taps [lo, hi) are inside and read start + tap * step; extent is the axis's part of an average's divisor.
struct Window {
  int64_t start, lo, hi, extent;
};

struct Cover {
  int64_t first, last;  // outputs whose windows may hold an input position
};

struct Axis {
  int64_t in, out, taps, step;
  bool tiled;       // every input is seen by exactly one output
  Window* windows;  // [out]
  Cover* covers;    // [in]

  // The tap through which output o sees position i, or -1.
  int64_t tap_of(int64_t o, int64_t i) const {
    const int64_t distance = i - windows[o].start, tap = distance / step;
    return tap * step == distance && tap >= windows[o].lo && tap < windows[o].hi ? tap : -1;
  }
};

class Plan {
 public:
  Axis axis[3];
  int64_t batch, channels;

  explicit Plan(const PoolArgs& a)
      : batch(a.x.shape[0]), channels(a.x.shape[4]), windows_(count(a.y)), covers_(count(a.x)) {
    Window* w = windows_.data;
    Cover* c = covers_.data;
    for (int d = 0; d < 3; ++d) {
      axis[d] = {a.x.shape[d + 1], a.y.shape[d + 1], a.axis[d].kernel, a.axis[d].dilation, true, w, c};
      a.axis[d].kernel ? fill_plain(axis[d], a.axis[d], a.include_pad) : fill_adaptive(axis[d]);
      fill_covers(axis[d]);
      w += axis[d].out;
      c += axis[d].in;
    }
  }
  int64_t taps() const { return axis[0].taps * axis[1].taps * axis[2].taps; }
  int64_t inputs() const { return axis[0].in * axis[1].in * axis[2].in; }
  int64_t outputs() const { return axis[0].out * axis[1].out * axis[2].out; }
  bool tiled() const { return axis[0].tiled && axis[1].tiled && axis[2].tiled; }

 private:
  Scratch<Window> windows_;
  Scratch<Cover> covers_;

  static int64_t count(const Array& a) { return a.shape[1] + a.shape[2] + a.shape[3]; }

  static void fill_plain(Axis& x, const PoolAxis& p, bool include_pad) {
    for (int64_t o = 0; o < x.out; ++o) {
      Window& w = x.windows[o];
      w.start = o * p.stride - p.pad;
      w.lo = w.start < 0 ? min64(p.kernel, ceil_div(-w.start, x.step)) : 0;
      w.hi = w.start < x.in ? min64(p.kernel, (x.in - 1 - w.start) / x.step + 1) : 0;
      w.hi = max64(w.lo, w.hi);
      w.extent = include_pad ? min64(w.start + p.kernel, x.in + p.pad) - w.start : w.hi - w.lo;
    }
  }
  static void fill_adaptive(Axis& x) {
    x.step = 1;
    for (int64_t o = 0; o < x.out; ++o) {
      const int64_t start = o * x.in / x.out, n = ceil_div((o + 1) * x.in, x.out) - start;
      x.windows[o] = {start, 0, n, n};
      x.taps = max64(x.taps, n);
    }
  }
  static void fill_covers(Axis& x) {
    int64_t first = 0, last = -1;
    for (int64_t i = 0; i < x.in; ++i) {
      // The end before clipping: it never falls from one output to the next.
      while (first < x.out && x.windows[first].start + (x.taps - 1) * x.step < i) ++first;
      while (last + 1 < x.out && x.windows[last + 1].start <= i) ++last;
      x.covers[i] = {first, last};
      x.tiled = x.tiled && first == last && x.tap_of(first, i) >= 0;
    }
  }
};

// Where a loop over the outputs stands.
struct Cursor {
  const Plan& p;
  int64_t pixel, n, o[3];

  Cursor(const Plan& plan, int64_t index) : p(plan), pixel(index) {
    for (int d = 2; d >= 0; --d) {
      o[d] = index % p.axis[d].out;
      index /= p.axis[d].out;
    }
    n = index;
  }
  void next() {
    ++pixel;
    for (int d = 2; d >= 0; --d) {
      if (++o[d] < p.axis[d].out) return;
      o[d] = 0;
    }
    ++n;
  }
  const Window& window(int d) const { return p.axis[d].windows[o[d]]; }
  int64_t divisor() const { return window(0).extent * window(1).extent * window(2).extent; }
  int64_t start() const {  // flat position of tap 0, which may lie outside
    return (window(0).start * p.axis[1].in + window(1).start) * p.axis[2].in + window(2).start;
  }
};

// The input that an output sees, as strides from its first element.
template <class T>
struct View {
  const T* first;
  int64_t count[3], stride[3];
  int64_t tap, tap_stride[2];  // of the first element; per step along axes 0 and 1
  int64_t divisor;             // of an average

  View(const Cursor& at, const T* image) : divisor(at.divisor()) {
    const Axis* axis = at.p.axis;
    const Window w0 = at.window(0), w1 = at.window(1), w2 = at.window(2);
    count[0] = w0.hi - w0.lo;
    count[1] = w1.hi - w1.lo;
    count[2] = w2.hi - w2.lo;
    const int64_t row = axis[2].in * at.p.channels;
    stride[0] = axis[0].step * axis[1].in * row;
    stride[1] = axis[1].step * row;
    stride[2] = axis[2].step * at.p.channels;
    tap_stride[0] = axis[1].taps * axis[2].taps;
    tap_stride[1] = axis[2].taps;
    tap = w0.lo * tap_stride[0] + w1.lo * tap_stride[1] + w2.lo;
    first = image + (w0.start * axis[1].in + w1.start) * row + w2.start * at.p.channels + w0.lo * stride[0] + w1.lo * stride[1] +
            w2.lo * stride[2];
  }
  bool empty() const { return count[0] == 0 || count[1] == 0 || count[2] == 0; }

  // Lays what this output and its neighbours see through each tap side by side, in lines `pitch` apart with room for a vector behind
  // the last one, and looks there from now on. They are `step` elements apart; `channels`, at most a vector, is what one sees.
  void lay(int64_t outputs, int64_t step, int64_t channels, T* lines, int64_t pitch) {
    T* line = lines;
    for (int64_t k0 = 0; k0 < count[0]; ++k0)
      for (int64_t k1 = 0; k1 < count[1]; ++k1)
        for (int64_t k2 = 0; k2 < count[2]; ++k2, line += pitch) {
          const T* pixel = first + k0 * stride[0] + k1 * stride[1] + k2 * stride[2];
          for (int64_t o = 0; o < outputs; ++o) Vec<T>::load_n(pixel + o * step, channels).store(line + o * channels);
        }
    first = lines;
    stride[2] = pitch;
    stride[1] = count[2] * stride[2];
    stride[0] = count[1] * stride[1];
  }
};

// The outputs of a row of axis 2 that see their whole window.
inline Cover interior(const Axis& x) {
  int64_t first = 0, last = x.out - 1;
  while (first < x.out && x.windows[first].lo > 0) ++first;
  while (last >= first && x.windows[last].hi < x.taps) --last;
  return {first, last};
}

// Calls f(view, pixel, c0, c1) for every output and every slab of at most `slab` channels. Along a row of outputs with a plain
// `stride` (0: adaptive) the view of the next one that sees its whole window is that of the one before, moved on.
template <class T, class F>
void for_each_output(const Plan& p, int64_t stride, const T* x, int64_t slab, const F& f) {
  const int64_t slabs = ceil_div(p.channels, slab), work = p.taps() * min64(slab, p.channels);
  const int64_t image = p.inputs() * p.channels, step = stride * p.channels;
  const Cover inner = stride ? interior(p.axis[2]) : Cover{0, -1};
  parallel_for(p.batch * p.outputs() * slabs, kPoolGrain / (work + 1) + 1, [&](int64_t begin, int64_t end) {
    Cursor at(p, begin / slabs);
    View<T> view(at, x + at.n * image);
    int64_t c = begin % slabs * slab;
    for (int64_t u = begin; u < end; ++u) {
      f(view, at.pixel, c, min64(p.channels, c + slab));
      c += slab;
      if (c < p.channels || u + 1 == end) continue;
      c = 0;
      at.next();
      if (at.o[2] > inner.first && at.o[2] <= inner.last)
        view.first += step;
      else
        view = View<T>(at, x + at.n * image);
    }
  });
}

// Calls f(cursor, row, tap, lo, hi) for every output that sees part of an input row: its taps tap + [lo, hi) fall on
// row + (start + k * step) * C. A row (or a piece of one) has one writer, so sums need no atomics and are taken in one
// order whatever the thread count. It starts as zeros if `zeroed`; otherwise f must write every element that it is given,
// which is enough where windows tile the input.
template <class T, class F>
void for_each_input_row(const Plan& p, T* x, bool zeroed, const F& f) {
  const Axis &a0 = p.axis[0], &a1 = p.axis[1], &a2 = p.axis[2];
  const int64_t channels = p.channels, piece = min64(a2.in, max64(16, 16384 / (channels + 1)));
  const int64_t pieces = ceil_div(a2.in, piece);
  const int64_t work = piece * channels * max64(1, p.taps() * p.outputs() / p.inputs());
  parallel_for(p.batch * a0.in * a1.in * pieces, kPoolGrain / (work + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t line = u / pieces, i1 = line % a1.in, i0 = line / a1.in % a0.in, n = line / a1.in / a0.in;
      const int64_t begin2 = u % pieces * piece, end2 = min64(a2.in, begin2 + piece);
      T* row = x + line * a2.in * channels;
      if (zeroed) std::memset(row + begin2 * channels, 0, static_cast<size_t>((end2 - begin2) * channels) * sizeof(T));
      for (int64_t o0 = a0.covers[i0].first; o0 <= a0.covers[i0].last; ++o0) {
        const int64_t k0 = a0.tap_of(o0, i0);
        for (int64_t o1 = a1.covers[i1].first; k0 >= 0 && o1 <= a1.covers[i1].last; ++o1) {
          const int64_t k1 = a1.tap_of(o1, i1);
          if (k1 < 0) continue;
          const int64_t first = a2.covers[begin2].first, last = a2.covers[end2 - 1].last;
          Cursor at(p, ((n * a0.out + o0) * a1.out + o1) * a2.out + min64(first, a2.out - 1));
          for (int64_t o2 = first; o2 <= last; ++o2, ++at.pixel, ++at.o[2]) {
            const Window& w = a2.windows[o2];
            int64_t lo = w.lo, hi = w.hi;  // cut to the piece; divisions are rare
            if (w.start + lo * a2.step < begin2) lo = ceil_div(begin2 - w.start, a2.step);
            if (w.start + (hi - 1) * a2.step >= end2) hi = w.start < end2 ? (end2 - 1 - w.start) / a2.step + 1 : 0;
            if (lo < hi) f(at, row, (k0 * a1.taps + k1) * a2.taps, lo, hi);
          }
        }
      }
    }
  });
}

// The outputs that see each position of an axis, in order, and the taps through which they do.
class Watchers {
 public:
  struct Watcher {
    int64_t out, tap;
  };
  explicit Watchers(const Axis& x) : start_(x.in + 1), list_(x.out * x.taps + 1) {
    int64_t n = 0;
    for (int64_t i = 0; i < x.in; ++i) {
      start_.data[i] = n;
      for (int64_t o = x.covers[i].first; o <= x.covers[i].last; ++o) {
        const int64_t tap = x.tap_of(o, i);
        if (tap >= 0) list_.data[n++] = {o, tap};
      }
      most_ = max64(most_, n - start_.data[i]);
    }
    start_.data[x.in] = n;
  }
  const Watcher* begin(int64_t i) const { return list_.data + start_.data[i]; }
  const Watcher* end(int64_t i) const { return list_.data + start_.data[i + 1]; }
  int64_t most() const { return most_; }  // of one position

 private:
  Scratch<int64_t> start_;
  Scratch<Watcher> list_;
  int64_t most_ = 0;
};

}  // namespace
}  // namespace pydl
