// Scaled dot-product attention, softmax(scale * Q K^T + mask) V, without the L x S matrix in memory.
//
// Forward walks over blocks of keys with a running maximum and sum per query (online softmax; Milakov and Gimelshein 2018,
// Dao et al. 2022, "FlashAttention") and leaves the log of the sum. Backward computes the probabilities again from it.
#pragma once
#include "core/array.h"
#include "core/cpu.h"

namespace pydl {

// N batch, H heads of queries, G heads of keys (H is a multiple of G: grouped heads), L queries, S keys, E and F features.
struct AttentionArgs {
  Array q, k, v;           // [N, H, L, E], [N, G, S, E], [N, G, S, F], any strides
  Array mask;              // no data: none. bool (true: the pair takes part) or q's dtype (added); broadcasts to [N, H, L, S]
  double scale;
  bool causal;             // query i sees keys 0 ... i + causal_offset
  int64_t causal_offset;
  double dropout;          // probability of dropping a weight; the others are divided by 1 - dropout
  uint64_t seed, offset;   // of the dropout mask
  Array out;               // [N, H, L, F]; a query that sees no key gives zeros
  Array log_sum;           // [N, H, L], C order: log2 of the sum of exponentials, +inf where no key is seen
};
PYDL_KERNEL(attention_forward, void(const AttentionArgs& args));

struct AttentionGradArgs {
  AttentionArgs forward;   // as given to and left by forward
  Array grad;              // [N, H, L, F], any strides
  Array dq, dk, dv;        // overwritten; rows contiguous
  Array dmask;             // no data: not wanted. [N, H, L, S], C order
};
PYDL_KERNEL(attention_backward, void(const AttentionGradArgs& args));

// Random blocks that one dropout mask uses: element (row, key) is number key % 4 of block row * ceil(S / 4) + key / 4.
constexpr int64_t attention_random_blocks(int64_t rows, int64_t keys) { return rows * ((keys + 3) / 4); }

}  // namespace pydl
