#include "writer.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "errors.h"

namespace cgc {
namespace {

constexpr std::uint32_t kFresh = kInSlot - 1;  // in `parts_` only: the segment that is acquired for this message
constexpr std::uint64_t kSlotAlignment = 8;
constexpr std::uint64_t kSegmentAlignment = 64;

std::string list(const std::vector<std::uint32_t>& ranks) {
  std::string text;
  for (const std::uint32_t rank : ranks) text += (text.empty() ? "" : ", ") + std::to_string(rank);
  return text;
}

}  // namespace

Writer::Writer(std::shared_ptr<Arena> arena, std::uint32_t ring)
    : arena_(std::move(arena)),
      ring_((claim(arena_->ring(ring).header->writer_pid, "the writer's side of ring " + std::to_string(ring)),
             arena_->ring(ring))),
      pool_(arena_, ring_),
      generation_(process_generation()),
      // relaxed: the claim has synchronised with the last writer, and nobody else moves the word.
      published_(ring_.header->published.load(std::memory_order_relaxed)),
      least_consumed_(published_ > ring_.layout.slots ? published_ - ring_.layout.slots : 0) {}

Writer::~Writer() {
  // release: the next writer starts from what this one left.
  if (generation_ == process_generation()) ring_.header->writer_pid.store(0, std::memory_order_release);
}

bool Writer::try_write(std::uint32_t kind, Bytes blob, std::span<const Bytes> buffers) {
  arena_->check_open();
  lacks_segment_ = false;
  if (!slot_free()) return false;
  place_all(blob, buffers);
  std::uint32_t fresh = kInSlot;
  if (fresh_used_ != 0) {
    fresh = pool_.try_acquire(fresh_used_);
    lacks_segment_ = fresh == SegmentPool::kNone;
    if (lacks_segment_) return false;
  }
  copy_all(kind, blob, buffers, fresh);
  if (fresh_used_ != 0) pool_.hand_to_readers(fresh);
  for (const std::uint32_t segment : reserved_) pool_.hand_to_readers(segment);
  publish();
  return true;
}

void Writer::write(std::uint32_t kind, Bytes blob, std::span<const Bytes> buffers, const Waiting& waiting) {
  while (!try_write(kind, blob, buffers)) wait_for_room(waiting);
}

Writer::Reservation Writer::reserve(std::uint64_t bytes, const Waiting& waiting) {
  for (;;) {
    arena_->check_open();
    const std::uint32_t segment = pool_.try_acquire(bytes);
    if (segment != SegmentPool::kNone) return {pool_[segment].mapping->data(), pool_.reserve(segment)};
    lacks_segment_ = true;
    wait_for_room(waiting);
  }
}

std::vector<std::uint64_t> Writer::lag() const {
  std::vector<std::uint64_t> lags(ring_.layout.readers);
  for (std::uint32_t rank = 0; rank < lags.size(); ++rank) lags[rank] = published_ - consumed(rank);
  return lags;
}

std::uint64_t Writer::consumed(std::uint32_t rank) const {
  // seq_cst: acquire, so that the slot is written after the reader has read it; total, for the sleeper on `freed`.
  const std::uint64_t count = ring_.readers[rank].consumed.load(std::memory_order_seq_cst);
  if (count > published_ || published_ - count > ring_.layout.slots)
    throw Corrupt("ring " + std::to_string(ring_.index) + ": reader " + std::to_string(rank) +
                  " says it has consumed " + std::to_string(count) + " of " + std::to_string(published_) + " messages");
  return count;
}

bool Writer::slot_free() {
  if (published_ - least_consumed_ < ring_.layout.slots) return true;
  std::uint64_t least = published_;
  for (std::uint32_t rank = 0; rank < ring_.layout.readers; ++rank) least = std::min(least, consumed(rank));
  least_consumed_ = least;
  return published_ - least_consumed_ < ring_.layout.slots;
}

Part Writer::place(std::uint64_t length) noexcept {
  if (length < kViewBytes && length <= ring_.layout.slot_bytes - slot_used_) {
    const Part part{kInSlot, 0, slot_used_, length};
    slot_used_ = std::min(round_up(slot_used_ + length, kSlotAlignment), ring_.layout.slot_bytes);
    return part;
  }
  const Part part{kFresh, 0, fresh_used_, length};
  fresh_used_ = round_up(fresh_used_ + length, kSegmentAlignment);
  return part;
}

void Writer::place_all(Bytes blob, std::span<const Bytes> buffers) {
  slot_used_ = 0;
  fresh_used_ = 0;
  reserved_.clear();
  parts_.clear();
  blob_ = place(blob.size);
  table_ = place(buffers.size() * sizeof(Part));
  for (const Bytes& buffer : buffers) {
    const std::uint32_t segment = pool_.find_reserved(buffer.data, buffer.size);
    if (segment == SegmentPool::kNone || buffer.size == 0) {
      parts_.push_back(place(buffer.size));
      continue;
    }
    const auto offset = static_cast<const std::byte*>(buffer.data) - pool_[segment].mapping->data();
    parts_.push_back({segment, 0, static_cast<std::uint64_t>(offset), buffer.size});
    reserved_.push_back(segment);
  }
}

void Writer::copy_all(std::uint32_t kind, Bytes blob, std::span<const Bytes> buffers, std::uint32_t fresh) {
  const auto settle = [&](Part& part) {
    const bool copied = part.segment == kFresh || part.segment == kInSlot;
    if (part.segment == kFresh) part.segment = fresh;
    return copied && part.length != 0;
  };
  if (settle(blob_)) std::memcpy(address(blob_), blob.data, blob.size);
  for (std::size_t index = 0; index < buffers.size(); ++index) {
    if (settle(parts_[index])) std::memcpy(address(parts_[index]), buffers[index].data, buffers[index].size);
  }
  if (settle(table_)) std::memcpy(address(table_), parts_.data(), table_.length);
  const SlotHeader header{published_ + 1, kind, static_cast<std::uint32_t>(buffers.size()), blob_, table_};
  std::memcpy(static_cast<void*>(ring_.slot(published_)), &header, sizeof header);
}

std::byte* Writer::address(const Part& part) const noexcept {
  std::byte* base = part.segment == kInSlot ? reinterpret_cast<std::byte*>(ring_.slot(published_) + 1)
                                            : pool_[part.segment].mapping->data();
  return base + part.offset;
}

void Writer::publish() {
  ++published_;
  // seq_cst: release, so that a reader that sees the number sees slot, segments and holders; total, for the sleepers.
  ring_.header->published.store(published_, std::memory_order_seq_cst);
  notify(ring_.header->arrived);
}

void Writer::wait_for_room(const Waiting& waiting) {
  const bool room = wait_until(ring_.header->freed, patience_, arena_->spin(), waiting, [&] {
    arena_->check_open();
    return lacks_segment_ ? pool_.any_free() : slot_free();
  });
  if (!room) throw_timeout();
}

void Writer::throw_timeout() const {
  const std::string ring = "ring " + std::to_string(ring_.index) + ": ";
  std::vector<std::uint32_t> ranks;
  if (!lacks_segment_) {
    for (std::uint32_t rank = 0; rank < ring_.layout.readers; ++rank) {
      if (published_ - consumed(rank) >= ring_.layout.slots) ranks.push_back(rank);
    }
    throw Timeout(ring + "reader " + list(ranks) + " has not taken the oldest of " +
                      std::to_string(ring_.layout.slots) + " messages, and there are no more slots",
                  ranks);
  }
  ranks = pool_.holders();
  const bool reserved = !ranks.empty() && ranks.back() == kWriterRank;
  if (reserved) ranks.pop_back();
  throw Timeout(ring + "all " + std::to_string(pool_.live()) +
                    " segments are in use, and there can be no more of them: " +
                    (ranks.empty() ? "" : "reader " + list(ranks) + " keeps views of earlier messages") +
                    (reserved ? std::string(ranks.empty() ? "" : "; ") + "the writer keeps reserved arrays" : ""),
                ranks);
}

}  // namespace cgc
