// The shared-memory layout of an arena: every word that two processes share is declared here, and nowhere else.
//
// An arena is one anonymous file (memfd). Its first `control_bytes` hold, in this order,
//
//   ArenaHeader | RingEntry[rings] | ParticipantLines[participants] | ring 0 | ring 1 | ...
//   ring:  RingHeader | ReaderLine[readers] | SegmentLine[segments] | slot[slots]
//   slot:  SlotHeader | payload[slot_bytes]
//
// and after them lie the segments: page ranges that writers append, for messages that do not fit a slot.
//
// State machines. Each word has the one owner who may move it; `kill -9` of its owner freezes it in a valid state.
//
//   published (writer)       n ──write message n into slot n % slots──▶ n + 1   waits while a reader r has
//                                                                               published - consumed[r] == slots
//   consumed[r] (reader r)   n ──take what it needs of message n──▶ n + 1       waits while consumed[r] == published
//
//   a segment                free ──writer: sets the bit of every reader, then publishes──▶ in use
//     (holders: one bit a    in use ──reader r: drops its last view, or needs none: clears bit r──▶ in use
//      reader, one for the   in use ──last bit cleared──▶ free
//      reservations of       free ──writer: gives the pages back, capacity = 0──▶ absent
//      the writer)           absent ──writer: reserves a range, sets offset and capacity──▶ free
//
//   pages_offered (anybody)  0 ──a device may register pages──▶ 1, for ever
//
//   closed (anybody)         0 ──compare-and-swap──▶ kClosedFlag | code | culprit, for ever
//
//   Event                    a waiter adds itself to `sleepers`, reads `sequence`, checks its condition, and sleeps
//                            while `sequence` is unchanged; a notifier changes the condition, and if there are sleepers
//                            moves `sequence` and wakes them. A process killed asleep leaves `sleepers` too high, which
//                            costs later notifiers a system call each and nothing else. A notifier killed between its
//                            change and its wake costs the sleeper one slice of its sleep (wait.h).
//
// What a killed process leaves behind for a successor in its role: a reader, the bits of segments that it held, which
// stay in use; a writer, at most one segment with bits set but not published, or not yet in the table. Both cost memory
// until the arena goes, and nothing else.
//
// Memory orders, beside each use:  release/acquire on `published` and `consumed` carry slots and segments between the
// processes; the pairs condition/`sleepers` need a total order (each side stores one and loads the other), therefore
// conditions and `sleepers` use sequentially consistent operations, not fences, which ThreadSanitizer cannot see.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "platform.h"

namespace cgc {

constexpr std::size_t kLine = 64;  // what shares a line shares its misses: words of different owners are on own lines
constexpr std::uint64_t kMagic = 0x616e657261636763;  // "cgcarena"
constexpr std::uint32_t kLayoutVersion = 2;

constexpr std::uint32_t kHolderWords = 6;
constexpr std::uint32_t kWriterRank = kHolderWords * 64 - 1;  // the bit of the writer's own reservations
constexpr std::uint32_t kMaxReaders = kWriterRank;
constexpr std::uint32_t kMaxSlots = 1u << 20;
constexpr std::uint32_t kMaxRings = 1u << 20;
constexpr std::uint32_t kMaxParticipants = 1u << 20;
constexpr std::uint64_t kMaxSlotBytes = 1ull << 40;
constexpr std::uint64_t kMaxFileBytes = 1ull << 62;  // sums of checked sizes stay far from overflow

// From this size a part of a message goes to a segment and is handed out as a view; smaller ones lie in the slot (where
// it has room) and are copied. Measured: docs/decisions.md, "Shared-memory channel".
constexpr std::uint64_t kViewBytes = 4 * 1024;

// A message under way has one segment for what is copied, and one for what was written where it is sent from.
constexpr std::uint32_t kSegmentsPerSlot = 2;

constexpr std::uint64_t kClosedFlag = 1ull << 63;
constexpr std::uint32_t kInSlot = 0xffffffffu;  // Part::segment of what lies in the slot itself

struct alignas(kLine) Event {
  std::atomic<std::uint32_t> sequence;  // the futex word
  std::atomic<std::uint32_t> sleepers;
};
static_assert(sizeof(Event) == kLine);

// Written once by the creator, before anybody else has the file; copied and checked by whoever attaches.
struct alignas(kLine) ArenaGeometry {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t rings;
  std::uint32_t participants;
  std::int32_t spin_us;  // yield phase of every waiter, in microseconds
  std::uint64_t cookie;
  std::uint64_t control_bytes;
  std::uint64_t max_bytes;  // 0: no limit
};
static_assert(sizeof(ArenaGeometry) == kLine);

// Words that anybody moves.
struct ArenaHeader {
  ArenaGeometry geometry;
  alignas(kLine) std::atomic<std::uint64_t> closed;         // 0, or kClosedFlag | code (31 bits) << 32 | culprit
  alignas(kLine) std::atomic<std::uint64_t> file_end;       // where the next segment goes
  std::atomic<std::uint64_t> pages_offered;                 // from 1 on no range of the file is used twice
  alignas(kLine) std::atomic<std::uint64_t> segment_bytes;  // reserved for segments of all rings
};
static_assert(offsetof(ArenaHeader, closed) == 1 * kLine);
static_assert(offsetof(ArenaHeader, file_end) == 2 * kLine);
static_assert(offsetof(ArenaHeader, segment_bytes) == 3 * kLine);
static_assert(sizeof(ArenaHeader) == 4 * kLine);

// The shape of a ring; part of the geometry.
struct alignas(kLine) RingEntry {
  std::uint64_t offset;
  std::uint64_t slot_bytes;
  std::uint32_t readers;
  std::uint32_t slots;
  std::uint32_t segments;
};
static_assert(sizeof(RingEntry) == kLine);

struct alignas(kLine) ParticipantLines {
  std::uint64_t progress[8];  // the runtime's own words; aligned 8-byte stores are atomic on both architectures
  alignas(kLine) std::atomic<std::int64_t> state;
  alignas(kLine) Event changed;
};
static_assert(offsetof(ParticipantLines, state) == 1 * kLine);
static_assert(offsetof(ParticipantLines, changed) == 2 * kLine);
static_assert(sizeof(ParticipantLines) == 3 * kLine);

struct alignas(kLine) RingHeader {
  std::atomic<std::uint32_t> writer_pid;                // 0 while the ring has no writer
  alignas(kLine) std::atomic<std::uint64_t> published;  // messages written
  alignas(kLine) Event arrived;                         // readers wait here for `published`
  alignas(kLine) Event freed;                           // the writer waits here for `consumed` and `holders`
};
static_assert(offsetof(RingHeader, published) == 1 * kLine);
static_assert(offsetof(RingHeader, arrived) == 2 * kLine);
static_assert(offsetof(RingHeader, freed) == 3 * kLine);
static_assert(sizeof(RingHeader) == 4 * kLine);

struct alignas(kLine) ReaderLine {
  std::atomic<std::uint64_t> consumed;  // messages taken
  std::atomic<std::uint32_t> pid;       // 0 while the rank has no reader
};
static_assert(sizeof(ReaderLine) == kLine);

// `offset` and `capacity` move only while the segment is free. They share the line with `holders`, because a reader
// needs all three at the same moments.
struct alignas(kLine) SegmentLine {
  std::atomic<std::uint64_t> offset;  // in the file
  std::atomic<std::uint64_t> capacity;
  std::atomic<std::uint64_t> holders[kHolderWords];
};
static_assert(sizeof(SegmentLine) == kLine);

// Where a stretch of bytes of a message lies: in the payload of its slot (kInSlot), or in a segment.
struct Part {
  std::uint32_t segment;
  std::uint32_t unused;
  std::uint64_t offset;
  std::uint64_t length;
};
static_assert(sizeof(Part) == 24);

struct alignas(kLine) SlotHeader {
  std::uint64_t sequence;  // number of the message + 1, so that a slot that was never written says so
  std::uint32_t kind;
  std::uint32_t buffers;
  Part blob;
  Part table;  // Part[buffers]
};
static_assert(offsetof(SlotHeader, blob) == 16 && offsetof(SlotHeader, table) == 40);
static_assert(sizeof(SlotHeader) == kLine);

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Offsets within a ring.
struct RingLayout {
  std::uint32_t readers;
  std::uint32_t slots;
  std::uint32_t segments;
  std::uint64_t slot_bytes;

  constexpr std::uint64_t readers_offset() const { return sizeof(RingHeader); }
  constexpr std::uint64_t segments_offset() const {
    return readers_offset() + std::uint64_t{readers} * sizeof(ReaderLine);
  }
  constexpr std::uint64_t slots_offset() const {
    return segments_offset() + std::uint64_t{segments} * sizeof(SegmentLine);
  }
  constexpr std::uint64_t slot_stride() const { return sizeof(SlotHeader) + round_up(slot_bytes, kLine); }
  constexpr std::uint64_t bytes() const { return slots_offset() + slots * slot_stride(); }
};

}  // namespace cgc
