#include "core/cpu.h"

#include <cstdlib>

#if (defined(__x86_64__) || defined(__i386__)) && !defined(PYDL_GENERIC_ONLY)
#define PYDL_X86 1
#include <cpuid.h>
#endif
#if defined(PYDL_X86) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pydl {

namespace {

constexpr const char* kNames[kIsaCount] = {"generic", "avx2", "avx512", "amx"};

#if defined(PYDL_EMULATE_TILES)
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

Isa best_isa() {
  for (int i = static_cast<int>(kEmulated ? Isa::avx512 : Isa::amx); i > 0; --i)
    if (cpu_supports(static_cast<Isa>(i))) return static_cast<Isa>(i);
  return Isa::generic;
}

#if defined(PYDL_X86)
// Whether this process may use tiles: the CPU has AMX-TILE and AMX-BF16, and the system gives leave to use the registers. Linux
// (5.16 or newer) is asked once; all threads have it then.
bool has_tiles() {
#if defined(SYS_arch_prctl)
  static const bool has = kEmulated || [] {
    constexpr unsigned kTile = 1u << 24, kBf16 = 1u << 22;  // edx of leaf 7
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (kTile | kBf16)) != (kTile | kBf16)) return false;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return has;
#else
  return false;
#endif
}
#endif

}  // namespace

int g_active_isa = static_cast<int>(best_isa());

const char* isa_name(Isa isa) { return kNames[static_cast<int>(isa)]; }

Isa isa_from_name(const std::string& name) {
  for (int i = 0; i < kIsaCount; ++i)
    if (name == kNames[i]) return static_cast<Isa>(i);
  throw Error("PYDL_ISA: unknown instruction set '" + name + "'; expected one of generic, avx2, avx512, amx");
}

bool cpu_supports(Isa isa) {
  if (isa == Isa::generic) return true;
#if defined(PYDL_X86)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx2) return avx2;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (isa == Isa::avx512) return avx512;
  return avx512 && __builtin_cpu_supports("avx512bf16") && has_tiles();
#else
  return false;
#endif
}

bool tiles_emulated() { return kEmulated; }

Isa active_isa() { return static_cast<Isa>(g_active_isa); }

void set_active_isa(Isa isa) {
  if (!cpu_supports(isa))
    throw Error(std::string("PYDL_ISA: this CPU does not have the instruction set '") + isa_name(isa) +
                "'; the best it has is '" + isa_name(best_isa()) + "'" +
                (isa == Isa::amx ? " (amx also needs AVX512-BF16, and leave of the system to use tiles: Linux 5.16 or newer)" : ""));
  g_active_isa = static_cast<int>(isa);
}

}  // namespace pydl
