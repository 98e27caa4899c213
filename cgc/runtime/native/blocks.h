// Python objects that export memory of the core through the buffer protocol.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <memory>

#include "lease.h"

namespace cgc {

// Memory with whatever keeps it: a lease, an arena, a private mapping, or the heap. Python sees memoryviews of it; the
// block, and with it the lease, lives until the last view is gone.
struct Block {
  std::byte* data;
  std::size_t size;
  bool writable;
  std::shared_ptr<const void> keeper;
  std::shared_ptr<Lease> lease;  // empty when the memory is private to this process
};

// Takes over a new reference; throws the Python error that stands where there is none.
inline nanobind::object owned(PyObject* reference) {
  if (reference == nullptr) throw nanobind::python_error();
  return nanobind::steal(reference);
}

void bind_block(nanobind::module_& module);

nanobind::object memoryview_of(Block block);
// Memory for a private copy, aligned as in a segment.
Block private_block(std::size_t size, bool writable);
// Copies, without the interpreter lock if that takes longer than giving it up. The caller keeps both alive.
void copy_bytes(std::byte* to, const std::byte* from, std::size_t size);
// See map_private in _core.pyi.
nanobind::object map_private(nanobind::handle view);

}  // namespace cgc
