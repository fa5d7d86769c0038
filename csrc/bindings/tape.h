// The one place through which bindings call kernels: `launch(kernel, args...)` runs it, and while this thread records a step
// (pydl.capture) keeps the call, with its arguments by value, for the replays.
#pragma once
#include <pybind11/pybind11.h>

#include <functional>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/precision.h"
#include "core/step_memory.h"

namespace py = pybind11;

namespace pydl {

struct OptimArgs;

struct Tape {
  struct Random {  // the place in a call where random numbers start
    uint64_t *seed, *offset;
    uint64_t recorded_seed, recorded_offset;
  };
  struct Call {
    std::function<int64_t()> run;
    int64_t result;  // what the kernel returned when recorded: a position of wrong data, or none
    const char* name;
    Precision precision;
  };

  memory::StepMemory memory;
  std::vector<Call> calls;
  std::vector<Random> random;
  std::vector<std::shared_ptr<OptimArgs>> optimizers;  // their numbers are set anew before a replay
  std::vector<std::pair<py::object, bool>> outside;  // arrays of other memory that the calls use, kept alive; written to?

  void use(const py::handle& array, const void* data, bool writable) {
    if (!memory.holds(data)) outside.emplace_back(py::reinterpret_borrow<py::object>(array), writable);
  }
};

extern thread_local Tape* t_tape;  // the recording of this thread

template <class K, class... A>
int64_t run_kernel(const K& kernel, const A&... args) {
  if constexpr (std::is_void_v<decltype(kernel(args...))>) {
    kernel(args...);
    return 0;
  } else {
    return kernel(args...);
  }
}

// Runs the kernel with the GIL as it is.
template <class K, class... A>
int64_t launch_held(const K& kernel, const A&... args) {
  if (!t_tape) [[likely]] return run_kernel(kernel, args...);
  const memory::Open open;
  const int64_t result = run_kernel(kernel, args...);
  t_tape->calls.push_back({[&kernel, args...] { return run_kernel(kernel, args...); }, result, kernel.name, precision()});
  return result;
}

template <class K, class... A>
int64_t launch(const K& kernel, const A&... args) {
  const py::gil_scoped_release release;
  return launch_held(kernel, args...);
}

// For arguments with the fields `seed` and `offset` (reached by `state`), which go on from replay to replay.
template <class K, class A, class State>
void launch_random(const K& kernel, const A& args, const State& state) {
  if (!t_tape) {
    launch(kernel, args);
    return;
  }
  const auto box = std::make_shared<A>(args);
  {
    const py::gil_scoped_release release;
    const memory::Open open;
    kernel(args);
  }
  t_tape->calls.push_back({[&kernel, box] { kernel(*box); return int64_t{0}; }, 0, kernel.name, precision()});
  auto& s = state(*box);
  t_tape->random.push_back({&s.seed, &s.offset, s.seed, s.offset});
}

}  // namespace pydl
