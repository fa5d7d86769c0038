#include "core/rows.h"

#include <cstring>
#include <string>

#include "core/error.h"
#include "core/parallel.h"

namespace pydl {

namespace {

// Rows that make about 4 MiB: memory is the limit, so less is not worth waking a second thread.
int64_t grain_of(int64_t row_bytes) { return (int64_t{1} << 22) / (row_bytes + 1) + 1; }

size_t unsigned_size(int64_t bytes) { return static_cast<size_t>(bytes); }

}  // namespace

void stack_rows(const void* const* rows, int64_t count, int64_t row_bytes, void* out) {
  auto* to = static_cast<char*>(out);
  parallel_for(count, grain_of(row_bytes), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::memcpy(to + i * row_bytes, rows[i], unsigned_size(row_bytes));
  });
}

void take_rows(const void* in, int64_t rows, int64_t row_bytes, const int64_t* index, int64_t count, void* out) {
  for (int64_t i = 0; i < count; ++i)
    if (index[i] < 0 || index[i] >= rows)
      fail("take_rows", "index " + std::to_string(index[i]) + " outside of 0 to " + std::to_string(rows - 1));
  const auto* from = static_cast<const char*>(in);
  auto* to = static_cast<char*>(out);
  parallel_for(count, grain_of(row_bytes), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(to + i * row_bytes, from + index[i] * row_bytes, unsigned_size(row_bytes));
  });
}

}  // namespace pydl
