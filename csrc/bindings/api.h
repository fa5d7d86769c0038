// What the compiled graph (pydl/graph/engine.pyx) calls without going through Python: a table of C functions that the
// module _core hands over as the capsule `_core._api`. All need the GIL; nullptr with a Python error set is a failure.
#pragma once
#include <Python.h>

namespace pydl {

struct Api {
  // f(arrays...) as a new array in pooled memory. nullptr without an error: the operands are not what the short way
  // takes (one floating dtype, one shape and one dense memory order, or no axes) and the long way must be taken.
  PyObject* (*map)(int function, int count, PyObject* const* arrays, const double* constants, int constant_count);
  // A number as an array without axes, of the dtype of `like`; nullptr without an error if that is no float.
  PyObject* (*scalar)(double value, PyObject* like);
  // sum += more, in place: 1; 0 if that needs the long way (as for `map`); -1 with an error.
  int (*add_into)(PyObject* sum, PyObject* more);
  // Whether two arrays have the same shape; 0 as well where one is no array.
  int (*same_shape)(PyObject* a, PyObject* b);
  // The precision in which this thread computes products, and a precision of its own for it (core/precision.h).
  int (*precision)();
  int (*set_thread_precision)(int p);
};

}  // namespace pydl
