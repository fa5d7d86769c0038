#include "core/error.h"

namespace pydl {

void fail(const char* where, const std::string& message) {
  throw Error(std::string("native ") + where + ": " + message);
}

}  // namespace pydl
