// What one thread does while it is recorded: a row for each border of an operation and for each kernel.
//
// A row must cost far less than the operation it describes, and the smallest take a few microseconds. So the clock is the
// processor's own counter (about 10 ns; asking the system for the time takes 60); what only the system knows (time on the
// processor, page faults: together 1 to 2 us) is asked for once in 200 us, and where the pool has just taken fresh memory;
// and everything that can be worked out from the rows waits until the recording has ended.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace pydl::profile {

int64_t page_faults() noexcept;  // of the process

// A growing table. Its memory is touched when it is taken: writing a row takes no page faults.
template <class T, int64_t kChunk = 4096>
class Rows {
 public:
  int64_t size() const { return size_; }
  bool full() const { return size_ == static_cast<int64_t>(chunks_.size()) * kChunk; }
  void grow() { chunks_.emplace_back(new T[kChunk]()); }
  T& add() { return at(size_++); }  // not when full
  T& at(int64_t i) { return chunks_[static_cast<size_t>(i / kChunk)][static_cast<size_t>(i % kChunk)]; }
  void clear() {
    chunks_.clear();
    size_ = 0;
  }

 private:
  std::vector<std::unique_ptr<T[]>> chunks_;
  int64_t size_ = 0;
};

enum class Kind : int64_t { begin, end, step, kernel };

// Times are in ticks. Between `stop` and `go` lies the profiler's own work.
struct Mark {
  Kind kind;
  int64_t stop, go;
  int64_t processor;  // nanoseconds that the thread was on a processor, or -1: not asked for
  int64_t faults;     // page faults of the process without the log's own, or -1
  struct Operation {  // and steps
    int64_t event;
    int64_t current, peak;  // bytes in use; the most since the mark before
    int64_t allocations, system_allocations;
  };
  struct Kernel {
    const char* name;
    int64_t begin, waited, busy, threads;
  };
  union {
    Operation operation;
    Kernel kernel;
  };
};

class Log : public std::enable_shared_from_this<Log> {
 public:
  // The calling thread's, or nullptr.
  static Log* current() noexcept;

  virtual ~Log() = default;
  void start();  // records the calling thread, until `stop`
  void stop() noexcept;
  bool active() const { return active_.load(std::memory_order_relaxed); }

  Mark* open(Kind kind) noexcept;  // the clock stops; nullptr without memory for it
  void operation(Mark& mark, int64_t event) noexcept;
  void close(Mark& mark, bool ask = false) noexcept;  // the clock goes on
  void mark(Kind kind, int64_t event, bool ask = false) noexcept;

  // Makes room for one more row; false without memory.
  template <class T, int64_t kChunk>
  bool room(Rows<T, kChunk>& rows) noexcept {
    if (!rows.full()) [[likely]]
      return true;
    const int64_t before = page_faults();
    try {
      rows.grow();
    } catch (const std::bad_alloc&) {
      return false;
    }
    own_faults_ += page_faults() - before;
    return true;
  }
  int64_t nanoseconds(int64_t ticks) const noexcept;  // of the monotonic clock, once stopped

  Rows<Mark> marks;
  int64_t dropped = 0;  // marks for which there was no memory

 private:
  struct Moment {
    int64_t ticks, nanoseconds;
  };
  static Moment moment() noexcept;

  Moment first_{}, last_{};
  int64_t every_ = 0, asked_ = 0;  // ticks between questions to the system, and when it was asked last
  int64_t own_faults_ = 0, system_allocations_ = 0;
  std::atomic<bool> active_{false};
};

}  // namespace pydl::profile
