#include "blocks.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "gil.h"

namespace nb = nanobind;

namespace cgc {
namespace {

constexpr std::size_t kAlignment = 64;
// Below this a copy costs less than the page faults of a mapping. Measured: docs/decisions.md, "Shared-memory channel".
constexpr std::size_t kMapBytes = 16u << 20;

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  const Block& block = *nb::inst_ptr<Block>(self);
  return PyBuffer_FillInfo(view, self, block.data, static_cast<Py_ssize_t>(block.size), block.writable ? 0 : 1, flags);
}

}  // namespace

void bind_block(nb::module_& module) {
  static PyType_Slot slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)}, {0, nullptr}};
  nb::class_<Block>(module, "Block", nb::type_slots(slots), "Memory that a view of the core refers to.");
}

nb::object memoryview_of(Block block) {
  const nb::object owner = nb::cast(std::move(block));
  return owned(PyMemoryView_FromObject(owner.ptr()));
}

Block private_block(std::size_t size, bool writable) {
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, round_up(size + 1, kAlignment)));
  if (data == nullptr) throw std::bad_alloc();
  return {data, size, writable, std::shared_ptr<const void>(data, std::free), nullptr};
}

void copy_bytes(std::byte* to, const std::byte* from, std::size_t size) {
  if (size < kReleaseGilBytes) {
    std::memcpy(to, from, size);
    return;
  }
  const GilRelease released;
  std::memcpy(to, from, size);
}

nb::object map_private(nb::handle view) {
  if (!PyMemoryView_Check(view.ptr())) throw nb::type_error("map_private takes a memoryview that Reader.read returned");
  const Py_buffer& buffer = *PyMemoryView_GET_BUFFER(view.ptr());
  const bool small = buffer.obj != nullptr && PyBytes_CheckExact(buffer.obj);
  if (!small && (buffer.obj == nullptr || !nb::isinstance<Block>(nb::handle(buffer.obj))))
    throw nb::type_error("map_private takes a memoryview that Reader.read returned, not one of other memory");
  if (!PyBuffer_IsContiguous(&buffer, 'C')) throw nb::type_error("map_private takes a contiguous view");
  const Block* source = small ? nullptr : nb::inst_ptr<Block>(nb::handle(buffer.obj));
  auto* data = static_cast<std::byte*>(buffer.buf);
  const auto size = static_cast<std::size_t>(buffer.len);
  if (source != nullptr && !source->lease) return memoryview_of({data, size, true, source->keeper, nullptr});
  if (source == nullptr || size < kMapBytes) {
    const std::shared_ptr<Lease> lease = source == nullptr ? nullptr : source->lease;  // should the view be released
    Block block = private_block(size, true);
    copy_bytes(block.data, data, size);
    return memoryview_of(std::move(block));
  }
  // The pages are those of the segment until they are written: the lease stays.
  struct Pages {
    std::shared_ptr<Mapping> mapping;
    std::shared_ptr<Lease> lease;
  };
  std::byte* copy = nullptr;
  auto mapping = source->lease->map_copy(data, size, copy);
  return memoryview_of({copy, size, true, std::make_shared<Pages>(std::move(mapping), source->lease), nullptr});
}

}  // namespace cgc
