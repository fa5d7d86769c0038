#include "core/profile.h"

#include <algorithm>
#include <array>

#include "bindings/array.h"
#include "core/allocator.h"

namespace pydl {

namespace {

// What one operation has taken so far. Times are in nanoseconds.
struct Totals {
  int64_t end = 0, wall = 0, kernel = 0, waiting = 0, busy = 0, threads = 1;
  int64_t allocations = 0, system_allocations = 0, faults = 0, memory = 0, peak = 0;
  std::vector<profile::Span> spans;  // `waited` here is all that the kernel waited

  // (name, begin, duration, waited, threads) of each kernel.
  py::list kernels() const {
    py::list list;
    for (const auto& s : spans) list.append(py::make_tuple(s.name, s.begin, s.end - s.begin, s.waited, s.threads));
    return list;
  }
};

// A clock that is stopped at the borders of operations; every piece of time goes to its owner. What happens while it stands still is the
// profiler's own work.
class Sampler {
 public:
  int64_t stopped = profile::now(), resumed = stopped, overhead = 0, dropped = 0;

  Sampler() {
    Totals before;
    file(before);  // throws away what came before
    points_.clear();
    dropped = 0;
  }
  void stop() {
    before_ = stopped;
    stopped = profile::now();
    processor_before_ = processor_;
    processor_ = profile::processor_time();
  }
  // The piece that has ended with `stop` goes to `to`.
  void file(Totals& to) {
    thread_local std::vector<profile::Span> spans(profile::kMaxSpans);
    int64_t lost = 0;
    const int64_t count = profile::take_spans(spans.data(), &lost);
    int64_t kernel = 0, waited = 0, off_in_kernels = 0;
    for (int64_t i = 0; i < count; ++i) {
      profile::Span& s = spans[static_cast<size_t>(i)];
      s.waited = std::max(s.waited, s.end - s.begin - s.processor);  // for other threads, or another program had the processor
      kernel += s.end - s.begin - s.waited;
      waited += s.waited;
      off_in_kernels += s.end - s.begin - s.processor;
      to.busy += s.busy;
      to.threads = std::max(to.threads, s.threads);
      to.spans.push_back(s);
    }
    const int64_t wall = stopped - resumed, outside = wall - kernel - waited;
    // Off the processor outside of kernels, counted from stop to stop: asking for that clock at `go` too would take longer than
    // the profiler's work between, which seldom waits.
    const int64_t off = stopped - before_ - (processor_ - processor_before_) - off_in_kernels;
    to.wall += wall;
    to.kernel += kernel;
    to.waiting += waited + std::min(std::max<int64_t>(off, 0), std::max<int64_t>(outside, 0));
    const int64_t peak = memory::take_recent_peak(), faults = profile::page_faults();
    const auto m = memory::statistics();
    to.allocations += m.allocations - allocations_;
    to.system_allocations += m.system_allocations - system_allocations_;
    to.faults += faults - faults_;
    to.memory = m.current;
    to.peak = std::max(to.peak, peak);
    to.end = stopped;
    allocations_ = m.allocations;
    system_allocations_ = m.system_allocations;
    faults_ = faults;
    dropped += lost;
    points_.push_back({stopped, m.current, peak});
  }
  void go() {
    resumed = profile::now();
    overhead += resumed - stopped;
  }
  // (time, bytes in use, largest since the point before) at each stop.
  const std::vector<std::array<int64_t, 3>>& points() const { return points_; }

 private:
  int64_t before_ = stopped, processor_ = profile::processor_time(), processor_before_ = processor_;
  int64_t allocations_ = 0, system_allocations_ = 0, faults_ = 0;
  std::vector<std::array<int64_t, 3>> points_;
};

}  // namespace

PYDL_BINDINGS(profile) {
  m.def("profile_set_on", &profile::set_on);
  m.def("profile_on", &profile::on);
  py::class_<Totals> totals(m, "ProfileTotals");
  totals.def(py::init<>()).def("kernels", &Totals::kernels);
  totals.def_readonly("end", &Totals::end).def_readonly("wall", &Totals::wall).def_readonly("kernel", &Totals::kernel);
  totals.def_readonly("waiting", &Totals::waiting).def_readonly("busy", &Totals::busy).def_readonly("threads", &Totals::threads);
  totals.def_readonly("allocations", &Totals::allocations).def_readonly("faults", &Totals::faults);
  totals.def_readonly("system_allocations", &Totals::system_allocations);
  totals.def_readonly("memory", &Totals::memory).def_readonly("peak", &Totals::peak);
  py::class_<Sampler> sampler(m, "ProfileSampler");
  sampler.def(py::init<>()).def("stop", &Sampler::stop).def("file", &Sampler::file).def("go", &Sampler::go);
  sampler.def("points", &Sampler::points).def_readwrite("overhead", &Sampler::overhead);
  sampler.def_readonly("stopped", &Sampler::stopped).def_readonly("resumed", &Sampler::resumed);
  sampler.def_readonly("dropped", &Sampler::dropped);
}

}  // namespace pydl
