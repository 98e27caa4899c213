#include "segment_pool.h"

#include <algorithm>
#include <bit>

#include "errors.h"

namespace cgc {
namespace {

// Segments of one capacity that take turns: as many as fill the second-level cache of a reader's core twice over.
constexpr std::uint64_t kRotationBytes = 2ull << 20;
constexpr std::uint64_t kMostInRotation = 8;

}  // namespace

std::uint64_t segment_capacity(std::uint64_t bytes) noexcept {
  if (bytes <= kFileAlignment) return kFileAlignment;
  return round_up(round_up(bytes, std::bit_floor(bytes) / 4), kFileAlignment);
}

SegmentPool::SegmentPool(std::shared_ptr<Arena> arena, const Ring& ring)
    : arena_(std::move(arena)), ring_(ring), segments_(ring.layout.segments) {
  for (std::uint32_t index = 0; index < segments_.size(); ++index) {
    // relaxed: claiming the writer's side has synchronised with the last writer.
    Segment& segment = segments_[index];
    segment.offset = ring_.segments[index].offset.load(std::memory_order_relaxed);
    segment.capacity = ring_.segments[index].capacity.load(std::memory_order_relaxed);
    if (segment.capacity != 0)
      segment.mapping = arena_->map_segment(segment.offset, segment.capacity, Mapping::Access::kReadWrite);
  }
}

std::uint32_t SegmentPool::try_acquire(std::uint64_t bytes) {
  if (bytes > kMaxFileBytes)
    throw OutOfMemory("a message of " + describe_bytes(bytes) + " is more than a file can hold");
  std::uint32_t index = best_fit(bytes);
  if (index == kNone) {
    const std::uint64_t capacity = segment_capacity(bytes);
    index = replaceable(bytes);
    if (index == kNone) return kNone;
    drop(index);
    if (!arena_->within_limit(capacity)) drop_free();
    const bool may_wait = live() > 0 && arena_->can_ever_have(capacity);
    if (!arena_->within_limit(capacity) && may_wait) return kNone;
    try {
      create(index, capacity);
    } catch (const OutOfMemory&) {
      drop_free();
      create(index, capacity);
    }
  } else {
    add_to_rotation(index);
  }
  segments_[index].last_use = ++uses_;
  return index;
}

bool SegmentPool::any_free() const noexcept {
  for (std::uint32_t index = 0; index < segments_.size(); ++index) {
    if (segments_[index].capacity != 0 && is_free(index)) return true;
  }
  return false;
}

std::vector<std::uint32_t> SegmentPool::holders() const {
  std::vector<std::uint32_t> ranks;
  for (std::uint32_t rank = 0; rank <= kWriterRank; ++rank) {
    const bool holds = std::any_of(segments_.begin(), segments_.end(), [&](const Segment& segment) {
      SegmentLine& line = ring_.segments[&segment - segments_.data()];
      return segment.capacity != 0 &&
             (holder_word(line, rank).load(std::memory_order_relaxed) & holder_bit(rank)) != 0;  // for a message only
    });
    if (holds) ranks.push_back(rank);
  }
  return ranks;
}

std::uint32_t SegmentPool::live() const noexcept {
  return static_cast<std::uint32_t>(
      std::count_if(segments_.begin(), segments_.end(), [](const Segment& segment) { return segment.capacity != 0; }));
}

std::uint32_t SegmentPool::find_reserved(const void* data, std::size_t bytes) const noexcept {
  if (reservations_->load(std::memory_order_relaxed) == 0) return kNone;  // the common case: the caller has none
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  for (std::uint32_t index = 0; index < segments_.size(); ++index) {
    const Segment& segment = segments_[index];
    if (!segment.mapping) continue;
    const auto base = reinterpret_cast<std::uintptr_t>(segment.mapping->data());
    const bool inside =
        address >= base && address - base <= segment.capacity && bytes <= segment.capacity - (address - base);
    if (inside && is_reserved(index) && !held_by_readers(index)) return index;
  }
  return kNone;
}

void SegmentPool::hand_to_readers(std::uint32_t index) noexcept {
  for (std::uint32_t rank = 0; rank < ring_.layout.readers; rank += 64) {
    const std::uint32_t count = std::min(64u, ring_.layout.readers - rank);
    const std::uint64_t mask = count == 64 ? ~0ull : holder_bit(count) - 1;
    // relaxed: `published` releases it. An addition, since the bit of a reservation may be cleared at the same moment.
    ring_.segments[index].holders[rank / 64].fetch_or(mask, std::memory_order_relaxed);
  }
}

std::shared_ptr<Lease> SegmentPool::reserve(std::uint32_t index) {
  const Segment& segment = segments_[index];
  auto lease =
      std::make_shared<Lease>(arena_, ring_, index, kWriterRank, segment.mapping, segment.offset, reservations_);
  // relaxed: only this process moves the bit.
  holder_word(ring_.segments[index], kWriterRank).fetch_or(holder_bit(kWriterRank), std::memory_order_relaxed);
  lease->arm();
  return lease;
}

bool SegmentPool::is_free(std::uint32_t index) const noexcept {
  for (const auto& word : ring_.segments[index].holders) {
    // seq_cst: acquire, after the last reader's reads; total, for the sleeper on `freed`.
    if (word.load(std::memory_order_seq_cst) != 0) return false;
  }
  return true;
}

bool SegmentPool::is_reserved(std::uint32_t index) const noexcept {
  return (holder_word(ring_.segments[index], kWriterRank).load(std::memory_order_relaxed) & holder_bit(kWriterRank)) !=
         0;
}

bool SegmentPool::held_by_readers(std::uint32_t index) const noexcept {
  for (std::uint32_t word = 0; word < kHolderWords; ++word) {
    const std::uint64_t own = word == kWriterRank / 64 ? holder_bit(kWriterRank) : 0;
    // acquire: after the reads of whoever cleared the last bit.
    if ((ring_.segments[index].holders[word].load(std::memory_order_acquire) & ~own) != 0) return true;
  }
  return false;
}

std::uint32_t SegmentPool::best_fit(std::uint64_t bytes) const noexcept {
  std::uint32_t best = kNone;
  for (std::uint32_t index = 0; index < segments_.size(); ++index) {
    const Segment& segment = segments_[index];
    if (segment.capacity < bytes || segment.capacity == 0) continue;
    const bool better = best == kNone || segment.capacity < segments_[best].capacity ||
                        (segment.capacity == segments_[best].capacity && segment.last_use < segments_[best].last_use);
    if (better && is_free(index)) best = index;
  }
  return best;
}

// Where a new segment of `bytes` goes: the largest free one that is too small, else an absent one.
std::uint32_t SegmentPool::replaceable(std::uint64_t bytes) const noexcept {
  std::uint32_t best = kNone;
  for (std::uint32_t index = 0; index < segments_.size(); ++index) {
    const Segment& segment = segments_[index];
    if (segment.capacity >= bytes && segment.capacity != 0) continue;
    const bool better = best == kNone || segment.capacity > segments_[best].capacity;
    if (better && (segment.capacity == 0 || is_free(index))) best = index;
  }
  return best;
}

// Instead of the free segment `index` take a new one of its capacity, while too few of them take turns and memory is
// not short.
void SegmentPool::add_to_rotation(std::uint32_t& index) {
  const std::uint64_t capacity = segments_[index].capacity;
  std::uint64_t equal = 0;
  std::uint32_t absent = kNone;
  for (std::uint32_t other = 0; other < segments_.size(); ++other) {
    if (segments_[other].capacity == capacity) ++equal;
    if (segments_[other].capacity == 0 && absent == kNone) absent = other;
  }
  if (absent == kNone || equal >= kMostInRotation || equal * capacity >= kRotationBytes) return;
  if (!arena_->within_limit(capacity)) return;
  try {
    create(absent, capacity);
    index = absent;
  } catch (const OutOfMemory&) {  // then the free one will do
  }
}

void SegmentPool::create(std::uint32_t index, std::uint64_t capacity) {
  std::uint64_t offset;
  if (arena_->pages_offered()) holes_.clear();
  const auto hole =
      std::find_if(holes_.begin(), holes_.end(), [&](const auto& range) { return range.second == capacity; });
  if (hole != holes_.end()) {
    offset = hole->first;
    arena_->restore_segment(offset, capacity);
    holes_.erase(hole);
  } else {
    offset = arena_->add_segment(capacity);
  }
  try {
    segments_[index].mapping = arena_->map_segment(offset, capacity, Mapping::Access::kReadWrite);
  } catch (...) {
    arena_->drop_segment(offset, capacity);
    holes_.emplace_back(offset, capacity);
    throw;
  }
  segments_[index].offset = offset;
  segments_[index].capacity = capacity;
  // relaxed: no reader looks at them before a message names the segment, and `published` releases them.
  ring_.segments[index].offset.store(offset, std::memory_order_relaxed);
  ring_.segments[index].capacity.store(capacity, std::memory_order_relaxed);
}

void SegmentPool::drop(std::uint32_t index) noexcept {
  Segment& segment = segments_[index];
  if (segment.capacity == 0) return;
  ring_.segments[index].capacity.store(0, std::memory_order_relaxed);
  ring_.segments[index].offset.store(0, std::memory_order_relaxed);
  segment.mapping.reset();
  arena_->drop_segment(segment.offset, segment.capacity);
  holes_.emplace_back(segment.offset, segment.capacity);
  segment = {};
}

void SegmentPool::drop_free() noexcept {
  for (std::uint32_t index = 0; index < segments_.size(); ++index) {
    if (segments_[index].capacity != 0 && is_free(index)) drop(index);
  }
}

}  // namespace cgc
