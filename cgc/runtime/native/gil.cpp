#include "gil.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>

namespace cgc {
namespace {

std::atomic<bool> exiting{false};
std::atomic<int> entering{0};  // threads between their look at `exiting` and the lock
pthread_t exit_thread;

// Announce that this thread is about to take the lock; park when it must not any more. seq_cst on both words: either
// the exit handler sees us entering, or we see it exiting.
void enter() {
  entering.fetch_add(1, std::memory_order_seq_cst);
  if (exiting.load(std::memory_order_seq_cst) && !pthread_equal(pthread_self(), exit_thread)) {
    entering.fetch_sub(1, std::memory_order_seq_cst);
    for (;;) pause();
  }
}

void entered() { entering.fetch_sub(1, std::memory_order_seq_cst); }

// Python's atexit runs this before it finalises; what still enters gets the lock first.
PyObject* at_exit(PyObject*, PyObject*) {
  exit_thread = pthread_self();
  exiting.store(true, std::memory_order_seq_cst);
  PyThreadState* state = PyEval_SaveThread();
  while (entering.load(std::memory_order_seq_cst) != 0) sched_yield();
  PyEval_RestoreThread(state);
  Py_RETURN_NONE;
}

PyMethodDef at_exit_method = {"_at_exit", at_exit, METH_NOARGS, nullptr};

}  // namespace

void install_exit_protocol() {
  // The threads that were entering are not in the child.
  pthread_atfork(nullptr, nullptr, [] { entering.store(0, std::memory_order_seq_cst); });
  PyObject* handler = PyCFunction_New(&at_exit_method, nullptr);
  PyObject* module = PyImport_ImportModule("atexit");
  PyObject* result = handler && module ? PyObject_CallMethod(module, "register", "O", handler) : nullptr;
  Py_XDECREF(result);
  Py_XDECREF(module);
  Py_XDECREF(handler);
}

GilRelease::~GilRelease() {
  enter();
  PyEval_RestoreThread(state_);
  entered();
}

bool signal_raised() {
  enter();
  const PyGILState_STATE state = PyGILState_Ensure();
  entered();
  const bool raised = PyErr_CheckSignals() != 0;
  PyGILState_Release(state);
  return raised;
}

}  // namespace cgc
