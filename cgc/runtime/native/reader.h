// The reading side of a ring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "arena.h"
#include "lease.h"

namespace cgc {

// Owned by one process, used by one thread at a time:
//
//   if (!reader.poll()) reader.wait(waiting);
//   const Message& message = reader.open();   // look at the next message, copy, take leases ...
//   reader.consume();                         // ... and give the slot back
class Reader {
 public:
  Reader(std::shared_ptr<Arena> arena, std::uint32_t ring, std::uint32_t rank);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  struct View {
    const std::byte* data;
    std::size_t size;
    std::uint32_t use;  // which of the message's segments, or kInSlot
  };
  struct Message {
    std::uint32_t kind;
    View blob;
    std::vector<View> buffers;
  };

  // Whether a message is there. Throws Closed when there is none and will be none, and Corrupt.
  bool poll();
  void wait(const Waiting& waiting);  // throws Timeout, Closed, Corrupt, Interrupted

  // The next message, which must be there. Valid until consume(). Throws Corrupt, OutOfMemory; nothing is consumed.
  const Message& open();
  // The lease of a view that lies in a segment, in force from consume() on. Empty when the view should be copied: it is
  // small, or this reader keeps so many leases that more could leave the writer without segments.
  std::shared_ptr<Lease> lease(const View& view);
  void consume() noexcept;

  std::uint64_t consumed() const noexcept { return consumed_; }
  std::uint32_t ring() const noexcept { return ring_.index; }

 private:
  struct Use {  // a segment that the open message refers to
    std::uint32_t segment;
    std::shared_ptr<Lease> lease;
  };
  struct Cached {
    std::uint64_t offset = 0;
    std::shared_ptr<Mapping> mapping;
  };

  bool arrived();
  View view_of(const Part& part, const std::byte* payload);
  std::uint32_t use_of(std::uint32_t segment);
  void forget_dropped() noexcept;
  [[noreturn]] void throw_corrupt(const std::string& what) const;

  std::shared_ptr<Arena> arena_;
  Ring ring_;
  std::uint32_t rank_;
  std::uint64_t generation_;
  std::uint64_t consumed_;
  Patience patience_;
  std::uint64_t published_;  // at least this many were published
  std::uint32_t most_leases_;
  std::shared_ptr<Lease::Count> leases_ = std::make_shared<Lease::Count>(0);
  std::vector<Cached> mappings_;  // by segment
  Message message_{};
  std::vector<Use> uses_;
};

}  // namespace cgc
