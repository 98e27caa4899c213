// The Python face of the core; cgc/runtime/_core.pyi is its contract. No logic of its own: arguments, locks, errors.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <tuple>
#include <vector>

#include "arena.h"
#include "blocks.h"
#include "errors.h"
#include "gil.h"
#include "pages.h"
#include "reader.h"
#include "writer.h"

namespace nb = nanobind;

namespace cgc {
namespace {

struct Exceptions {
  PyObject* closed;
  PyObject* timeout;
  PyObject* corrupt;
  PyObject* memory;
} exceptions;

Waiting waiting_for(double seconds) {
  if (std::isnan(seconds)) throw std::invalid_argument("the time-out is not a number");
  constexpr double kForever = 1e9;
  Waiting waiting{Clock::time_point::max(), signal_raised};
  if (seconds >= 0 && seconds < kForever)
    waiting.deadline =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  return waiting;
}

// One thread at a time, and not in a forked child, whose copy shares the parent's cursor.
class Turn {
 public:
  struct State {
    std::atomic_flag busy = ATOMIC_FLAG_INIT;
    std::uint64_t generation = process_generation();
  };
  Turn(State& state, const char* what) : state_(state) {
    if (state.generation != process_generation())
      throw std::logic_error(std::string("this ") + what + " belongs to the parent process");
    if (state.busy.test_and_set(std::memory_order_acquire))
      throw std::logic_error(std::string("this ") + what + " is in use by another thread");
  }
  ~Turn() { state_.busy.clear(std::memory_order_release); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  State& state_;
};

struct PyWriter {
  PyWriter(std::shared_ptr<Arena> arena, std::uint32_t ring) : writer(std::move(arena), ring) {}
  Writer writer;
  Turn::State turn;
};

struct PyReader {
  PyReader(std::shared_ptr<Arena> arena, std::uint32_t ring, std::uint32_t rank)
      : reader(std::move(arena), ring, rank) {}
  Reader reader;
  Turn::State turn;
};

// ---- writing ------------------------------------------------------------------------------------------------------

// The buffers of a message, held until it is written.
class Buffers {
 public:
  explicit Buffers(std::size_t most) : views_(new Py_buffer[most]) { bytes_.reserve(most); }
  ~Buffers() {
    for (std::size_t index = 0; index < held_; ++index) PyBuffer_Release(&views_[index]);
  }
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  void add(nb::handle object, const std::string& name) {
    Py_buffer& view = views_[held_];
    if (!PyObject_CheckBuffer(object.ptr()))
      throw nb::type_error(
          (name + " is of type " + nb::type_name(object.type()).c_str() + ", which exports no buffer").c_str());
    if (PyObject_GetBuffer(object.ptr(), &view, PyBUF_ANY_CONTIGUOUS) != 0) {
      PyErr_Clear();
      throw nb::type_error((name + " is not contiguous: send a contiguous copy (numpy.ascontiguousarray)").c_str());
    }
    ++held_;
    bytes_.push_back({view.buf, static_cast<std::size_t>(view.len)});
    total_ += bytes_.back().size;
  }

  const std::vector<Bytes>& bytes() const { return bytes_; }
  std::size_t total() const { return total_; }

 private:
  std::unique_ptr<Py_buffer[]> views_;
  std::size_t held_ = 0;
  std::vector<Bytes> bytes_;
  std::size_t total_ = 0;
};

void write_message(Writer& writer, std::uint32_t kind, std::span<const Bytes> all, std::size_t total, double timeout) {
  const auto buffers = all.subspan(1);
  if (total < kReleaseGilBytes && writer.try_write(kind, all[0], buffers)) return;
  const Waiting waiting = waiting_for(timeout);
  const GilRelease released;
  writer.write(kind, all[0], buffers, waiting);
}

void write(PyWriter& self, std::uint32_t kind, nb::handle data, nb::handle buffers, double timeout) {
  const Turn turn(self.turn, "Writer");
  const bool alone = PyTuple_CheckExact(buffers.ptr())
                         ? PyTuple_GET_SIZE(buffers.ptr()) == 0
                         : PyList_CheckExact(buffers.ptr()) && PyList_GET_SIZE(buffers.ptr()) == 0;
  if (alone && PyBytes_CheckExact(data.ptr())) {
    const Bytes blob{PyBytes_AS_STRING(data.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(data.ptr()))};
    write_message(self.writer, kind, {&blob, 1}, blob.size, timeout);
    return;
  }
  const nb::object items = owned(PySequence_Fast(buffers.ptr(), "buffers is not a sequence"));
  const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr()));
  Buffers held(count + 1);
  held.add(data, "data");
  for (std::size_t index = 0; index < count; ++index)
    held.add(PySequence_Fast_GET_ITEM(items.ptr(), static_cast<Py_ssize_t>(index)), "buffer " + std::to_string(index));
  write_message(self.writer, kind, held.bytes(), held.total(), timeout);
}

nb::object reserve(PyWriter& self, std::uint64_t nbytes, double timeout) {
  const Turn turn(self.turn, "Writer");
  const Waiting waiting = waiting_for(timeout);
  const auto reservation = [&] {
    const GilRelease released;
    return self.writer.reserve(nbytes, waiting);
  }();
  return memoryview_of({reservation.data, nbytes, true, nullptr, reservation.lease});
}

nb::tuple lag(const PyWriter& self) {
  const auto lags = self.writer.lag();
  nb::object result = owned(PyTuple_New(static_cast<Py_ssize_t>(lags.size())));
  for (std::size_t rank = 0; rank < lags.size(); ++rank)
    PyTuple_SET_ITEM(result.ptr(), static_cast<Py_ssize_t>(rank), nb::cast(lags[rank]).release().ptr());
  return nb::borrow<nb::tuple>(result);
}

// ---- reading ------------------------------------------------------------------------------------------------------

void wait_for_message(Reader& reader, double timeout) {
  if (reader.poll()) return;
  const Waiting waiting = waiting_for(timeout);
  const GilRelease released;
  reader.wait(waiting);
}

nb::object copy_of(const Reader::View& view) {
  return owned(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(view.data), static_cast<Py_ssize_t>(view.size)));
}

nb::object view_object(Reader& reader, const Reader::View& view) {
  if (view.size < kViewBytes) return owned(PyMemoryView_FromObject(copy_of(view).ptr()));
  if (auto lease = reader.lease(view))
    return memoryview_of({const_cast<std::byte*>(view.data), view.size, false, nullptr, std::move(lease)});
  Block copy = private_block(view.size, false);
  copy_bytes(copy.data, view.data, view.size);
  return memoryview_of(std::move(copy));
}

nb::object blob_object(Reader& reader, const Reader::View& view) {
  return view.size < kViewBytes ? copy_of(view) : view_object(reader, view);
}

nb::tuple read(PyReader& self, double timeout) {
  const Turn turn(self.turn, "Reader");
  Reader& reader = self.reader;
  wait_for_message(reader, timeout);
  const Reader::Message& message = reader.open();
  // Built before the message is consumed: if memory runs out here, it can be read again.
  nb::object kind = owned(PyLong_FromUnsignedLong(message.kind));
  nb::object blob = blob_object(reader, message.blob);
  nb::object buffers = owned(PyList_New(static_cast<Py_ssize_t>(message.buffers.size())));
  for (std::size_t index = 0; index < message.buffers.size(); ++index)
    PyList_SET_ITEM(buffers.ptr(), static_cast<Py_ssize_t>(index),
                    view_object(reader, message.buffers[index]).release().ptr());
  nb::object result = owned(PyTuple_New(3));
  PyTuple_SET_ITEM(result.ptr(), 0, kind.release().ptr());
  PyTuple_SET_ITEM(result.ptr(), 1, blob.release().ptr());
  PyTuple_SET_ITEM(result.ptr(), 2, buffers.release().ptr());
  reader.consume();
  return nb::borrow<nb::tuple>(result);
}

void skip(PyReader& self, double timeout) {
  const Turn turn(self.turn, "Reader");
  wait_for_message(self.reader, timeout);
  self.reader.open();
  self.reader.consume();
}

bool ready(PyReader& self) {
  const Turn turn(self.turn, "Reader");
  try {
    return self.reader.poll();
  } catch (const Closed&) {
    return false;
  }
}

// ---- arenas -------------------------------------------------------------------------------------------------------

using Shapes = std::vector<std::tuple<std::uint32_t, std::uint32_t, std::uint64_t>>;
using HandleTuple = std::tuple<int, int, std::uint64_t, std::uint64_t>;

std::shared_ptr<Arena> create(const Shapes& rings, std::uint32_t participants, std::uint64_t max_bytes, int spin_us) {
  std::vector<RingShape> shapes;
  for (const auto& [readers, slots, slot_bytes] : rings) shapes.push_back({readers, slots, slot_bytes});
  const GilRelease released;
  return Arena::create(shapes, participants, max_bytes, spin_us);
}

std::shared_ptr<Arena> attach(const HandleTuple& handle) {
  const auto [pid, descriptor, inode, cookie] = handle;
  return Arena::attach({pid, descriptor, inode, cookie});
}

HandleTuple handle_of(const Arena& arena) {
  const Handle handle = arena.handle();
  return {handle.pid, handle.descriptor, handle.inode, handle.cookie};
}

bool close(Arena& arena, std::int32_t code, std::int32_t culprit) {
  if (code < 0) throw std::invalid_argument("the code of a close is not negative");
  return arena.close(code, culprit);
}

nb::object progress(const std::shared_ptr<Arena>& arena, std::uint32_t participant) {
  std::uint64_t* words = arena->progress(participant);
  const nb::object bytes =
      memoryview_of({reinterpret_cast<std::byte*>(words), sizeof(ParticipantLines::progress), true, arena, nullptr});
  return bytes.attr("cast")("Q");
}

bool wait_state(Arena& arena, std::uint32_t participant, std::int64_t state, double timeout) {
  const Waiting waiting = waiting_for(timeout);
  const GilRelease released;
  return arena.wait_state(participant, state, waiting);
}

std::unique_ptr<PyWriter> open_writer(std::shared_ptr<Arena> arena, std::uint32_t ring) {
  return std::make_unique<PyWriter>(std::move(arena), ring);
}

std::unique_ptr<PyReader> open_reader(std::shared_ptr<Arena> arena, std::uint32_t ring, std::uint32_t rank) {
  return std::make_unique<PyReader>(std::move(arena), ring, rank);
}

// ---- pages that a device registers ---------------------------------------------------------------------------------

nb::object pages_of(nb::handle buffer) {
  Buffers held(1);
  held.add(buffer, "buffer");
  const auto [data, size] = held.bytes().front();
  const std::shared_ptr<Mapping> mapping = find_pages(data, size);
  if (!mapping) return nb::none();
  const auto offset = static_cast<const std::byte*>(data) - mapping->data();
  return nb::make_tuple(reinterpret_cast<std::uintptr_t>(mapping->data()), offset);
}

nb::object keep_pages_of(nb::handle buffer) {
  Buffers held(1);
  held.add(buffer, "buffer");
  const auto [data, size] = held.bytes().front();
  const std::shared_ptr<Mapping> mapping = find_pages(data, size);
  if (!mapping) throw std::invalid_argument("the buffer does not lie in a segment of an arena that offers its pages");
  keep_pages(*mapping);
  return memoryview_of({mapping->data(), mapping->size(), mapping->writable(), nullptr, nullptr});
}

std::vector<std::uintptr_t> wait_for_retired_pages(double timeout) {
  const Waiting waiting = waiting_for(timeout);
  const GilRelease released;
  return retired_pages(waiting.deadline);
}

// ---- errors -------------------------------------------------------------------------------------------------------

void raise(PyObject* type, const char* what, std::initializer_list<std::pair<const char*, nb::object>> attributes) {
  nb::object error = nb::steal(PyObject_CallFunction(type, "s", what));
  if (!error.is_valid()) return;  // that error stands instead
  for (const auto& [name, value] : attributes) {
    if (PyObject_SetAttrString(error.ptr(), name, value.ptr()) != 0) return;
  }
  PyErr_SetObject(type, error.ptr());
}

void translate(const std::exception_ptr& pointer, void*) {
  try {
    std::rethrow_exception(pointer);
  } catch (const Closed& error) {
    raise(exceptions.closed, error.what(), {{"code", nb::cast(error.code)}, {"culprit", nb::cast(error.culprit)}});
  } catch (const Timeout& error) {
    raise(exceptions.timeout, error.what(), {{"holders", nb::tuple(nb::cast(error.holders))}});
  } catch (const Corrupt& error) {
    raise(exceptions.corrupt, error.what(), {});
  } catch (const OutOfMemory& error) {
    raise(exceptions.memory, error.what(), {});
  } catch (const Interrupted&) {
    // The signal handler's exception is set already.
  } catch (const std::system_error& error) {
    nb::object instance = nb::steal(PyObject_CallFunction(PyExc_OSError, "is", error.code().value(), error.what()));
    if (instance.is_valid()) PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(instance.ptr())), instance.ptr());
  }
}

PyObject* add_exception(nb::module_& module, const char* name, const char* doc, PyObject* base) {
  const std::string full = std::string("cgc.runtime._core.") + name;
  PyObject* type = PyErr_NewExceptionWithDoc(full.c_str(), doc, base, nullptr);
  if (type == nullptr) throw nb::python_error();
  module.attr(name) = nb::handle(type);
  return type;  // lives as long as the process
}

void add_exceptions(nb::module_& module) {
  exceptions.closed =
      add_exception(module, "ChannelClosed", "The arena was closed: see `code` and `culprit`.", PyExc_Exception);
  exceptions.timeout = add_exception(module, "ChannelTimeout", "The time-out ended: see `holders`.", PyExc_Exception);
  exceptions.corrupt = add_exception(module, "ChannelCorrupt", "Shared memory does not make sense.", PyExc_Exception);
  exceptions.memory = add_exception(module, "ChannelMemory", "Shared memory could not be had.", PyExc_MemoryError);
  nb::register_exception_translator(translate, nullptr);
}

void add_classes(nb::module_& module) {
  using namespace nb::literals;
  nb::class_<PyWriter>(module, "Writer", nb::is_final())
      .def("write", &write, "kind"_a, "data"_a, "buffers"_a = nb::tuple(), "timeout"_a = -1.0)
      .def("reserve", &reserve, "nbytes"_a, "timeout"_a = -1.0)
      .def_prop_ro("published", [](const PyWriter& self) { return self.writer.published(); })
      .def("lag", &lag);

  nb::class_<PyReader>(module, "Reader", nb::is_final())
      .def("read", &read, "timeout"_a = -1.0)
      .def("skip", &skip, "timeout"_a = -1.0)
      .def("ready", &ready)
      .def_prop_ro("consumed", [](const PyReader& self) { return self.reader.consumed(); });

  nb::class_<Arena>(module, "Arena", nb::is_final())
      .def_static("create", &create, "rings"_a, "participants"_a, "max_bytes"_a = 0, "spin_us"_a = -1)
      .def_static("attach", &attach, "handle"_a)
      .def_prop_ro("handle", &handle_of)
      .def("release_handle", &Arena::release_handle)
      .def_prop_ro("nbytes", &Arena::nbytes)
      .def_prop_ro("closed", &Arena::closed)
      .def("close", &close, "code"_a, "culprit"_a)
      .def("progress", &progress, "participant"_a)
      .def("set_state", &Arena::set_state, "participant"_a, "state"_a)
      .def("state", &Arena::state, "participant"_a)
      .def("wait_state", &wait_state, "participant"_a, "state"_a, "timeout"_a)
      .def("writer", &open_writer, "ring"_a)
      .def("reader", &open_reader, "ring"_a, "rank"_a)
      .def("offer_pages", &Arena::offer_pages);
}

}  // namespace
}  // namespace cgc

NB_MODULE(_core, module) {
  nb::set_leak_warnings(false);  // views may outlive the interpreter
  cgc::install_exit_protocol();
  cgc::add_exceptions(module);
  cgc::bind_block(module);
  cgc::add_classes(module);
  module.def("map_private", &cgc::map_private, nb::arg("view"));
  module.def("pages_of", &cgc::pages_of, nb::arg("buffer"));
  module.def("keep_pages", &cgc::keep_pages_of, nb::arg("buffer"));
  module.def("retired_pages", &cgc::wait_for_retired_pages, nb::arg("timeout") = -1.0);
  module.def("unmap_pages", &cgc::unmap_pages, nb::arg("address"));
  module.attr("ArenaHandle") = nb::handle(reinterpret_cast<PyObject*>(&PyTuple_Type));  // an alias in the stub
  module.def("memcpy_threshold", [] { return cgc::kViewBytes; });
}
