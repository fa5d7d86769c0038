// Instruction-set levels: detection, the PYDL_ISA override, and the table through which kernels are called.
#pragma once
#include <string>

#include "core/error.h"
#include "core/profile.h"

namespace pydl {

// amx: the kernels of avx512, with products on tiles (cpu/tiles.h) where those pay.
enum class Isa : int { generic = 0, avx2 = 1, avx512 = 2, amx = 3 };
constexpr int kIsaCount = 4;

const char* isa_name(Isa isa);
Isa isa_from_name(const std::string& name);  // throws on an unknown name
bool cpu_supports(Isa isa);
bool tiles_emulated();  // a build for tests: amx is there by emulation, and only where it is asked for
// The level in force: PYDL_ISA if set, otherwise the best that this CPU has.
Isa active_isa();
void set_active_isa(Isa isa);  // throws if the CPU lacks it

extern int g_active_isa;  // index for Kernel::operator(), set when the library is loaded

// One kernel with an implementation per instruction set. Sources compiled once per level fill the table by
// PYDL_REGISTER; callers just call it. constinit: the table exists before any registration runs.
template <class Signature>
struct Kernel;

template <class R, class... Args>
struct Kernel<R(Args...)> {
  using Function = R (*)(Args...);
  const char* name;
  Function table[kIsaCount] = {};

  [[gnu::always_inline]] inline R operator()(Args... args) const {
    Function f = table[g_active_isa];
    if (!f) [[unlikely]]
      fail("dispatch", "kernel has no implementation for the active instruction set");
    if (profile::on()) [[unlikely]] {
      const profile::Scope scope(name);
      return f(args...);
    }
    return f(args...);
  }
};

template <class Signature>
struct Registrar {
  Registrar(Kernel<Signature>& kernel, Isa isa, typename Kernel<Signature>::Function f) {
    kernel.table[static_cast<int>(isa)] = f;
    // Few sources are compiled for amx: the others' kernels serve there too.
    if (auto& amx = kernel.table[static_cast<int>(Isa::amx)]; isa == Isa::avx512 && !amx) amx = f;
  }
};

}  // namespace pydl

// In a family's header: PYDL_KERNEL(relu_forward, void(const float* x, float* y, int64_t n));
#define PYDL_KERNEL(name, ...) inline constinit ::pydl::Kernel<__VA_ARGS__> name { #name }

// In the family's source, which CMake compiles once per level with PYDL_ISA_LEVEL defined.
#define PYDL_REGISTER(name, ...) \
  [[maybe_unused]] static const ::pydl::Registrar registrar_##name(name, ::pydl::Isa::PYDL_ISA_LEVEL, __VA_ARGS__)
