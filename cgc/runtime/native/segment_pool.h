// The segments of one ring, from its writer's side.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "arena.h"
#include "lease.h"

namespace cgc {

// A pool reuses what it has (the smallest segment that fits, the one used longest ago among equals), and grows by
// replacing: a larger segment takes the place of one that became too small. Used by one thread at a time.
//
// Segments take turns because of caches: the segment that a reader on another core has just read lies in that core's
// cache, and writing over it takes three times as long as writing over one that has left it (docs/decisions.md).
class SegmentPool {
 public:
  // Takes over the segments that an earlier writer of the ring has left. Throws Corrupt.
  SegmentPool(std::shared_ptr<Arena> arena, const Ring& ring);

  struct Segment {
    std::uint64_t offset = 0;    // in the file
    std::uint64_t capacity = 0;  // 0: absent
    std::uint64_t last_use = 0;
    std::shared_ptr<Mapping> mapping;
  };

  // The index of a free segment of at least `bytes`, or kNone when one must become free first.
  // Throws OutOfMemory when memory is short though no segment of this ring is in use.
  std::uint32_t try_acquire(std::uint64_t bytes);
  static constexpr std::uint32_t kNone = 0xffffffffu;

  bool any_free() const noexcept;
  // Who holds segments: rank by rank, kWriterRank for reservations.
  std::vector<std::uint32_t> holders() const;
  std::uint32_t live() const noexcept;

  const Segment& operator[](std::uint32_t index) const noexcept { return segments_[index]; }
  // The reserved segment that these bytes lie in and that no reader holds, or kNone.
  std::uint32_t find_reserved(const void* data, std::size_t bytes) const noexcept;

  // Set the bits of all readers: the segment is in use once the message that names it is published.
  void hand_to_readers(std::uint32_t index) noexcept;
  std::shared_ptr<Lease> reserve(std::uint32_t index);

 private:
  bool is_free(std::uint32_t index) const noexcept;
  bool is_reserved(std::uint32_t index) const noexcept;
  bool held_by_readers(std::uint32_t index) const noexcept;
  std::uint32_t best_fit(std::uint64_t bytes) const noexcept;
  std::uint32_t replaceable(std::uint64_t bytes) const noexcept;
  void add_to_rotation(std::uint32_t& index);
  void create(std::uint32_t index, std::uint64_t capacity);
  void drop(std::uint32_t index) noexcept;
  void drop_free() noexcept;

  std::shared_ptr<Arena> arena_;
  Ring ring_;
  std::vector<Segment> segments_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> holes_;  // ranges of dropped segments: (offset, capacity)
  std::shared_ptr<Lease::Count> reservations_ = std::make_shared<Lease::Count>(0);
  std::uint64_t uses_ = 0;
};

// Bytes of the segment for a message of `bytes`: at most a quarter more, and few different sizes.
std::uint64_t segment_capacity(std::uint64_t bytes) noexcept;

}  // namespace cgc
