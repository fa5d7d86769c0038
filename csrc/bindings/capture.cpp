#include "bindings/tape.h"

#include "bindings/array.h"
#include "bindings/optim.h"
#include "core/profile.h"

namespace pydl {

thread_local Tape* t_tape = nullptr;

namespace {

void start(Tape& tape, bool record) {
  PYDL_CHECK(!t_tape, "this thread is recording already");
  tape.memory.enter();
  if (!record) return;
  tape.memory.protect();
  t_tape = &tape;
}

void stop(Tape& tape) {
  tape.memory.unprotect();
  tape.memory.leave();
  t_tape = nullptr;
}

// -1, or the number of the call that ended otherwise than when recorded (it found wrong data).
int64_t replay(const Tape& tape) {
  const py::gil_scoped_release release;
  int64_t failed = -1;
  const int before = set_thread_precision(-1);
  for (size_t i = 0; i < tape.calls.size() && failed < 0; ++i) {
    const Tape::Call& call = tape.calls[i];
    set_thread_precision(static_cast<int>(call.precision));
    if (call.run() != call.result) failed = static_cast<int64_t>(i);
  }
  set_thread_precision(before);
  return failed;
}

void set_random(Tape& tape, uint64_t seed, uint64_t moved) {
  for (auto& r : tape.random) {
    *r.seed = seed;
    *r.offset = r.recorded_offset + moved;
  }
}

py::list random_states(const Tape& tape) {
  py::list states;
  for (const auto& r : tape.random) states.append(py::make_tuple(r.recorded_seed, r.recorded_offset));
  return states;
}

py::list names(const Tape& tape) {
  py::list list;
  for (const auto& call : tape.calls) list.append(call.name);
  return list;
}

}  // namespace

PYDL_BINDINGS(capture) {
  py::class_<Tape>(m, "Tape")
      .def(py::init<>())
      .def("start", &start, py::arg("record"))
      .def("stop", &stop)
      .def("replay", &replay)
      .def("touched", [](const Tape& t) { return t.memory.touched(); })
      .def("names", &names)
      .def("outside", [](const Tape& t) { return t.outside; })
      .def("live", [](const Tape& t) {
        py::list list;
        for (const auto& [block, bytes] : t.memory.live()) list.append(py::make_tuple(reinterpret_cast<intptr_t>(block), bytes));
        return list;
      })
      .def("holds", [](const Tape& t, const py::array& a) { return t.memory.holds(a.data()); })
      .def("random_states", &random_states)
      .def("set_random", &set_random)
      .def("optimizers", [](const Tape& t) { return t.optimizers.size(); })
      .def("set_optimizer", [](Tape& t, size_t index, const py::dict& options) {
        PYDL_CHECK(index < t.optimizers.size(), "no such optimizer step");
        set_options(*t.optimizers[index], options);
      })
      .def_property_readonly("bytes", [](const Tape& t) { return t.memory.bytes(); });
}

}  // namespace pydl
