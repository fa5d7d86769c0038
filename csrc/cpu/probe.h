// Loops that do nothing but reach a limit of the machine: what a roofline is drawn from.
#pragma once
#include <cstdint>

#include "core/cpu.h"

namespace pydl {

// `chunks` pieces of `steps` rounds of independent multiply-adds in registers; returns the operations done (a multiplication
// and an addition count as two).
PYDL_KERNEL(probe_fma, int64_t(int64_t chunks, int64_t steps));
PYDL_KERNEL(probe_read, float(const float* x, int64_t n));                                // a sum that touches each element
PYDL_KERNEL(probe_write, void(float* x, int64_t n));                                      // x = 1
PYDL_KERNEL(probe_triad, void(float* a, const float* b, const float* c, int64_t n));      // a = b + 2 c

}  // namespace pydl
