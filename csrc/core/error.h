// Errors of the native layer. A check guards memory safety; messages in the user's terms are written by the ops.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>

namespace pydl {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[noreturn]] void fail(const char* where, const std::string& message);

}  // namespace pydl

#define PYDL_CHECK(condition, message) \
  do {                                 \
    if (!(condition)) [[unlikely]]     \
      ::pydl::fail(__func__, message); \
  } while (0)
