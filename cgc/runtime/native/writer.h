// The writing side of a ring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "arena.h"
#include "segment_pool.h"

namespace cgc {

struct Bytes {
  const void* data;
  std::size_t size;
};

// Owned by one process, used by one thread at a time.
class Writer {
 public:
  Writer(std::shared_ptr<Arena> arena, std::uint32_t ring);
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // Publish a message, or return false if that means to wait. Throws Closed, OutOfMemory, Corrupt; then, and after
  // false, nothing was published.
  bool try_write(std::uint32_t kind, Bytes blob, std::span<const Bytes> buffers);
  // The same, waiting. Throws Timeout and Interrupted too.
  void write(std::uint32_t kind, Bytes blob, std::span<const Bytes> buffers, const Waiting& waiting);

  struct Reservation {
    std::byte* data;
    std::shared_ptr<Lease> lease;  // until it ends, the segment is used for nothing else
  };
  Reservation reserve(std::uint64_t bytes, const Waiting& waiting);

  std::uint64_t published() const noexcept { return published_; }
  std::vector<std::uint64_t> lag() const;
  std::uint32_t ring() const noexcept { return ring_.index; }

 private:
  bool slot_free();
  Part place(std::uint64_t length) noexcept;
  void place_all(Bytes blob, std::span<const Bytes> buffers);
  void copy_all(std::uint32_t kind, Bytes blob, std::span<const Bytes> buffers, std::uint32_t fresh);
  std::byte* address(const Part& part) const noexcept;
  void publish();
  void wait_for_room(const Waiting& waiting);
  [[noreturn]] void throw_timeout() const;
  std::uint64_t consumed(std::uint32_t rank) const;

  std::shared_ptr<Arena> arena_;
  Ring ring_;
  SegmentPool pool_;
  std::uint64_t generation_;
  std::uint64_t published_;
  Patience patience_;
  std::uint64_t least_consumed_;  // at least this many were consumed by every reader

  // The message being written; members, so that their memory is reused.
  Part blob_{};
  Part table_{};
  std::vector<Part> parts_;
  std::vector<std::uint32_t> reserved_;  // segments of reservations that the message refers to
  std::uint64_t slot_used_ = 0;
  std::uint64_t fresh_used_ = 0;
  bool lacks_segment_ = false;  // what the last refused try was short of: a segment, or else a slot
};

}  // namespace cgc
