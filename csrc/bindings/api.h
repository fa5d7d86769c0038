// What the compiled graph (pydl/graph/engine.pyx) calls without going through Python: a table of C functions that the
// module _core hands over as the capsule `_core._api`. All need the GIL; nullptr with a Python error set is a failure.
#pragma once
#include <Python.h>

#include <cstdint>

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

// The capsule `_core._profile_api`: how the graph tells the calling thread's recording of an operation. The graph asks only
// while a recording is on; in threads that are not recorded nothing happens.
struct ProfileApi {
  // An operation begins, with borrowed references; `path` (str), `needs` (tuple) and `arguments` may be null. `forward` is the
  // number of the event whose backward this is, or 0. Returns the event's number, 0 where nothing is recorded.
  int64_t (*begin)(int phase, PyObject* op, PyObject* path, PyObject* needs, PyObject* const* arguments, int64_t count, int64_t forward);
  // It has ended, with an array, a tuple that begins with one, or null; and whatever is still open inside it.
  void (*end)(int64_t event, PyObject* output);
  // It ends and has been none: its time belongs to what is around it.
  void (*cancel)(int64_t event);
  int64_t (*depth)();               // how many operations are open
  void (*unwind)(int64_t depth);    // ends all but so many: an error has passed through them
};

}  // namespace pydl
