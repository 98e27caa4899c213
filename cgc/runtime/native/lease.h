// A lease: what keeps a segment from being written again.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "arena.h"

namespace cgc {

inline std::uint64_t holder_bit(std::uint32_t rank) noexcept { return 1ull << (rank % 64); }

inline std::atomic<std::uint64_t>& holder_word(SegmentLine& line, std::uint32_t rank) noexcept {
  return line.holders[rank / 64];
}

// Rank `rank` has no more use of the segment. The caller notifies `freed` of the ring.
inline void clear_holder(SegmentLine& line, std::uint32_t rank) noexcept {
  // seq_cst: release, so that our reads are over before the writer writes again; total, for the sleepers of `freed`.
  holder_word(line, rank).fetch_and(~holder_bit(rank), std::memory_order_seq_cst);
}

// Holds the bit of one rank in one segment from `arm()` to destruction, and the mapping with it. It may outlive its
// reader or writer and the closing of the arena, and may be dropped on any thread; in a forked child it does nothing.
class Lease {
 public:
  using Count = std::atomic<std::uint32_t>;

  Lease(std::shared_ptr<Arena> arena, const Ring& ring, std::uint32_t segment, std::uint32_t rank,
        std::shared_ptr<Mapping> mapping, std::uint64_t file_offset, std::shared_ptr<Count> count)
      : arena_(std::move(arena)),
        line_(ring.segments[segment]),
        freed_(ring.header->freed),
        rank_(rank),
        mapping_(std::move(mapping)),
        file_offset_(file_offset),
        count_(std::move(count)),
        generation_(process_generation()) {}

  ~Lease() {
    if (!armed_ || generation_ != process_generation()) return;
    count_->fetch_sub(1, std::memory_order_relaxed);  // a private number of this process, read as a hint
    clear_holder(line_, rank_);
    notify(freed_);
  }

  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  // From now on the bit, which is set, is this object's to clear.
  void arm() noexcept {
    count_->fetch_add(1, std::memory_order_relaxed);
    armed_ = true;
  }

  // A copy-on-write mapping of the pages around a stretch of the segment; `data` lies at the same place in its page.
  std::shared_ptr<Mapping> map_copy(const std::byte* data, std::size_t bytes, std::byte*& copy) const;

 private:
  std::shared_ptr<Arena> arena_;
  SegmentLine& line_;
  Event& freed_;
  std::uint32_t rank_;
  std::shared_ptr<Mapping> mapping_;
  std::uint64_t file_offset_;
  std::shared_ptr<Count> count_;
  std::uint64_t generation_;
  bool armed_ = false;
};

}  // namespace cgc
