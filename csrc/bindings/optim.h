// The numbers of an optimizer's step, from Python's names.
#pragma once
#include <pybind11/pybind11.h>

#include "cpu/optim.h"

namespace pydl {

void set_options(OptimArgs& args, const pybind11::dict& options);  // absent ones are 0

}  // namespace pydl
