// Float32 products on the tile registers of AMX, which multiply bfloat16 numbers only. Internal linkage: compiled for the level amx.
//
// A float32 number is the sum of P bfloat16 pieces: the number rounded, what is left of it rounded, and so on. With P = 3 nothing
// but the last bit is left, and of the nine products of pieces the six largest give float32 accuracy; with P = 2 and three
// products 16 bits are kept; with P = 1 the numbers are bfloat16. Sums are float32 throughout.
//   Error of P = 3: pieces are at most 1, 2^-9 and 2^-18 of a number, and 2^-27 of it may be left. So what is left out of a
//   product a b is below 2^-25 |a b|, half of what float32 rounds away at a single addition.
// Tiles have no gradual underflow: pieces, products and sums below 2^-126 become 0. So rows and columns of a panel whose
// largest number is below 2^-50 are not for tiles, and neither are sums that are not finite (infinite factors have no pieces;
// numbers near the largest round to infinity): there, callers compute the numbers by float32 FMA instead (gemm.h).
#pragma once
#include <type_traits>

#include "cpu/pairs.h"

namespace pydl {
namespace {

constexpr int64_t kTileRows = 14;      // of a panel of A (gemm.h), so that both kinds of kernel have panels of one shape
constexpr int64_t kMostTileRows = 16;  // where panels of A are made for tiles alone (rnn_panels.h)

constexpr int64_t kTileDepth = 32;     // numbers along k that one instruction multiplies

#if defined(PYDL_TILES)
// Packed factors of P pieces; panels are counted in numbers.
template <int P>
struct Tiles {
  static constexpr int64_t step = 1;
  static constexpr bool tiled = true;
  static constexpr int pieces = P;
  // Of prototypes on a CPU with AMX: 515, 845 and 1800 GFLOP/s at 1024^3 and above, FMA 400.
  static constexpr double cost = P == 3 ? 0.78 : P == 2 ? 0.47 : 0.22;
};

// The registers: four tiles of sums, two of A and two of B. A tile has 16 rows of 64 bytes: sums of 16 columns; 32 numbers
// along k of a row of A; 16 pairs along k of B, each for 16 columns. Of A and sums, as many rows are in use as a panel of A has.
constexpr int kSumTiles = 0, kTileA = 4, kTileB = 6;
constexpr int64_t kTileColumns = 16;
constexpr int64_t kTileFloats = 16;      // of a row

#if defined(PYDL_EMULATE_TILES)
// The same registers in memory, multiplied by AVX512-BF16: for tests where the CPU has no tiles. (Its sums run over even and odd k
// together; those of AMX meet at the end of an instruction.)
struct TileRegisters {
  alignas(64) float row[8][kMostTileRows][kTileFloats];
  int64_t rows;  // in use, of A and sums
};
thread_local TileRegisters t_tiles;

inline int64_t tile_rows(int n) { return n < kTileB ? t_tiles.rows : kMostTileRows; }

template <int N>
PYDL_INLINE void tile_load(const float* from) {
  std::memcpy(t_tiles.row[N], from, tile_rows(N) * 64);
}
template <int N>
PYDL_INLINE void tile_store(float* to, int64_t ld) {
  for (int64_t i = 0; i < tile_rows(N); ++i) std::memcpy(to + i * ld, t_tiles.row[N][i], 64);
}
template <int N>
PYDL_INLINE void tile_zero() {
  std::memset(t_tiles.row[N], 0, sizeof t_tiles.row[N]);
}
template <int C, int A, int B>
PYDL_INLINE void tile_multiply() {
  for (int64_t i = 0; i < t_tiles.rows; ++i) {
    Vec<float> sum = Vec<float>::zero();  // an instruction's products are summed before they are added
    for (int64_t k = 0; k < kTileDepth / 2; ++k)
      sum = Pairs::multiply(Pairs::splat(t_tiles.row[A][i] + k), Vec<float>::load(t_tiles.row[B][k]), sum);
    (Vec<float>::load(t_tiles.row[C][i]) + sum).store(t_tiles.row[C][i]);
  }
}
template <int R>
struct UseTiles {
  UseTiles() { t_tiles.rows = R; }
};
#else
// The compiler knows nothing of tiles, so each instruction is spelled out; "memory" keeps them in order with what was stored.
template <int N>
PYDL_INLINE void tile_load(const float* from) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(int64_t{64}), "i"(N) : "memory");
}
template <int N>
PYDL_INLINE void tile_store(float* to, int64_t ld) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(4 * ld), "i"(N) : "memory");
}
template <int N>
PYDL_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(N));
}
template <int C, int A, int B>
PYDL_INLINE void tile_multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}

// Shapes of the tiles, as the instruction wants them.
template <int R>
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {R, R, R, R, R, R, kMostTileRows, kMostTileRows};
};
static_assert(sizeof(TileConfig<kTileRows>) == 64);

// A thread's tiles, with R rows of A and sums, are in use as long as this lives: switching between threads saves 8 KB more then.
template <int R>
struct UseTiles {
  UseTiles() {
    static constexpr TileConfig<R> config;
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  UseTiles(const UseTiles&) = delete;
  UseTiles& operator=(const UseTiles&) = delete;
  ~UseTiles() { asm volatile("tilerelease"); }
};
#endif

// Which pieces of A and B are multiplied, in an order in which each product shares a factor with the one before.
struct Product {
  int a, b;
};
template <int P> constexpr Product kProducts[] = {{0, 0}};
template <> constexpr Product kProducts<2>[] = {{1, 0}, {0, 0}, {0, 1}};
template <> constexpr Product kProducts<3>[] = {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 0}, {0, 2}};

// Elements (of 4 bytes) of 32 numbers along k: [piece][row of A], [piece][half of the columns][pair].
template <int P, int R = kTileRows> constexpr int64_t kChunkA = P * R * kTileFloats;
template <int P> constexpr int64_t kChunkB = P * 2 * (kTileDepth / 2) * kTileFloats;

// One product of pieces (number I of the list) of two panels of A (one, if not kTwo) and both halves of B.
template <int P, int I, bool kTwo, int R>
PYDL_INLINE void multiply_pieces(const float* a, const float* next_a, const float* b) {
  constexpr Product now = kProducts<P>[I], before = kProducts<P>[I > 0 ? I - 1 : 0];
  constexpr int64_t half = kTileDepth / 2 * kTileFloats;
  if constexpr (I == 0 || now.b != before.b) {
    tile_load<kTileB>(b + 2 * now.b * half);
    tile_load<kTileB + 1>(b + (2 * now.b + 1) * half);
  }
  if constexpr (I == 0 || now.a != before.a) {
    constexpr int64_t piece = now.a * R * kTileFloats;
    tile_load<kTileA>(a + piece);
    if constexpr (kTwo) tile_load<kTileA + 1>(next_a + piece);
  }
  tile_multiply<kSumTiles, kTileA, kTileB>();
  tile_multiply<kSumTiles + 1, kTileA, kTileB + 1>();
  if constexpr (kTwo) {
    tile_multiply<kSumTiles + 2, kTileA + 1, kTileB>();
    tile_multiply<kSumTiles + 3, kTileA + 1, kTileB + 1>();
  }
}

// sums[panel][row][2 x 16 columns] = A B for one or two panels of A, a_stride elements apart, and a panel of B; K numbers are
// summed, in blocks whose panels are `a_block` and `b_block` elements apart. The registers must have R rows.
template <int P, bool kTwo, int R = kTileRows>
[[gnu::noinline]] void tile_kernel(const float* a, int64_t a_stride, int64_t a_block, const float* b, int64_t b_block, int64_t K,
                                   int64_t block, float* sums) {
  constexpr int64_t ld = 2 * kTileColumns;
  tile_zero<kSumTiles>();
  tile_zero<kSumTiles + 1>();
  tile_zero<kSumTiles + 2>();
  tile_zero<kSumTiles + 3>();
  for (; K > 0; K -= block, a += a_block, b += b_block)
    for (int64_t k = 0; k * kTileDepth < (K < block ? K : block); ++k) {
      const float *one = a + k * kChunkA<P, R>, *of_b = b + k * kChunkB<P>;
      [&]<int... I>(std::integer_sequence<int, I...>) {
        (multiply_pieces<P, I, kTwo, R>(one, one + a_stride, of_b), ...);
      }(std::make_integer_sequence<int, sizeof(kProducts<P>) / sizeof(Product)>{});
    }
  tile_store<kSumTiles>(sums, ld);
  tile_store<kSumTiles + 1>(sums + kTileColumns, ld);
  if constexpr (kTwo) {
    tile_store<kSumTiles + 2>(sums + R * ld, ld);
    tile_store<kSumTiles + 3>(sums + R * ld + kTileColumns, ld);
  }
}

typedef uint16_t Halves __attribute__((vector_size(32)));

// f(piece, numbers) for each of the P pieces of two vectors: the 32 numbers of `low` and `high`, one after another.
template <int P, class F>
PYDL_INLINE void split(Vec<float> low, Vec<float> high, const F& f) {
#pragma GCC unroll 3
  for (int p = 0; p < P; ++p) {
    const auto piece = (__m512i)_mm512_cvtne2ps_pbh(high.v, low.v);
    f(p, piece);
    const auto number = [](Halves h) {
      return Vec<float>{(Raw<float>::type)(__builtin_convertvector(h, Raw<float>::bits) << 16)};
    };
    const auto half = [&](int64_t i) {
      Halves h;
      std::memcpy(&h, reinterpret_cast<const char*>(&piece) + i * sizeof h, sizeof h);
      return h;
    };
    low = low - number(half(0));
    high = high - number(half(1));
  }
}

// Whether the numbers are so small that tiles lose bits of them: zeros are not.
PYDL_INLINE bool any_tiny(Vec<float> largest) {
  const __mmask16 small = _mm512_cmp_ps_mask(largest.v, _mm512_set1_ps(0x1p-50f), _CMP_LT_OQ);
  return _mm512_mask_cmp_ps_mask(small, largest.v, _mm512_setzero_ps(), _CMP_GT_OQ) != 0;
}

// The pieces of a row of a panel of A, n numbers along k; zeros fill the last chunk. Returns whether the row is tiny.
template <int P, int R = kTileRows>
bool split_row(const float* from, int64_t n, float* to) {
  constexpr int64_t L = Vec<float>::lanes;
  Vec<float> largest = Vec<float>::zero();
  for (int64_t k = 0; k < n; k += kTileDepth, from += kTileDepth, to += kChunkA<P, R>) {
    const Vec<float> low = Vec<float>::load_n(from, n - k);
    const Vec<float> high = n - k > L ? Vec<float>::load_n(from + L, n - k - L) : Vec<float>::zero();
    if constexpr (P > 1) largest = max(largest, max(abs(low), abs(high)));
    split<P>(low, high, [&](int p, __m512i piece) { _mm512_store_si512(to + p * R * kTileFloats, piece); });
  }
  return P > 1 && any_tiny(Vec<float>::splat(max_lanes(largest)));
}

// The pieces of a panel of A: rows of `pitch` numbers, of which n along k count. Returns whether a row is tiny.
template <int P>
bool split_rows(const float* from, int64_t pitch, int64_t n, float* to) {
  bool tiny = false;
  for (int64_t i = 0; i < kTileRows; ++i) tiny |= split_row<P>(from + i * pitch, n, to + i * kTileFloats);
  return tiny;
}

// The pieces of a panel of B: n rows of 32 columns become pairs of rows; zeros fill the last chunk.
template <int P>
bool split_columns(const float* from, int64_t n, float* to) {
  constexpr int64_t columns = 2 * kTileColumns, half = kTileDepth / 2 * kTileFloats;
  Vec<float> largest[2] = {Vec<float>::zero(), Vec<float>::zero()};
  for (int64_t k = 0; k < (n + kTileDepth - 1) / kTileDepth * kTileDepth; k += 2)
    for (int64_t h = 0; h < 2; ++h) {
      const float* at = from + k * columns + h * kTileColumns;
      const Vec<float> first = k < n ? Vec<float>::load(at) : Vec<float>::zero();
      const Vec<float> second = k + 1 < n ? Vec<float>::load(at + columns) : Vec<float>::zero();
      if constexpr (P > 1) largest[h] = max(largest[h], max(abs(first), abs(second)));
      float* pair = to + k / kTileDepth * kChunkB<P> + h * half + k % kTileDepth / 2 * kTileFloats;
      split<P>(first, second, [&](int p, __m512i piece) { _mm512_store_si512(pair + 2 * p * half, interleaved(piece)); });
    }
  return P > 1 && (any_tiny(largest[0]) || any_tiny(largest[1]));
}

// Whether all sums, of a panel or of n / 32 rows, are finite.
inline bool all_finite(const float* sums, int64_t n = kTileRows * 2 * kTileColumns) {
  constexpr int64_t L = Vec<float>::lanes;
  Vec<float> none = Vec<float>::zero();  // x - x is 0, or NaN
  for (int64_t i = 0; i < n; i += L) {
    const Vec<float> x = Vec<float>::load(sums + i);
    none = none + (x - x);
  }
  return sum_lanes(none) == 0.0f;
}

constexpr int64_t kTilePays = 64;  // with fewer rows, columns or a shorter sum, packing takes what tiles save
#endif

// What a format needs for the time of its products.
struct NoRegisters {};
template <class Format>
struct RegistersOf {
  using type = NoRegisters;
};
#if defined(PYDL_TILES)
template <int P>
struct RegistersOf<Tiles<P>> {
  using type = UseTiles<kTileRows>;
};
#endif
template <class Format>
using Registers = typename RegistersOf<Format>::type;

// Whether tiles pay for M x N sums over K. Not measured: no CPU with tiles was at hand.
inline bool tiles_pay([[maybe_unused]] int64_t M, [[maybe_unused]] int64_t N, [[maybe_unused]] int64_t K) {
#if defined(PYDL_TILES)
  return M >= kTilePays && N >= kTilePays && K >= kTilePays;
#else
  return false;
#endif
}

// f(format) with the format in which this thread's packed products of M x N sums over K are computed.
template <class T, class F>
PYDL_INLINE auto with_product_format([[maybe_unused]] int64_t M, [[maybe_unused]] int64_t N, [[maybe_unused]] int64_t K,
                                     const F& f) {
#if defined(PYDL_TILES)
  if constexpr (sizeof(T) == sizeof(float))
    if (tiles_pay(M, N, K)) {
      if (precision() == Precision::bfloat16) return f(Tiles<1>{});
      if (precision() == Precision::high) return f(Tiles<2>{});
      return f(Tiles<3>{});
    }
#endif
  return with_format<T>(f);
}

// The same for products that must have the accuracy of float32 in any precision.
template <class F>
PYDL_INLINE void with_float32_format([[maybe_unused]] int64_t M, [[maybe_unused]] int64_t N, [[maybe_unused]] int64_t K, const F& f) {
#if defined(PYDL_TILES)
  if (tiles_pay(M, N, K)) return f(Tiles<3>{});
#endif
  f(Numbers<float>{});
}

// Whether packing makes products of such sizes faster than float32 numbers in place: pairs, or pieces for tiles.
template <class T>
PYDL_INLINE bool packing_speeds_up(int64_t M, int64_t N, int64_t K) {
  bool packed = false;
  with_product_format<T>(M, N, K, [&](auto format) { packed = !std::is_same_v<decltype(format), Numbers<T>>; });
  return packed;
}

}  // namespace
}  // namespace pydl
