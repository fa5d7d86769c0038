// In what precision products of float32 numbers (matrices, convolutions, recurrent layers) may be computed: their sums are
// always float32. Each thread may have a precision of its own (pydl.autocast); others have that of the process.
#pragma once
#include <string>

namespace pydl {

// high: at least 16 significant bits, where something is faster than float32 then (tiles, cpu/tiles.h); float32 elsewhere.
enum class Precision : int { float32 = 0, bfloat16 = 1, high = 2 };

// Whether products of bfloat16 are there: in this CPU and at the instruction set in force.
bool has_bfloat16();
// Why they are not there; empty if they are.
std::string why_no_bfloat16();

Precision precision();  // of what this thread computes
void set_process_precision(Precision p);
Precision process_precision();

// The thread's own precision, -1 for that of the process. Returns the one before.
int set_thread_precision(int p) noexcept;

}  // namespace pydl
