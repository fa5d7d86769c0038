#include "core/cpu.h"

#include <cstdlib>

namespace pydl {

namespace {

constexpr const char* kNames[kIsaCount] = {"generic", "avx2", "avx512"};

Isa best_isa() {
  for (int i = kIsaCount - 1; i > 0; --i)
    if (cpu_supports(static_cast<Isa>(i))) return static_cast<Isa>(i);
  return Isa::generic;
}

}  // namespace

int g_active_isa = static_cast<int>(best_isa());

const char* isa_name(Isa isa) { return kNames[static_cast<int>(isa)]; }

Isa isa_from_name(const std::string& name) {
  for (int i = 0; i < kIsaCount; ++i)
    if (name == kNames[i]) return static_cast<Isa>(i);
  if (name == "amx")
    throw Error("PYDL_ISA: AMX kernels are not implemented; the best level is 'avx512'");
  throw Error("PYDL_ISA: unknown instruction set '" + name + "'; expected one of generic, avx2, avx512");
}

bool cpu_supports(Isa isa) {
  if (isa == Isa::generic) return true;
#if (defined(__x86_64__) || defined(__i386__)) && !defined(PYDL_GENERIC_ONLY)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

Isa active_isa() { return static_cast<Isa>(g_active_isa); }

void set_active_isa(Isa isa) {
  if (!cpu_supports(isa))
    throw Error(std::string("PYDL_ISA: this CPU does not have the instruction set '") + isa_name(isa) +
                "'; the best it has is '" + isa_name(best_isa()) + "'");
  g_active_isa = static_cast<int>(isa);
}

}  // namespace pydl
