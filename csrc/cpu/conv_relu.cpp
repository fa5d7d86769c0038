// The backward pass of a convolution's ReLU, and the bias gradient in the same pass over memory.
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "cpu/conv.h"

namespace pydl {
namespace {

// Sums are those of a `reduce` over rows, to the bit: bursts of rows within pieces, the pieces pairwise.
constexpr int64_t kPiece = 256, kBurst = 16, kPanel = 4;

// Rows of `columns` <= kPanel vectors of lanes; sums of dx go to `sums`.
template <int64_t Vectors, class T>
void mask_panel(const T* dy, const T* y, T* dx, int64_t rows, int64_t pitch, int64_t columns, T* sums) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes;
  const int64_t last = columns - (Vectors - 1) * L;
  V total[Vectors];
  for (int64_t k = 0; k < Vectors; ++k) total[k] = V::zero();
  for (int64_t r = 0; r < rows;) {
    const int64_t end = r + kBurst < rows ? r + kBurst : rows;
    V a[Vectors];
    for (int64_t k = 0; k < Vectors; ++k) a[k] = V::zero();
    for (; r < end; ++r)
      for (int64_t k = 0; k < Vectors; ++k) {
        const int64_t at = r * pitch + k * L, n = k < Vectors - 1 ? L : last;
        const V d = select(V::load_n(y + at, n) > 0.0, V::load_n(dy + at, n), V::zero());
        d.store_n(dx + at, n);
        a[k] += d;
      }
    for (int64_t k = 0; k < Vectors; ++k) total[k] += a[k];
  }
  for (int64_t k = 0; k < Vectors; ++k) total[k].store_n(sums + k * L, k < Vectors - 1 ? L : last);
}

template <class T>
void mask_piece(const T* dy, const T* y, T* dx, int64_t rows, int64_t channels, T* sums) {
  constexpr int64_t L = Vec<T>::lanes, C = kPanel * L;
  int64_t c = 0;
  for (; c + C <= channels; c += C) mask_panel<kPanel>(dy + c, y + c, dx + c, rows, channels, C, sums + c);
  for (; c < channels; c += L)
    mask_panel<1>(dy + c, y + c, dx + c, rows, channels, channels - c < L ? channels - c : L, sums + c);
}

template <class T>
void mask_only(const T* dy, const T* y, T* dx, int64_t size) {
  using V = Vec<T>;
  parallel_for(size, 32768, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += V::lanes) {
      const int64_t n = end - i;
      select(V::load_n(y + i, n) > 0.0, V::load_n(dy + i, n), V::zero()).store_n(dx + i, n);
    }
  });
}

template <class T>
void relu_gradient(const ReluArgs& a) {
  const T *dy = a.dy.as<T>(), *y = a.y.as<T>();
  T* dx = a.dx.as<T>();
  const int64_t channels = a.channels, size = a.rows * channels;
  if (!a.sums.data) return mask_only(dy, y, dx, size);
  T* sums = a.sums.as<T>();
  const int64_t pieces = a.rows > kPiece ? (a.rows + kPiece - 1) / kPiece : 1;
  Scratch<T> partial(pieces > 1 ? pieces * channels : 0);
  T* to = pieces > 1 ? partial.data : sums;
  parallel_for(pieces, 16384 / (kPiece * channels + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t at = p * kPiece * channels, rest = a.rows - p * kPiece;
      mask_piece(dy + at, y + at, dx + at, rest < kPiece ? rest : kPiece, channels, to + p * channels);
    }
  });
  if (pieces == 1) return;
  parallel_for(channels, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t gap = 1; gap < pieces; gap *= 2)
      for (int64_t p = 0; p + gap < pieces; p += 2 * gap)
        for (int64_t c = begin; c < end; ++c) to[p * channels + c] += to[(p + gap) * channels + c];
    for (int64_t c = begin; c < end; ++c) sums[c] = to[c];
  });
}

void dispatch(const ReluArgs& a) {
  for (const Array* v : {&a.dy, &a.y, &a.dx})
    PYDL_CHECK(v->dtype == a.y.dtype && v->contiguous() && v->size() == a.rows * a.channels, "expected rows x channels");
  PYDL_CHECK(!a.sums.data || (a.sums.dtype == a.y.dtype && a.sums.contiguous() && a.sums.size() == a.channels),
             "sums of the wrong shape or dtype");
  PYDL_CHECK(a.y.dtype == DType::f32 || a.y.dtype == DType::f64, "expected float32 or float64");
  a.y.dtype == DType::f32 ? relu_gradient<float>(a) : relu_gradient<double>(a);
}

PYDL_REGISTER(conv_relu_gradient, dispatch);

}  // namespace
}  // namespace pydl
