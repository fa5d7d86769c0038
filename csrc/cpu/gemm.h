// Blocked matrix product, shared by matmul and convolution. Internal linkage: compiled per instruction set.
//
// C[M, N] = A[M, K] B[K, N]. K is cut into blocks of kBlockK. A block of A is copied into panels of MR rows, a block of B
// into panels of NR columns; the micro-kernel multiplies panels of two or three blocks by each other and keeps MR x NR sums in
// registers meanwhile. How A and B are gathered is the caller's business (strided matrices, or pixels of an image seen through
// a filter).
// Each element is summed over k in one fixed order, so neither threads nor blocking of M and N change a bit.
#pragma once
#include <type_traits>

#include "core/integer.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "core/transpose.h"
#include "cpu/gemm_store.h"
#include "cpu/tiles.h"

namespace pydl {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kPanelRows = 14;  // 14 x 2 sums + 2 of B + 1 of A in 32 registers
#else
constexpr int64_t kPanelRows = 6;   // 6 x 2 sums + 2 of B + 1 of A in 16 registers
#endif
constexpr int64_t kPanelVectors = 2;
constexpr int64_t kHalfRows = kPanelRows / 2;  // they meet two panels of B: 7 x 4 sums + 3 of B + 1 of A, or 3 x 4 + 3 + 1
constexpr int64_t kBlockK = 256;               // steps of k in a panel
constexpr int64_t kPitch = kBlockK + 16;       // rows of an A panel start in different cache sets
constexpr int64_t kBlockM = 8 * kPanelRows;    // a block of A stays in L2
constexpr int64_t kGroupN = kPanelRows > 8 ? 8 : 4;  // panels of B that stay in L2: half a MB for two blocks of K by AVX-512
constexpr int64_t kPassBlocks = 2;             // blocks of K that are summed in registers; three where one would be left over
constexpr int64_t kColumnStep = kPanelRows > 8 ? 16 : 8;  // between the columns of an A panel that is ordered by columns
// Of a factor that lies in memory with a row for each k, so many of them are packed into all panels before the next ones: read
// from end to end they come ahead of their use by themselves, strips of them would not.
constexpr int64_t kRowsTogether = 16;

template <class T>
struct Tile {
  static constexpr int64_t rows = kPanelRows;
  static constexpr int64_t columns = kPanelVectors * Vec<T>::lanes;
  static constexpr int64_t a_panel = rows * kPitch;        // elements of an A panel
  static constexpr int64_t a_columns = kColumnStep * kBlockK;  // of one that is ordered by columns
  static constexpr int64_t b_panel = kBlockK * columns;    // elements of a B panel
};

// Asks for what the next steps of k need of both panels, and for what comes after them: the first level of cache holds no whole
// panel besides the other one's stream, and the processor's own prefetching does not follow fourteen rows.
template <class T>
struct Prefetch {
  static constexpr int64_t line = 64 / sizeof(T);
  static constexpr int64_t steps = 16;  // of k between asking for a row of B and using it

  // The lines of A for the steps of k that follow the next `line` of them.
  template <int64_t R, int64_t Pitch, int64_t Step>
  static PYDL_INLINE void of_a(const T* a) {
#pragma GCC unroll 16
    for (int64_t i = 0; i < (Step == 1 ? R : Step); ++i) __builtin_prefetch(a + line * Step + i * (Step == 1 ? Pitch : line));
  }
  template <int64_t Width>
  static PYDL_INLINE void of_b(const T* b) {
#pragma GCC unroll 4
    for (int64_t j = 0; j < Width; j += line) __builtin_prefetch(b + steps * Tile<T>::columns + j);
  }
};

// What to ask for while multiplying, as it will be needed after this product, to the second level of cache: two lines for each
// line of a row of A, a part of the next panel of A or B, which several products share.
template <class T>
struct Ahead {
  const T* from;
  PYDL_INLINE void advance() {
    __builtin_prefetch(from, 0, 2);
    __builtin_prefetch(from + Prefetch<T>::line, 0, 2);
    from += 2 * Prefetch<T>::line;
  }
};

// So many lines, which come from memory. Asked for evenly they do so while the processor multiplies; many at a time, it waits.
template <class T>
struct Stream {
  const T* from;
  int64_t lines;
  PYDL_INLINE void advance() {
    for (int64_t i = 0; i < lines; ++i, from += Prefetch<T>::line) __builtin_prefetch(from, 0, 2);
  }
};

// sums[i][j] = sum over k of a[i][k] * b[k][j]; a[i][k] is at i * Pitch + k * Step, b in panels `b_stride` apart with rows of
// Tile::columns; C vectors of them are used. Panels of the following blocks of K, if kc reaches there, lie behind the first ones.
// Callers with a small K give a smaller pitch. With pairs as format, kc and k count pairs.
template <class T, int64_t R, int64_t C, int64_t Pitch = kPitch, int64_t Step = 1, class Format = Numbers<T>, class Next>
[[gnu::noinline]] void micro_kernel(const T* __restrict a, const T* __restrict b, int64_t b_stride, int64_t kc, const Store<T>& store,
                                    int64_t rows, int64_t columns, Next next) {
  using V = Vec<T>;
  constexpr int64_t L = V::lanes, W = Tile<T>::columns, P = kPanelVectors, line = Prefetch<T>::line;
  constexpr bool two_panels = C > P;
  constexpr int64_t kept = two_panels ? C - 1 : C;  // vectors of B in registers: with two panels there is none left for the last one
  if (store.accumulate)  // what an earlier pass left may be far away by now
    for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 4
      for (int64_t j = 0; j < C; ++j) __builtin_prefetch(store.c + i * store.ldc + j * L);
  V sum[R][C];
#pragma GCC unroll 14
  for (int64_t i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int64_t j = 0; j < C; ++j) sum[i][j] = V::zero();
  for (;;) {
    const int64_t n = min64(kc, kBlockK);
    for (int64_t k0 = 0; k0 < n; k0 += line) {
      if constexpr (!two_panels) Prefetch<T>::template of_a<R, Pitch, Step>(a + k0 * Step);  // half a panel stays in the first level
      next.advance();
      for (int64_t k = k0; k < min64(n, k0 + line); ++k) {
        const T* row = b + k * W;
#pragma GCC unroll 2
        for (int64_t j = 0; j < C; j += P) Prefetch<T>::template of_b<min64(C, P) * L>(row + j / P * b_stride);
        V vb[kept];
#pragma GCC unroll 4
        for (int64_t j = 0; j < kept; ++j) vb[j] = V::load(row + j / P * b_stride + j % P * L);
#pragma GCC unroll 14
        for (int64_t i = 0; i < R; ++i) {
          const V va = Format::splat(a + i * Pitch + k * Step);
#pragma GCC unroll 4
          for (int64_t j = 0; j < kept; ++j) sum[i][j] = Format::multiply(va, vb[j], sum[i][j]);
          if constexpr (two_panels) {
            sum[i][kept] = Format::multiply(va, V::load(row + b_stride + (P - 1) * L), sum[i][kept]);
            asm volatile("" ::: "memory");  // or the compiler loads that vector once, and has a register too few
          }
        }
      }
    }
    kc -= kBlockK;
    if (kc <= 0) break;
    a += Step == 1 ? Tile<T>::a_panel : Tile<T>::a_columns;
    b += Tile<T>::b_panel;
  }
  store_sums<T, R, C>(sum, store, 0, rows, columns);
}

// The product of two panels by the micro-kernel that wastes least on rows and columns that are not there.
template <class Format, int64_t Pitch, int64_t Step, class T, class Next>
PYDL_INLINE void multiply_panel(const T* a, const T* b, int64_t kc, const Store<T>& store, int64_t rows, int64_t columns,
                                Next next) {
  constexpr int64_t R = kPanelRows, C = kPanelVectors;
  if (columns <= Vec<T>::lanes)
    micro_kernel<T, R, 1, Pitch, Step, Format>(a, b, 0, kc, store, rows, columns, next);
  else if (R > 8 && rows <= 4)
    micro_kernel<T, min64(R, 4), C, Pitch, Step, Format>(a, b, 0, kc, store, rows, columns, next);
  else if (R > 8 && rows <= 8)
    micro_kernel<T, min64(R, 8), C, Pitch, Step, Format>(a, b, 0, kc, store, rows, columns, next);
  else
    micro_kernel<T, R, C, Pitch, Step, Format>(a, b, 0, kc, store, rows, columns, next);
}

// The product of a part of a panel, at most kHalfRows rows, and two panels of B, `b_stride` apart.
template <class Format, class T, class Next>
PYDL_INLINE void multiply_two_panels(const T* a, const T* b, int64_t b_stride, int64_t kc, const Store<T>& store, int64_t rows,
                                     int64_t columns, Next next) {
  constexpr int64_t C = 2 * kPanelVectors;
  if (kHalfRows > 4 && rows <= 4)
    micro_kernel<T, min64(kHalfRows, 4), C, kPitch, 1, Format>(a, b, b_stride, kc, store, rows, columns, next);
  else
    micro_kernel<T, kHalfRows, C, kPitch, 1, Format>(a, b, b_stride, kc, store, rows, columns, next);
}

// The tiles in which `rows` rows of a panel of A meet `panels` of B: tile(first row, rows, first panel, one or two of them). Half of
// the rows stay in the first level of cache while they meet all pairs of panels of B; eight are four twice. (A panel that is ordered
// by columns has no halves of its lines, and meets one panel of B at a time.)
template <class F>
PYDL_INLINE void for_tiles(int64_t rows, int64_t panels, const F& tile) {
  const int64_t step = kHalfRows > 4 && rows == 8 ? 4 : kHalfRows;
  for (int64_t i = 0; i < rows && panels > 1; i += step)
    for (int64_t j = 0; j + 1 < panels; j += 2) tile(i, min64(rows - i, step), j, 2);
  if (panels % 2) tile(0, rows, panels - 1, 1);
}

// Copies rows [0, rows) x [0, kc) into one A panel; rows beyond are zero.
template <class T>
void pack_a_strided(T* panel, const T* a, int64_t row_stride, int64_t k_stride, int64_t rows, int64_t kc) {
  constexpr int64_t L = Vec<T>::lanes;
  for (int64_t i = 0; i < Tile<T>::rows; ++i) {
    T* to = panel + i * kPitch;
    const T* from = a + i * row_stride;
    if (i >= rows)
      std::memset(to, 0, static_cast<size_t>(kc) * sizeof(T));
    else if (k_stride == 1)
      for (int64_t k = 0; k < kc; k += L) {
        __builtin_prefetch(from + 2 * row_stride + k, 0, 2);
        Vec<T>::load_n(from + k, kc - k).store(to + k);
      }
  }
  if (k_stride == 1) return;
  if (row_stride == 1) {
    for (int64_t k = 0; k < kc; k += L)
      for (int64_t i = 0; i < rows; i += L)
        transpose_square(a + k * k_stride + i, k_stride, min64(kc - k, L), min64(rows - i, L), panel + i * kPitch + k, kPitch,
                         false);
    return;
  }
  for (int64_t k = 0; k < kc; ++k)
    for (int64_t i = 0; i < rows; ++i) panel[i * kPitch + k] = a[i * row_stride + k * k_stride];
}

// The same for a panel that is ordered by columns, from neighbouring rows: nothing is transposed.
template <class T>
void pack_a_columns(T* panel, const T* a, int64_t k_stride, int64_t rows, int64_t kc) {
  constexpr int64_t L = Vec<T>::lanes;
  for (int64_t k = 0; k < kc; ++k) {
    const T* from = a + k * k_stride;
    __builtin_prefetch(from + Tile<T>::rows + kColumnStep - 1, 0, 2);  // the line that the next panel begins to read
#pragma GCC unroll 4
    for (int64_t i = 0; i < kColumnStep; i += L) Vec<T>::load_n(from + i, max64(0, rows - i)).store(panel + k * kColumnStep + i);
  }
}

// Copies [0, kc) x [0, columns) into one B panel; columns beyond are zero.
template <class T>
void pack_b_strided(T* panel, const T* b, int64_t k_stride, int64_t column_stride, int64_t columns, int64_t kc) {
  constexpr int64_t C = Tile<T>::columns, L = Vec<T>::lanes;
  if (columns < C && column_stride != 1) std::memset(panel, 0, static_cast<size_t>(kc * C) * sizeof(T));
  if (column_stride == 1) {
    constexpr int64_t rows_ahead = 8;
    const auto copy = [=](const auto& load) {
      for (int64_t k = 0; k < kc; ++k)
#pragma GCC unroll 2
        for (int64_t j = 0; j < C; j += L) {
          __builtin_prefetch(b + (k + rows_ahead) * k_stride + j, 0, 2);
          load(b + k * k_stride + j, columns - j).store(panel + k * C + j);
        }
    };
    if (columns == C) return copy([](const T* from, int64_t) { return Vec<T>::load(from); });
    return copy([](const T* from, int64_t n) { return Vec<T>::load_n(from, max64(0, n)); });
  }
  if (k_stride == 1) {
    for (int64_t k = 0; k < kc; k += L)
      for (int64_t j = 0; j < columns; j += L)
        transpose_square(b + j * column_stride + k, column_stride, min64(columns - j, L), min64(kc - k, L), panel + k * C + j, C,
                         true);
    return;
  }
  for (int64_t k = 0; k < kc; ++k)
    for (int64_t j = 0; j < columns; ++j) panel[k * C + j] = b[k * k_stride + j * column_stride];
}

// Elements of a panel of each factor for a block of K.
template <class Format, class T, bool kByColumns>
struct PanelSize {
  static constexpr int64_t a = kByColumns ? Tile<T>::a_columns : Tile<T>::a_panel, b = Tile<T>::b_panel;
};

#if defined(PYDL_TILES)
constexpr int64_t kTinyMark = 16;  // behind the pieces of a panel: whether it has a row or column of tiny numbers
template <int P, bool kByColumns>
struct PanelSize<Tiles<P>, float, kByColumns> {
  static constexpr int64_t a = kBlockK / kTileDepth * kChunkA<P> + kTinyMark, b = kBlockK / kTileDepth * kChunkB<P> + kTinyMark;
};
static_assert(kTileRows == kPanelRows && 2 * kTileColumns == Tile<float>::columns);

// The pieces of a panel of A whose rows are `pitch` numbers apart; of one that is ordered by columns; of a panel of B.
template <int P>
void split_panel_rows(const float* numbers, int64_t pitch, int64_t n, float* panel) {
  panel[PanelSize<Tiles<P>, float, false>::a - kTinyMark] = split_rows<P>(numbers, pitch, n, panel);
}
template <int P>
void split_panel_columns(const float* numbers, int64_t n, float* panel) {
  alignas(64) float rows[kColumnStep * kPitch];
  for (int64_t k = 0; k < n; k += kColumnStep)
    transpose_square(numbers + k * kColumnStep, kColumnStep, min64(kColumnStep, n - k), kColumnStep, rows + k, kPitch, true);
  split_panel_rows<P>(rows, kPitch, n, panel);
}
template <int P>
void split_panel_b(const float* numbers, int64_t n, float* panel) {
  panel[PanelSize<Tiles<P>, float, false>::b - kTinyMark] = split_columns<P>(numbers, n, panel);
}

// Tiles of C from one or two panels of A and one of B. What tiles cannot compute, panel by panel of A, exactly(panel) does.
template <int P, class Stored, class Exactly>
void multiply_tiles(const float* a, int64_t a_stride, int64_t panels, const float* b, int64_t K, const Stored& stored,
                    const Exactly& exactly) {
  using Size = PanelSize<Tiles<P>, float, false>;
  constexpr int64_t ld = Tile<float>::columns;
  alignas(64) float sums[2 * kTileRows * ld];
  (panels == 2 ? tile_kernel<P, true> : tile_kernel<P, false>)(a, a_stride, Size::a, b, Size::b, K, kBlockK, sums);
  const auto tiny = [K](const float* panel, int64_t size) {
    bool any = false;
    for (int64_t k = 0; k < ceil_div(K, kBlockK); ++k) any |= panel[(k + 1) * size - kTinyMark] != 0.0f;
    return any;
  };
  for (int64_t p = 0; p < panels; ++p) {
    const float* own = sums + p * kTileRows * ld;
    if (P > 1 && (tiny(a + p * a_stride, Size::a) || tiny(b, Size::b) || !all_finite(own))) {
      exactly(p);
      continue;
    }
    const auto [store, rows, columns] = stored(p);
    store_part<float>(own, ld, store, rows, columns);
  }
}
#endif

// Fills a panel with the packed elements [k, k + kc) along k, at most a block of them: pack(panel, first number, numbers) does,
// and pairs or pieces are made of what it packs, a block of numbers at a time. `depth` numbers there are; kWidth is the length of
// the rows of a panel that is ordered by columns (of B, if kB), 0 for one ordered by rows.
template <class Format, bool kB, int64_t kWidth, class T, class Pack>
PYDL_INLINE void fill_panel(T* panel, int64_t k, int64_t kc, int64_t depth, const Pack& pack) {
  if constexpr (std::is_same_v<Format, Numbers<T>>) {
    pack(panel, k, kc);
  } else {
    alignas(64) T numbers[kWidth ? kWidth * kBlockK : Tile<T>::a_panel];
    const int64_t begin = k * Format::step, end = min64(depth, (k + kc) * Format::step);
    for (int64_t n = begin; n < end; n += kBlockK) {
      const int64_t count = min64(end - n, kBlockK);
      [[maybe_unused]] const int64_t at = (n - begin) / Format::step;
      pack(numbers, n, count);
      if constexpr (Format::tiled && kB)
        split_panel_b<Format::pieces>(numbers, count, panel);
      else if constexpr (Format::tiled && kWidth > 0)
        split_panel_columns<Format::pieces>(numbers, count, panel);
      else if constexpr (Format::tiled)
        split_panel_rows<Format::pieces>(numbers, kPitch, count, panel);
      else if constexpr (kWidth)
        Format::pack_columns(numbers, kWidth, count, panel + at * kWidth);
      else
        for (int64_t i = 0; i < Tile<T>::rows; ++i) Format::pack_row(numbers + i * kPitch, count, panel + i * kPitch + at);
    }
  }
}

// A tile of C: how it is stored, and how much of it there is.
template <class T>
struct Place {
  Store<T> store;
  int64_t rows, columns;
};

// Tiles of C from panels [i, end) of A, `a_stride` elements apart, and panel j of B, for `depth` packed elements along k.
// place(i, j) says where they go; fill_a(format, panel, i, k, steps) and fill_b fill panels with that many steps of the depth.
// `next`: as for the micro-kernel.
template <class Format, bool kByColumns, class T, class Next, class PlaceOf, class FillA, class FillB>
PYDL_INLINE void multiply_rows_of_panels(const T* a, int64_t a_stride, const T* b, int64_t depth, int64_t i, int64_t end, int64_t j,
                                         Next next, const PlaceOf& place, const FillA& fill_a, const FillB& fill_b) {
  constexpr int64_t pitch = kByColumns ? 1 : kPitch, step = kByColumns ? kColumnStep : 1;
  if constexpr (Format::tiled) {
    using Size = PanelSize<Numbers<T>, T, kByColumns>;
    const auto exactly = [&](int64_t panel) {  // rare: both panels are packed again, as numbers
      const int64_t blocks = ceil_div(depth, kBlockK);
      Scratch<T> own(blocks * (Size::a + Size::b));
      T* own_b = own.data + blocks * Size::a;
      for (int64_t k = 0; k < blocks; ++k) {
        fill_a(Numbers<T>{}, own.data + k * Size::a, panel, k * kBlockK, kBlockK);
        fill_b(Numbers<T>{}, own_b + k * Size::b, j, k * kBlockK, kBlockK);
      }
      const auto [store, rows, columns] = place(panel, j);
      multiply_panel<Numbers<T>, pitch, step>(own.data, own_b, depth, store, rows, columns, Ahead<T>{own.data});
    };
    for (; i < end; i += 2, a += 2 * a_stride)
      multiply_tiles<Format::pieces>(a, a_stride, min64(2, end - i), b, depth, [&](int64_t p) { return place(i + p, j); },
                                     [&](int64_t p) { exactly(i + p); });
  } else {
    for (; i < end; ++i, a += a_stride) {
      const auto [store, rows, columns] = place(i, j);
      multiply_panel<Format, pitch, step>(a, b, depth, store, rows, columns, next);
    }
  }
}

// The whole product. pack_a(panel, first_row, rows, first_k, kc) and pack_b(panel, first_column, columns, first_k, kc)
// fill one panel each; with kByColumns, pack_a orders its panels by columns. K is taken in passes of a few blocks, between which
// the sums rest in C. For a pass one factor is packed whole; blocks of the other are packed where they are used, and never
// leave the cache. With many rows (pixels) B is packed whole, otherwise A: the other one is the larger.
template <class Format, bool kByColumns, class T, class PackA, class PackB, class Rows>
void gemm_packed(int64_t M, int64_t N, int64_t numbers, const PackA& pack_a, const PackB& pack_b, T* c, int64_t ldc,
                 const Finish<T>& finish, bool accumulate, Rows a_rows, bool b_in_rows) {
  using Size = PanelSize<Format, T, kByColumns>;
  constexpr int64_t R = Tile<T>::rows, C = Tile<T>::columns;
  constexpr int64_t kGroupM = kBlockM / R;
  constexpr int64_t kTogether = Format::tiled ? 2 : 1;   // panels of A that meet a panel of B at once
  const int64_t K = ceil_div(numbers, Format::step);        // packed elements
  const int64_t k_blocks = max64(1, ceil_div(K, kBlockK));  // K = 0: one empty block writes the zeros (and the bias)
  // Panels of a small K lie close together: a whole block apart they would meet in a few sets of the caches.
  const bool small = K > 0 && K < kBlockK && !Format::tiled;
  const int64_t block_a = small && kByColumns ? K * kColumnStep : Size::a, block_b = small ? K * C : Size::b;
  const int64_t a_panels = ceil_div(M, R), b_panels = ceil_div(N, C), m_blocks = ceil_div(M, kBlockM);
  // No sum depends on how rows and columns are cut, so that may follow the number of threads.
  const int64_t tasks = num_threads() == 1 ? 1 : 4 * num_threads();
  const bool many_rows = m_blocks >= tasks && M > N;
  const int64_t piece = max64(1, min64(kGroupN, b_panels / tasks)), pieces = ceil_div(b_panels, piece);
  const int64_t group = ceil_div(a_panels, min64(m_blocks, ceil_div(tasks, pieces))), groups = ceil_div(a_panels, group);
  Scratch<T> whole((many_rows ? b_panels * block_b : a_panels * block_a) * min64(k_blocks, kPassBlocks + 1));
  for (int64_t kb = 0, blocks; kb < k_blocks; kb += blocks) {
    blocks = min64(k_blocks - kb, k_blocks - kb == kPassBlocks + 1 ? kPassBlocks + 1 : kPassBlocks);
    const bool first = kb == 0, last = kb + blocks == k_blocks;
    const int64_t depth = min64(K - kb * kBlockK, blocks * kBlockK);
    const auto fill_a = [&](auto format, T* panel, int64_t i, int64_t k, int64_t steps) {
      fill_panel<decltype(format), false, kByColumns ? kColumnStep : 0>(
          panel, kb * kBlockK + k, min64(depth - k, steps), numbers,
          [&](T* to, int64_t first, int64_t kc) { pack_a(to, i * R, min64(M - i * R, R), first, kc); });
    };
    const auto fill_b = [&](auto format, T* panel, int64_t j, int64_t k, int64_t steps) {
      fill_panel<decltype(format), true, C>(
          panel, kb * kBlockK + k, min64(depth - k, steps), numbers,
          [&](T* to, int64_t first, int64_t kc) { pack_b(to, j * C, min64(N - j * C, C), first, kc); });
    };
    const auto place = [&](int64_t i, int64_t j) {
      const bool biased = finish.bias && (finish.scale ? last : first);
      return Place<T>{{c + i * R * ldc + j * C, ldc, accumulate || !first, biased ? finish.bias + j * C : nullptr,
                       finish.relu && last, finish.scale && last ? finish.scale + j * C : nullptr, last ? finish.residual : 0},
                      min64(M - i * R, R), min64(N - j * C, C)};
    };
    const int64_t size_a = blocks * block_a, size_b = blocks * block_b;
    // All blocks of panels [begin, end), `size` elements each, `width` in a step of k.
    const auto fill_panels = [&](const auto& fill, T* to, int64_t size, int64_t width, bool in_rows, int64_t begin, int64_t end) {
      const int64_t steps = in_rows && std::is_same_v<Format, Numbers<T>> ? kRowsTogether : kBlockK;
      for (int64_t k = 0; k < max64(1, depth); k += steps)
        for (int64_t p = begin; p < end; ++p)
          fill(Format{}, to + ((p - begin) * blocks + k / kBlockK) * size + k % kBlockK * width, p, k, steps);
    };
    const auto fill_panels_a = [&](T* to, int64_t begin, int64_t end) {
      fill_panels(fill_a, to, block_a, kColumnStep, kByColumns, begin, end);
    };
    const auto fill_panels_b = [&](T* to, int64_t begin, int64_t end) {
      fill_panels(fill_b, to, block_b, C, b_in_rows, begin, end);
    };
    // Panels [i, end) of A, of which kTogether at most, with panels [j, j + panels) of B; next(n) asks ahead during the n-th product.
    const auto multiply = [&](const T* a, const T* b, int64_t i, int64_t end, int64_t j, int64_t panels, const auto& next) {
      if constexpr (Format::tiled || kByColumns) {
        for (int64_t q = 0; q < panels; ++q)
          multiply_rows_of_panels<Format, kByColumns>(a, size_a, b + q * size_b, depth, i, end, j + q, next(q), place, fill_a, fill_b);
      } else {
        int64_t n = 0;
        for_tiles(min64(M - i * R, R), panels, [&](int64_t row, int64_t rows, int64_t q, int64_t two) {
          Store<T> store = place(i, j + q).store;
          store.c += row * ldc;
          const int64_t columns = min64(N - (j + q) * C, two * C);
          if (two == 2)
            multiply_two_panels<Format>(a + row * kPitch, b + q * size_b, size_b, depth, store, rows, columns, next(n++));
          else
            multiply_panel<Format, kPitch, 1>(a, b + q * size_b, depth, store, rows, columns, next(n++));
        });
      }
    };
    const auto ahead = [&](const T* a, int64_t panels) {  // a share of the panels of A that follow, for each product
      return [=](int64_t n) { return Ahead<T>{a + kTogether * size_a + n * kTogether * size_a / panels}; };
    };
    if (many_rows) {
      parallel_for(b_panels, 2, [&](int64_t begin, int64_t end) {
        fill_panels_b(whole.data + begin * size_b, begin, end);
      });
      parallel_for(m_blocks, 1, [&](int64_t begin, int64_t end) {
        [[maybe_unused]] const Registers<Format> registers{};
        Scratch<T> own(kGroupM * size_a);
        for (int64_t i0 = begin * kGroupM; i0 < min64(a_panels, end * kGroupM); i0 += kGroupM) {
          const int64_t panels = min64(a_panels - i0, kGroupM), next = i0 + panels;
          // Of the rows that are packed next, if this pass needs the whole of them, an equal part during each product.
          [[maybe_unused]] int64_t lines = 0;
          if (depth == numbers && depth > 0 && next < a_panels)
            lines = ceil_div(min64(kGroupM * R, M - next * R) * numbers, panels * b_panels * depth);
          fill_panels_a(own.data, i0, i0 + panels);
          for (int64_t j0 = 0; j0 < b_panels; j0 += kGroupN) {
            const int64_t together = min64(b_panels - j0, kGroupN);
            for (int64_t i = 0; i < panels; i += kTogether) {
              const T *a = own.data + i * size_a, *b = whole.data + j0 * size_b;
              const int64_t end = i0 + min64(panels, i + kTogether), products = j0 * panels + i * together;
              if constexpr (std::is_same_v<Rows, std::nullptr_t>)
                multiply(a, b, i0 + i, end, j0, together, ahead(a, together));
              else
                multiply(a, b, i0 + i, end, j0, together, [&](int64_t n) {
                  return Stream<T>{lines ? a_rows + next * R * numbers + (products + n) * depth * lines : a, lines};
                });
            }
          }
        }
      });
      continue;
    }
    parallel_for(a_panels, 2, [&](int64_t begin, int64_t end) {
      fill_panels_a(whole.data + begin * size_a, begin, end);
    });
    parallel_for(pieces * groups, 1, [&](int64_t begin, int64_t end) {
      [[maybe_unused]] const Registers<Format> registers{};
      Scratch<T> own(piece * size_b);
      for (int64_t t = begin; t < end; ++t) {
        const int64_t i0 = t % groups * group, j0 = t / groups * piece, panels = min64(b_panels - j0, piece);
        fill_panels_b(own.data, j0, j0 + panels);
        const int64_t i1 = min64(a_panels, i0 + group);
        for (int64_t i = i0; i < i1; i += kTogether) {
          const T* a = whole.data + i * size_a;
          multiply(a, own.data, i, min64(i1, i + kTogether), j0, panels, ahead(a, panels));
        }
      }
    });
  }
}

// a_rows: where A lies, in rows of K numbers, if it does and comes from memory rather than from a cache. b_in_rows: whether B lies
// in memory with a row for each k.
template <class T, bool kByColumns = false, class PackA, class PackB, class Rows = std::nullptr_t>
void gemm(int64_t M, int64_t N, int64_t K, const PackA& pack_a, const PackB& pack_b, T* c, int64_t ldc,
          const Finish<T>& finish = {}, bool accumulate = false, Rows a_rows = nullptr, bool b_in_rows = kByColumns) {
  if (M == 0 || N == 0) return;
  with_product_format<T>(M, N, K, [&](auto format) {
    gemm_packed<decltype(format), kByColumns>(M, N, K, pack_a, pack_b, c, ldc, finish, accumulate, a_rows, b_in_rows);
  });
}

// Whether the outputs are so few beside K that gemm_long_k pays: otherwise a product has enough columns to share.
inline bool sums_are_long(int64_t M, int64_t N, int64_t K) { return K >= 16 * kBlockK && M * N * 64 < K * (M + N); }

// c[i] = sum over k of copies[k][i], in order.
template <class T>
void add_copies(const T* copies, int64_t chunks, int64_t size, T* c) {
  parallel_for(size, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T total = copies[i];
      for (int64_t k = 1; k < chunks; ++k) total += copies[k * size + i];
      c[i] = total;
    }
  });
}

template <class Format, bool kByColumns, class T, class PackA, class PackB>
void gemm_long_k_packed(int64_t M, int64_t N, int64_t numbers, const PackA& pack_a, const PackB& pack_b, T* c) {
  constexpr int64_t R = Tile<T>::rows, C = Tile<T>::columns;
  constexpr int64_t kPanelA = PanelSize<Format, T, kByColumns>::a, kPanelB = PanelSize<Format, T, kByColumns>::b;
  constexpr int64_t kMostElements = int64_t{1} << 23;  // of all copies together
  const int64_t size = M * N, K = ceil_div(numbers, Format::step);
  int64_t chunks = max64(1, min64(min64(16, ceil_div(K, 4 * kBlockK)), kMostElements / size));
  const int64_t per_chunk = max64(1, ceil_div(ceil_div(K, kBlockK), chunks)) * kBlockK;
  chunks = max64(1, ceil_div(K, per_chunk));  // K = 0: one empty chunk writes the zeros
  const int64_t panels = ceil_div(N, C);
  // One chunk only (a large C): threads share the columns instead.
  const int64_t n_pieces = chunks >= 8 ? 1 : min64(panels, ceil_div(16, chunks));
  const int64_t piece = ceil_div(panels, n_pieces);
  Scratch<T> copies(chunks > 1 ? chunks * size : 1);
  parallel_for(chunks * n_pieces, 1, [&](int64_t begin, int64_t end) {
    const int64_t m_panels = ceil_div(M, R), a_group = min64(m_panels, kBlockM / R);
    Scratch<T> a(a_group * kPanelA), b(piece * kPanelB);
    [[maybe_unused]] const Registers<Format> registers{};
    for (int64_t t = begin; t < end; ++t) {
      const int64_t chunk = t / n_pieces, j0 = t % n_pieces * piece, j1 = min64(panels, j0 + piece);
      if (j0 >= panels) continue;
      T* to = chunks > 1 ? copies.data + chunk * size : c;
      const int64_t k_begin = chunk * per_chunk, k_end = min64(K, k_begin + per_chunk);
      for (int64_t k0 = k_begin; k0 == k_begin || k0 < k_end; k0 += kBlockK) {
        const int64_t kc = max64(0, min64(k_end - k0, kBlockK));
        const auto fill_a = [&](auto format, T* panel, int64_t i, int64_t, int64_t) {
          fill_panel<decltype(format), false, kByColumns ? kColumnStep : 0>(
              panel, k0, kc, numbers, [&](T* to, int64_t k, int64_t n) { pack_a(to, i * R, min64(M - i * R, R), k, n); });
        };
        const auto fill_b = [&](auto format, T* panel, int64_t j, int64_t, int64_t) {
          fill_panel<decltype(format), true, C>(
              panel, k0, kc, numbers, [&](T* to, int64_t k, int64_t n) { pack_b(to, j * C, min64(N - j * C, C), k, n); });
        };
        const auto place = [&](int64_t i, int64_t j) {
          return Place<T>{{to + i * R * N + j * C, N, k0 > k_begin}, min64(M - i * R, R), min64(N - j * C, C)};
        };
        for (int64_t j = j0; j < j1; ++j) fill_b(Format{}, b.data + (j - j0) * kPanelB, j, 0, kBlockK);
        for (int64_t i0 = 0; i0 < m_panels; i0 += a_group) {
          const int64_t i1 = min64(m_panels, i0 + a_group);
          for (int64_t i = i0; i < i1; ++i) fill_a(Format{}, a.data + (i - i0) * kPanelA, i, 0, kBlockK);
          for (int64_t j = j0; j < j1; ++j)
            multiply_rows_of_panels<Format, kByColumns>(a.data, kPanelA, b.data + (j - j0) * kPanelB, kc, i0, i1, j,
                                                        Ahead<T>{b.data + (j + 1 - j0) * kPanelB}, place, fill_a, fill_b);
        }
      }
    }
  });
  if (chunks > 1) add_copies(copies.data, chunks, size, c);
}

// Few outputs from a long K (weight gradients): K is cut into fixed chunks, each summed into its own copy of C, and the
// copies are added in order. C is contiguous.
template <class T, bool kByColumns = false, class PackA, class PackB>
void gemm_long_k(int64_t M, int64_t N, int64_t K, const PackA& pack_a, const PackB& pack_b, T* c) {
  if (M * N == 0) return;
  with_product_format<T>(M, N, K, [&](auto format) {
    gemm_long_k_packed<decltype(format), kByColumns>(M, N, K, pack_a, pack_b, c);
  });
}

}  // namespace
}  // namespace pydl
