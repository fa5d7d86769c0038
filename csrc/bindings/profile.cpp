#include "core/profile.h"

#include "bindings/array.h"
#include "core/allocator.h"

namespace pydl {

namespace {

// All counters of one moment at the price of one call: (time, processor time, bytes in use, largest since the last sample,
// allocations, of these from the system, page faults, spans dropped, spans). A span is (kernel, begin, end, processor,
// waited, busy, threads). Times are in nanoseconds.
py::tuple sample() {
  thread_local std::vector<profile::Span> spans(profile::kMaxSpans);
  int64_t dropped = 0;
  const int64_t count = profile::take_spans(spans.data(), &dropped);
  py::list list;
  for (int64_t i = 0; i < count; ++i) {
    const profile::Span& s = spans[static_cast<size_t>(i)];
    list.append(py::make_tuple(s.name, s.begin, s.end, s.processor, s.waited, s.busy, s.threads));
  }
  const int64_t peak = memory::take_recent_peak();
  const auto m = memory::statistics();
  return py::make_tuple(profile::now(), profile::processor_time(), m.current, peak, m.allocations, m.system_allocations,
                        profile::page_faults(), dropped, list);
}

}  // namespace

PYDL_BINDINGS(profile) {
  m.def("profile_set_on", &profile::set_on);
  m.def("profile_on", &profile::on);
  m.def("profile_sample", &sample);
  m.def("profile_now", &profile::now);
}

}  // namespace pydl
