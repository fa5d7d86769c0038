#include "core/profile.h"

#include <unordered_map>

#include "bindings/api.h"
#include "bindings/array.h"
#include "core/precision.h"
#include "core/profile_log.h"

namespace pydl {

namespace {

namespace p = profile;

// How an argument is kept: arrays as dtype and shape alone, so that recording keeps no memory alive.
enum Code : int64_t { kObject, kArray, kList, kTuple };

// The log of a thread with the operations that its marks tell of. All but the marks of kernels is written with the GIL.
class Recording : public p::Log {
 public:
  ~Recording() override { forget(); }

  static Recording* current() noexcept { return static_cast<Recording*>(p::Log::current()); }

  int64_t begin(int phase, PyObject* op, PyObject* path, PyObject* needs, PyObject* const* arguments, int64_t count, int64_t forward) {
    p::Mark* const mark = open(p::Kind::begin);
    if (!mark) return 0;
    operation(*mark, -1);
    if (room(events_)) {
      const int64_t number = events_.size();
      Event& e = events_.add();
      e = {phase, hold(op), hold(path), hold(needs), forward - base_ - 1, codes_.size(), count, -1, precision()};
      for (int64_t i = 0; i < count; ++i) encode(arguments[i]);
      mark->operation.event = number;
      opened_.push_back(base_ + number + 1);
      latest_ = base_ + number + 1;
    }
    close(*mark);
    return mark->operation.event < 0 ? 0 : base_ + mark->operation.event + 1;
  }

  void end(int64_t event, PyObject* output) {
    if (event <= base_ || event > base_ + events_.size()) return;  // of an earlier recording
    p::Mark* const mark = open(p::Kind::end);
    while (!opened_.empty() && opened_.back() >= event) opened_.pop_back();
    if (output && PyTuple_CheckExact(output) && PyTuple_GET_SIZE(output)) output = PyTuple_GET_ITEM(output, 0);
    if (output) {
      events_.at(event - base_ - 1).output = codes_.size();
      encode(is_array(output) ? output : Py_None);
    }
    if (!mark) return;
    operation(*mark, event - base_ - 1);
    close(*mark);
  }

  void cancel(int64_t event) {
    if (event <= base_ || event > base_ + events_.size()) return;
    int& phase = events_.at(event - base_ - 1).phase;
    phase = ~phase;
    end(event, nullptr);
  }

  int64_t depth() const { return static_cast<int64_t>(opened_.size()); }
  void unwind(int64_t depth) {
    if (this->depth() > depth) end(opened_[static_cast<size_t>(depth)], nullptr);
  }

  void begin_recording() {
    base_ = latest_;
    room(events_);
    room(codes_);
    room(objects_);
    start();
  }
  void step(int64_t number) { mark(p::Kind::step, number); }
  void end_recording(int64_t number) {
    mark(p::Kind::step, number, true);
    stop();
  }

  // (kind, stop, go, processor time or -1, page faults or -1, and five figures of the kind), times in nanoseconds.
  py::list mark_rows() {
    std::unordered_map<const char*, py::str> names;
    py::list rows;
    for (int64_t i = 0; i < marks.size(); ++i) {
      const p::Mark& m = marks.at(i);
      const auto head = py::make_tuple(static_cast<int>(m.kind), nanoseconds(m.stop), nanoseconds(m.go), m.processor, m.faults);
      if (m.kind == p::Kind::kernel) {
        const auto& k = m.kernel;
        const int64_t begin = nanoseconds(k.begin);
        rows.append(head + py::make_tuple(names.try_emplace(k.name, k.name).first->second, begin, duration(k.waited), duration(k.busy), k.threads));
      } else {
        const auto& o = m.operation;
        rows.append(head + py::make_tuple(o.event, o.current, o.peak, o.allocations, o.system_allocations));
      }
    }
    return rows;
  }

  // (phase, or ~phase once cancelled; op; module path; needs; number of the forward or less than 0; arguments; shape of the first output,
  // or None after an error or a backward; whether products are of bfloat16). array(dtype, shape) makes what stands for an array.
  py::list event_rows(const py::function& array) {
    py::list rows;
    for (int64_t i = 0; i < events_.size(); ++i) {
      const Event& e = events_.at(i);
      int64_t at = e.arguments;
      py::list arguments;
      for (int64_t k = 0; k < e.count; ++k) arguments.append(decode(at, array));
      at = e.output;
      py::object output = py::none();
      if (at >= 0) output = codes_.at(at) == kArray ? decode(at, array).attr("shape") : py::tuple();
      rows.append(py::make_tuple(e.phase, given(e.op), given(e.path), given(e.needs), e.forward, arguments, output,
                                e.precision == Precision::bfloat16));
    }
    return rows;
  }

  void forget() {
    for (int64_t i = 0; i < objects_.size(); ++i) Py_DECREF(objects_.at(i));
    objects_.clear();
    events_.clear();
    codes_.clear();
    marks.clear();
  }

 private:
  struct Event {
    int phase;
    PyObject *op, *path, *needs;
    int64_t forward, arguments, count, output;  // of codes_, but for the forward; output < 0: none
    Precision precision;
  };

  int64_t duration(int64_t ticks) const { return nanoseconds(ticks) - nanoseconds(0); }

  static py::object given(PyObject* object) {
    return object ? py::reinterpret_borrow<py::object>(object) : py::none();
  }

  void put(int64_t code) {
    if (!room(codes_)) throw std::bad_alloc();
    codes_.add() = code;
  }

  PyObject* hold(PyObject* object) {
    if (!object) return nullptr;
    if (!room(objects_)) throw std::bad_alloc();
    objects_.add() = Py_NewRef(object);
    return object;
  }

  void encode(PyObject* object) {
    if (is_array(object)) {
      const auto& a = *py::detail::array_proxy(object);
      put(kArray);
      put(reinterpret_cast<int64_t>(hold(a.descr)));
      put(a.nd);
      for (int i = 0; i < a.nd; ++i) put(a.dimensions[i]);
    } else if (PyList_CheckExact(object) || PyTuple_CheckExact(object)) {
      const Py_ssize_t count = PySequence_Fast_GET_SIZE(object);
      put(PyList_CheckExact(object) ? kList : kTuple);
      put(count);
      for (Py_ssize_t i = 0; i < count; ++i) encode(PySequence_Fast_GET_ITEM(object, i));
    } else {
      put(kObject);  // a function may hold arrays of any size, and no cost asks for it
      put(reinterpret_cast<int64_t>(hold(PyCallable_Check(object) ? Py_None : object)));
    }
  }

  py::object decode(int64_t& at, const py::function& array) {
    const int64_t code = codes_.at(at), n = codes_.at(at + 1);
    at += 2;
    if (code == kObject) return given(reinterpret_cast<PyObject*>(n));
    if (code == kArray) {
      py::tuple shape(codes_.at(at++));
      for (size_t i = 0; i < shape.size(); ++i) shape[i] = codes_.at(at++);
      return array(given(reinterpret_cast<PyObject*>(n)), shape);
    }
    py::list items;
    for (int64_t i = 0; i < n; ++i) items.append(decode(at, array));
    return code == kTuple ? py::object(py::tuple(items)) : py::object(items);
  }

  static inline int64_t latest_ = 0;  // number of the last event in this process
  int64_t base_ = 0;                  // numbers of this recording begin after it
  std::vector<int64_t> opened_;
  p::Rows<Event, 1024> events_;
  p::Rows<int64_t> codes_;
  p::Rows<PyObject*> objects_;
};

// Without memory the rest of the recording is lost, not the work that is recorded.
template <class F>
void guarded(const F& write) noexcept {
  Recording* const r = Recording::current();
  if (!r) return;
  try {
    write(*r);
  } catch (const std::bad_alloc&) {
    r->stop();
  }
}

const ProfileApi kProfileApi{
    [](int phase, PyObject* op, PyObject* path, PyObject* needs, PyObject* const* arguments, int64_t count, int64_t forward) {
      int64_t event = 0;
      guarded([&](Recording& r) { event = r.begin(phase, op, path, needs, arguments, count, forward); });
      return event;
    },
    [](int64_t event, PyObject* output) { guarded([&](Recording& r) { r.end(event, output); }); },
    [](int64_t event) { guarded([&](Recording& r) { r.cancel(event); }); },
    [] {
      int64_t depth = 0;
      guarded([&](Recording& r) { depth = r.depth(); });
      return depth;
    },
    [](int64_t depth) { guarded([&](Recording& r) { r.unwind(depth); }); },
};

}  // namespace

PYDL_BINDINGS(profile) {
  m.def("profile_set_on", &profile::set_on);
  m.def("profile_on", &profile::on);
  m.attr("_profile_api") = py::capsule(&kProfileApi, "pydl._core._profile_api");
  py::class_<Recording, std::shared_ptr<Recording>> recording(m, "ProfileRecording");
  recording.def(py::init<>()).def("start", &Recording::begin_recording).def("step", &Recording::step);
  recording.def("stop", &Recording::end_recording).def("marks", &Recording::mark_rows).def("events", &Recording::event_rows);
  recording.def("forget", &Recording::forget).def_readonly("dropped", &Recording::dropped);
}

}  // namespace pydl
