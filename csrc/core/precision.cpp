#include "core/precision.h"

#include <atomic>

#include "core/cpu.h"

namespace pydl {

namespace {

std::atomic<int> g_precision{0};
thread_local int t_precision = -1;

bool cpu_has_bfloat16() {
#if (defined(__x86_64__) || defined(__i386__)) && !defined(PYDL_GENERIC_ONLY)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

}  // namespace

std::string why_no_bfloat16() {
  if (!cpu_has_bfloat16()) return "this CPU has no AVX512-BF16";
  if (active_isa() < Isa::avx512) return std::string("PYDL_ISA=") + isa_name(active_isa()) + " is in force, which has no AVX512-BF16";
  return "";
}

bool has_bfloat16() {
  static const bool cpu = cpu_has_bfloat16();
  return cpu && active_isa() >= Isa::avx512;
}

Precision precision() {
  const int p = t_precision >= 0 ? t_precision : g_precision.load(std::memory_order_relaxed);
  return static_cast<Precision>(p);
}

void set_process_precision(Precision p) { g_precision = static_cast<int>(p); }
Precision process_precision() { return static_cast<Precision>(g_precision.load()); }

int set_thread_precision(int p) noexcept {
  const int before = t_precision;
  t_precision = p;
  return before;
}

}  // namespace pydl
