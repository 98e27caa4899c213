// Giving up the interpreter lock while native code waits or copies, and getting it back at interpreter exit too.
#pragma once

#include <Python.h>

#include <cstddef>

namespace cgc {

// Copying this much takes longer than giving the lock up and taking it back.
constexpr std::size_t kReleaseGilBytes = 64 * 1024;

// Registers the exit handler that GilRelease needs. Call once, when the module is loaded.
void install_exit_protocol();

// Releases the lock for its lifetime.
//
// A daemon thread that asks for the lock once the interpreter finalises is ended by CPython (3.10 to 3.13) with
// pthread_exit, whose unwinding through C++ frames that catch everything aborts the process. Therefore such a thread
// parks for ever instead, as CPython itself does from 3.14 on; the exit of the process ends it.
class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  ~GilRelease();
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

// Runs Python's signal handlers, on a thread that has released the lock; true when one of them raised.
bool signal_raised();

}  // namespace cgc
