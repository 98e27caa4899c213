#include "reader.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "errors.h"

namespace cgc {

Reader::Reader(std::shared_ptr<Arena> arena, std::uint32_t ring, std::uint32_t rank)
    : arena_(std::move(arena)), ring_(arena_->ring(ring)), rank_(rank), generation_(process_generation()) {
  if (rank >= ring_.layout.readers)
    throw std::out_of_range("reader " + std::to_string(rank) + " of ring " + std::to_string(ring) + ", which has " +
                            std::to_string(ring_.layout.readers));
  claim(ring_.readers[rank].pid, "reader " + std::to_string(rank) + " of ring " + std::to_string(ring));
  // relaxed: the claim has synchronised with the last reader of this rank, and nobody else moves the word.
  consumed_ = ring_.readers[rank].consumed.load(std::memory_order_relaxed);
  published_ = consumed_;
  // What lies in the spare segments may stay leased by all readers at once, and leaves the slots their segments.
  most_leases_ = (ring_.layout.segments - kSegmentsPerSlot * ring_.layout.slots) / ring_.layout.readers;
  mappings_.resize(ring_.layout.segments);
}

Reader::~Reader() {
  // release: the next reader of this rank starts from what this one left.
  if (generation_ == process_generation()) ring_.readers[rank_].pid.store(0, std::memory_order_release);
}

bool Reader::arrived() {
  if (published_ > consumed_) return true;
  // seq_cst: acquire, for slot, segments and holders; total, for the sleepers on `arrived`.
  published_ = ring_.header->published.load(std::memory_order_seq_cst);
  if (published_ < consumed_ || published_ - consumed_ > ring_.layout.slots) {
    published_ = consumed_;
    throw_corrupt("its count of published messages does not make sense");
  }
  return published_ > consumed_;
}

bool Reader::poll() {
  if (arrived()) return true;
  if (!arena_->is_closed()) return false;
  // Whatever was published before the close is seen now.
  if (arrived()) return true;
  arena_->throw_closed();
}

void Reader::wait(const Waiting& waiting) {
  if (!wait_until(ring_.header->arrived, patience_, arena_->spin(), waiting, [&] { return poll(); }))
    throw Timeout("ring " + std::to_string(ring_.index) + ": no message " + std::to_string(consumed_) + " for reader " +
                  std::to_string(rank_) + " in time");
}

const Reader::Message& Reader::open() {
  uses_.clear();
  message_.buffers.clear();
  const SlotHeader* slot = ring_.slot(consumed_);
  SlotHeader header;  // a private copy: what was checked cannot change afterwards
  std::memcpy(static_cast<void*>(&header), slot, sizeof header);
  if (header.sequence != consumed_ + 1) throw_corrupt("the slot holds another message");
  const auto* payload = reinterpret_cast<const std::byte*>(slot + 1);
  message_.kind = header.kind;
  message_.blob = view_of(header.blob, payload);
  if (header.table.length != std::uint64_t{header.buffers} * sizeof(Part))
    throw_corrupt("the table of buffers has the wrong size");
  if (header.buffers == 0) return message_;
  const View table = view_of(header.table, payload);
  message_.buffers.reserve(header.buffers);
  for (std::uint32_t index = 0; index < header.buffers; ++index) {
    Part part;
    std::memcpy(&part, table.data + index * sizeof(Part), sizeof part);
    message_.buffers.push_back(view_of(part, payload));
  }
  return message_;
}

std::shared_ptr<Lease> Reader::lease(const View& view) {
  if (view.use == kInSlot || view.size < kViewBytes) return nullptr;
  Use& use = uses_[view.use];
  if (use.lease) return use.lease;
  if (arena_->is_short()) return nullptr;
  const auto pending =
      std::count_if(uses_.begin(), uses_.end(), [](const Use& other) { return other.lease != nullptr; });
  if (leases_->load(std::memory_order_relaxed) + static_cast<std::uint32_t>(pending) >= most_leases_) return nullptr;
  const Cached& cached = mappings_[use.segment];
  use.lease = std::make_shared<Lease>(arena_, ring_, use.segment, rank_, cached.mapping, cached.offset, leases_);
  return use.lease;
}

void Reader::consume() noexcept {
  for (Use& use : uses_) {
    if (use.lease)
      use.lease->arm();
    else
      clear_holder(ring_.segments[use.segment], rank_);
  }
  uses_.clear();
  ++consumed_;
  // seq_cst: release, so that our reads of the slot are over before it is written again; total, for the sleeper.
  ring_.readers[rank_].consumed.store(consumed_, std::memory_order_seq_cst);
  notify(ring_.header->freed);
}

Reader::View Reader::view_of(const Part& part, const std::byte* payload) {
  if (part.segment == kInSlot) {
    if (part.offset > ring_.layout.slot_bytes || part.length > ring_.layout.slot_bytes - part.offset)
      throw_corrupt("a part reaches out of its slot");
    return {payload + part.offset, part.length, kInSlot};
  }
  const std::uint32_t use = use_of(part.segment);
  const Mapping& mapping = *mappings_[part.segment].mapping;
  if (part.offset > mapping.size() || part.length > mapping.size() - part.offset)
    throw_corrupt("a part reaches out of its segment");
  return {mapping.data() + part.offset, part.length, use};
}

std::uint32_t Reader::use_of(std::uint32_t segment) {
  for (std::uint32_t index = 0; index < uses_.size(); ++index) {
    if (uses_[index].segment == segment) return index;
  }
  if (segment >= ring_.layout.segments) throw_corrupt("a part names a segment that cannot exist");
  SegmentLine& line = ring_.segments[segment];
  // relaxed, all three: `published` has released them to us, and our bit keeps them as they are.
  if ((holder_word(line, rank_).load(std::memory_order_relaxed) & holder_bit(rank_)) == 0)
    throw_corrupt("a part names a segment that was not handed to this reader");
  const std::uint64_t offset = line.offset.load(std::memory_order_relaxed);
  const std::uint64_t capacity = line.capacity.load(std::memory_order_relaxed);
  Cached& cached = mappings_[segment];
  if (!cached.mapping || cached.offset != offset || cached.mapping->size() != capacity) {
    cached.mapping = nullptr;
    forget_dropped();
    cached.mapping = arena_->map_segment(offset, capacity, Mapping::Access::kReadOnly);
    cached.offset = offset;
  }
  uses_.push_back({segment, nullptr});
  return static_cast<std::uint32_t>(uses_.size() - 1);
}

// A mapping whose pages a device has registered keeps them, also when their writer has given them up.
void Reader::forget_dropped() noexcept {
  for (std::uint32_t index = 0; index < mappings_.size(); ++index) {
    Cached& cached = mappings_[index];
    const bool open = std::any_of(uses_.begin(), uses_.end(), [&](const Use& use) { return use.segment == index; });
    if (!cached.mapping || open) continue;
    // relaxed: where these words are not ours to read, the worst is a mapping that must be made again.
    const SegmentLine& line = ring_.segments[index];
    const bool current = line.offset.load(std::memory_order_relaxed) == cached.offset &&
                         line.capacity.load(std::memory_order_relaxed) == cached.mapping->size();
    if (!current) cached.mapping = nullptr;
  }
}

void Reader::throw_corrupt(const std::string& what) const {
  throw Corrupt("ring " + std::to_string(ring_.index) + ", message " + std::to_string(consumed_) + ": " + what);
}

}  // namespace cgc
