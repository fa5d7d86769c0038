// Copies of whole rows: what turns samples into a batch. Bytes are moved as they are, so every dtype is welcome.
#pragma once
#include <cstdint>

namespace pydl {

// out[i] = *rows[i]; each row has row_bytes bytes.
void stack_rows(const void* const* rows, int64_t count, int64_t row_bytes, void* out);

// out[i] = in[index[i]]; throws Error unless 0 <= index[i] < rows.
void take_rows(const void* in, int64_t rows, int64_t row_bytes, const int64_t* index, int64_t count, void* out);

}  // namespace pydl
