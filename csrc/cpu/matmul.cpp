#include "cpu/matmul.h"

#include "cpu/gemm_few.h"

namespace pydl {
namespace {

constexpr int64_t kManyWeights = 1 << 16;  // fewer are packed in no time

// ReLU behind the products that store their sums another way than gemm.
template <class T>
void rectify_rows(int64_t M, int64_t N, T* c, int64_t ldc) {
  parallel_for(M, max64(1, 65536 / max64(1, N)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < N; j += Vec<T>::lanes) {
        T* at = c + i * ldc + j;
        rectify(Vec<T>::load_n(at, N - j)).store_n(at, N - j);
      }
  });
}

template <class T>
void matmul_typed(const MatmulArgs& args) {
  const int64_t M = args.out.shape[1], N = args.out.shape[2], K = args.a.shape[2];
  const T* bias = args.bias.data ? args.bias.as<T>() : nullptr;
  const auto one = [&](int64_t batch) {
    const T* a = args.a.as<T>() + batch * args.a.strides[0];
    const T* b = args.b.as<T>() + batch * args.b.strides[0];
    const int64_t *as = args.a.strides, *bs = args.b.strides;
    const auto pack_a = [=](T* panel, int64_t i, int64_t rows, int64_t k, int64_t kc) {
      pack_a_strided(panel, a + i * as[1] + k * as[2], as[1], as[2], rows, kc);
    };
    const auto pack_b = [=](T* panel, int64_t j, int64_t columns, int64_t k, int64_t kc) {
      pack_b_strided(panel, b + j * bs[2] + k * bs[1], bs[1], bs[2], columns, kc);
    };
    T* out = args.out.as<T>() + batch * args.out.strides[0];
    const int64_t ldc = args.out.strides[1];
    const bool many_weights = N * K >= kManyWeights && as[2] == 1;
    if (many_weights && bs[1] == 1 && M <= kMostRowsOfDots) {
      few_rows_by_dots<T>(M, N, K, a, as[1], b, bs[2], out, ldc, bias);
    } else if (many_weights && bs[1] == 1 && few_rows_fit_panels<T>(M, N, K)) {
      return few_rows_by_panels<T>(M, N, K, a, as[1], b, bs[2], out, ldc, {bias, args.relu});
    } else if (many_weights && bs[2] == 1 && M <= kMostRowsOfAxpy) {
      few_rows_by_axpy<T>(M, N, K, a, as[1], b, bs[1], out, ldc, bias);
    } else if (!bias && ldc == N && sums_are_long(M, N, K)) {
      gemm_long_k<T>(M, N, K, pack_a, pack_b, out);
    } else if (as[1] == 1 && as[2] != 1) {
      const auto pack_columns = [=](T* panel, int64_t i, int64_t rows, int64_t k, int64_t kc) {
        pack_a_columns(panel, a + i + k * as[2], as[2], rows, kc);
      };
      return gemm<T, true>(M, N, K, pack_columns, pack_b, out, ldc, {bias, args.relu}, false, nullptr, bs[2] == 1);
    } else {
      return gemm<T>(M, N, K, pack_a, pack_b, out, ldc, {bias, args.relu}, false, nullptr, bs[2] == 1);
    }
    if (args.relu) rectify_rows<T>(M, N, out, ldc);
  };
  const int64_t batches = args.out.shape[0];
  if (batches == 1) return one(0);
  parallel_for(batches, max64(1, 65536 / max64(1, M * N * K)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) one(i);
  });
}

void matmul_batched_impl(const MatmulArgs& args) {
  const Array &a = args.a, &b = args.b, &out = args.out;
  PYDL_CHECK(a.ndim == 3 && b.ndim == 3 && out.ndim == 3, "expected three axes");
  PYDL_CHECK(a.dtype == b.dtype && a.dtype == out.dtype, "operands of unequal dtype");
  PYDL_CHECK(a.shape[0] == out.shape[0] && b.shape[0] == out.shape[0] && a.shape[1] == out.shape[1] &&
                 b.shape[2] == out.shape[2] && a.shape[2] == b.shape[1],
             "shapes do not fit");
  PYDL_CHECK(out.size() == 0 || out.shape[2] == 1 || out.strides[2] == 1, "rows of the output must be contiguous");
  PYDL_CHECK(!args.bias.data || (args.bias.dtype == out.dtype && args.bias.contiguous() && args.bias.size() == out.shape[2]),
             "bias of the wrong shape or dtype");
  if (out.size() == 0) return;
  if (out.dtype == DType::f32) return matmul_typed<float>(args);
  PYDL_CHECK(out.dtype == DType::f64, "expected float32 or float64");
  matmul_typed<double>(args);
}

PYDL_REGISTER(matmul_batched, matmul_batched_impl);

}  // namespace
}  // namespace pydl
