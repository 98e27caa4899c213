#include "arena.h"

#include <pthread.h>
#include <signal.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <stdexcept>
#include <system_error>

#include "errors.h"
#include "pages.h"

namespace cgc {
namespace {

constexpr std::int32_t kDefaultSpinMicroseconds = 50;  // measured: docs/decisions.md, "Shared-memory channel"
constexpr std::uint32_t kSpareSegments = 16;           // beyond those of messages under way: room for leases
constexpr std::uint64_t kLargeSegment = 2u << 20;      // from here offsets are multiples of the huge page

std::uint64_t participants_offset(std::uint64_t rings) { return sizeof(ArenaHeader) + rings * sizeof(RingEntry); }

std::uint64_t first_ring_offset(std::uint64_t rings, std::uint64_t participants) {
  return participants_offset(rings) + participants * sizeof(ParticipantLines);
}

RingLayout layout_of(const RingShape& shape) {
  if (shape.readers < 1 || shape.readers > kMaxReaders)
    throw std::invalid_argument("a ring has 1 to " + std::to_string(kMaxReaders) + " readers, not " +
                                std::to_string(shape.readers));
  if (shape.slots < 1 || shape.slots > kMaxSlots)
    throw std::invalid_argument("a ring has 1 to " + std::to_string(kMaxSlots) + " slots, not " +
                                std::to_string(shape.slots));
  if (shape.slot_bytes > kMaxSlotBytes)
    throw std::invalid_argument("a slot has at most " + describe_bytes(kMaxSlotBytes));
  return {shape.readers, shape.slots, kSegmentsPerSlot * shape.slots + std::max(kSpareSegments, shape.readers), shape.slot_bytes};
}

std::uint64_t random_cookie() {
  std::uint64_t cookie = 0;
  if (getrandom(&cookie, sizeof cookie, 0) != sizeof cookie)
    throw std::system_error(errno, std::system_category(), "getrandom");
  return cookie >> 1;  // stays within a signed word
}

void read_exactly(const SharedFile& file, void* into, std::size_t bytes, std::uint64_t offset) {
  if (pread(file.descriptor(), into, bytes, static_cast<off_t>(offset)) != static_cast<ssize_t>(bytes))
    throw Corrupt("the arena is shorter than its header says");
}

// The geometry and the directory of rings, checked against each other and against the size of the file.
std::pair<ArenaGeometry, std::vector<RingEntry>> read_geometry(const SharedFile& file, std::uint64_t cookie) {
  ArenaGeometry geometry;
  read_exactly(file, &geometry, sizeof geometry, 0);
  if (geometry.magic != kMagic) throw Corrupt("the arena has the wrong magic number");
  if (geometry.version != kLayoutVersion)
    throw Corrupt("the arena has layout version " + std::to_string(geometry.version) + ", this process knows " +
                  std::to_string(kLayoutVersion) + ": all processes of a graph need the same version of cgc");
  if (geometry.cookie != cookie) throw Corrupt("the arena is not the one that the handle names (wrong cookie)");
  if (geometry.rings > kMaxRings || geometry.participants > kMaxParticipants)
    throw Corrupt("the arena's header counts " + std::to_string(geometry.rings) + " rings and " +
                  std::to_string(geometry.participants) + " participants");
  std::vector<RingEntry> entries(geometry.rings);
  if (!entries.empty()) read_exactly(file, entries.data(), entries.size() * sizeof(RingEntry), sizeof(ArenaHeader));
  std::uint64_t end = first_ring_offset(geometry.rings, geometry.participants);
  for (const RingEntry& entry : entries) {
    RingLayout layout;
    try {
      layout = layout_of({entry.readers, entry.slots, entry.slot_bytes});
    } catch (const std::invalid_argument& error) {
      throw Corrupt(std::string("the arena's directory of rings does not make sense: ") + error.what());
    }
    if (entry.offset != end || entry.segments != layout.segments || end > kMaxFileBytes)
      throw Corrupt("the arena's directory of rings does not make sense");
    end += layout.bytes();
  }
  if (geometry.control_bytes != round_up(end, kFileAlignment) || geometry.control_bytes > file.size())
    throw Corrupt("the arena is shorter than its header says");
  return {geometry, std::move(entries)};
}

std::atomic<std::uint64_t> generation{0};

}  // namespace

std::uint64_t process_generation() noexcept {
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1, std::memory_order_relaxed); });
  return generation.load(std::memory_order_relaxed) + static_cast<std::uint64_t>(registered != 0);
}

std::shared_ptr<Arena> Arena::create(std::span<const RingShape> shapes, std::uint32_t participants,
                                     std::uint64_t max_bytes, std::int32_t spin_us) {
  if (shapes.size() > kMaxRings || participants > kMaxParticipants)
    throw std::invalid_argument("an arena has at most " + std::to_string(kMaxRings) + " rings and participants");
  std::vector<RingEntry> entries;
  std::uint64_t end = first_ring_offset(shapes.size(), participants);
  for (const RingShape& shape : shapes) {
    const RingLayout layout = layout_of(shape);
    entries.push_back({end, layout.slot_bytes, layout.readers, layout.slots, layout.segments});
    end += layout.bytes();
    if (end > kMaxFileBytes)
      throw OutOfMemory("the slots of the rings add up to more than " + describe_bytes(kMaxFileBytes));
  }
  ArenaGeometry geometry{};
  geometry.magic = kMagic;
  geometry.version = kLayoutVersion;
  geometry.rings = static_cast<std::uint32_t>(shapes.size());
  geometry.participants = participants;
  geometry.spin_us = spin_us < 0 ? kDefaultSpinMicroseconds : spin_us;
  geometry.cookie = random_cookie();
  geometry.control_bytes = round_up(end, kFileAlignment);
  geometry.max_bytes = max_bytes;
  if (max_bytes != 0 && geometry.control_bytes > max_bytes)
    throw OutOfMemory("the arena's rings need " + describe_bytes(geometry.control_bytes) + "; its limit is " +
                      describe_bytes(max_bytes));
  SharedFile file = SharedFile::create(geometry.control_bytes);
  SharedFile offered = file.duplicate();
  std::shared_ptr<Arena> arena(new Arena(std::move(file), std::move(offered), getpid(), geometry));
  // A new file is zeros, which is the first state of every word but these.
  arena->header_->geometry = geometry;
  arena->header_->file_end.store(geometry.control_bytes, std::memory_order_relaxed);
  std::copy(entries.begin(), entries.end(), reinterpret_cast<RingEntry*>(arena->header_ + 1));
  arena->bind_rings(entries);
  return arena;
}

std::shared_ptr<Arena> Arena::attach(const Handle& handle) {
  SharedFile file = SharedFile::open_peer(handle.pid, handle.descriptor, handle.inode);
  const auto [geometry, entries] = read_geometry(file, handle.cookie);
  std::shared_ptr<Arena> arena(new Arena(std::move(file), std::nullopt, handle.pid, geometry));
  arena->offered_descriptor_ = handle.descriptor;
  arena->bind_rings(entries);
  return arena;
}

Arena::Arena(SharedFile file, std::optional<SharedFile> offered, pid_t pid, const ArenaGeometry& geometry)
    : file_(std::move(file)),
      offered_(std::move(offered)),
      offered_descriptor_(offered_ ? offered_->descriptor() : -1),
      pid_(pid),
      geometry_(geometry),
      control_(file_.descriptor(), 0, geometry.control_bytes, Mapping::Access::kReadWrite),
      header_(reinterpret_cast<ArenaHeader*>(control_.data())),
      participants_(reinterpret_cast<ParticipantLines*>(control_.data() + participants_offset(geometry.rings)),
                    geometry.participants) {
  process_generation();  // registers the fork handler before there is anything to protect
}

void Arena::bind_rings(std::span<const RingEntry> entries) {
  for (const RingEntry& entry : entries) {
    const RingLayout layout{entry.readers, entry.slots, entry.segments, entry.slot_bytes};
    std::byte* base = control_.data() + entry.offset;
    rings_.push_back({static_cast<std::uint32_t>(rings_.size()), layout, reinterpret_cast<RingHeader*>(base),
                      reinterpret_cast<ReaderLine*>(base + layout.readers_offset()),
                      reinterpret_cast<SegmentLine*>(base + layout.segments_offset()), base + layout.slots_offset()});
  }
}

Handle Arena::handle() const {
  if (offered_ && offered_->descriptor() < 0) throw std::logic_error("the handle of this arena was released");
  return {pid_, offered_descriptor_, file_.inode(), geometry_.cookie};
}

void Arena::release_handle() noexcept {
  if (offered_) offered_->close();
}

std::uint64_t Arena::nbytes() const noexcept {
  return geometry_.control_bytes + header_->segment_bytes.load(std::memory_order_relaxed);  // a statistic, no order
}

std::optional<std::pair<std::int32_t, std::int32_t>> Arena::closed() const noexcept {
  const std::uint64_t word = header_->closed.load(std::memory_order_seq_cst);
  if (word == 0) return std::nullopt;
  return std::pair{static_cast<std::int32_t>(word >> 32 & 0x7fffffff), static_cast<std::int32_t>(word & 0xffffffff)};
}

void Arena::throw_closed() const {
  const auto [code, culprit] = closed().value();
  throw Closed(code, culprit);
}

bool Arena::close(std::int32_t code, std::int32_t culprit) noexcept {
  const std::uint64_t word = kClosedFlag | (std::uint64_t{static_cast<std::uint32_t>(code)} & 0x7fffffff) << 32 |
                             static_cast<std::uint32_t>(culprit);
  std::uint64_t open = 0;
  // One word holds it all, so that there is no state between open and closed. seq_cst: before the looks for sleepers.
  const bool first = header_->closed.compare_exchange_strong(open, word, std::memory_order_seq_cst);
  // Also when somebody else was first: that process may have been killed before it had woken everybody.
  for (const Ring& ring : rings_) {
    notify(ring.header->arrived);
    notify(ring.header->freed);
  }
  return first;
}

ParticipantLines& Arena::line(std::uint32_t participant) const {
  if (participant >= participants_.size())
    throw std::out_of_range("participant " + std::to_string(participant) + " of an arena with " +
                            std::to_string(participants_.size()));
  return participants_[participant];
}

std::int64_t Arena::state(std::uint32_t participant) const {
  return line(participant).state.load(std::memory_order_acquire);  // pairs with set_state: what was done before it
}

void Arena::set_state(std::uint32_t participant, std::int64_t state) {
  ParticipantLines& own = line(participant);
  own.state.store(state, std::memory_order_seq_cst);  // before the look for sleepers
  notify(own.changed);
}

bool Arena::wait_state(std::uint32_t participant, std::int64_t state, const Waiting& waiting) {
  ParticipantLines& other = line(participant);
  Patience patience;
  return wait_until(other.changed, patience, spin(), waiting,
                    [&] { return other.state.load(std::memory_order_seq_cst) >= state; });
}

const Ring& Arena::ring(std::uint32_t index) const {
  if (index >= rings_.size())
    throw std::out_of_range("ring " + std::to_string(index) + " of an arena with " + std::to_string(rings_.size()));
  return rings_[index];
}

std::uint64_t Arena::add_segment(std::uint64_t capacity) {
  charge(capacity);
  const std::uint64_t alignment = capacity >= kLargeSegment ? kLargeSegment : kFileAlignment;
  std::uint64_t end = header_->file_end.load(std::memory_order_relaxed);  // relaxed: the word orders nothing but itself
  std::uint64_t offset;
  do {
    if (end < geometry_.control_bytes || end > kMaxFileBytes) {
      uncharge(capacity);
      throw Corrupt("the arena's end of file does not make sense");
    }
    offset = round_up(end, alignment);
  } while (!header_->file_end.compare_exchange_weak(end, offset + capacity, std::memory_order_relaxed));
  try {
    file_.reserve(offset, capacity);
  } catch (...) {
    // Take the range back unless somebody has appended since; then it stays a hole, which costs no memory.
    std::uint64_t ours = offset + capacity;
    header_->file_end.compare_exchange_strong(ours, end, std::memory_order_relaxed);
    uncharge(capacity);
    throw;
  }
  return offset;
}

void Arena::restore_segment(std::uint64_t offset, std::uint64_t capacity) {
  charge(capacity);
  try {
    file_.reserve(offset, capacity);
  } catch (...) {
    uncharge(capacity);
    throw;
  }
}

void Arena::drop_segment(std::uint64_t offset, std::uint64_t capacity) noexcept {
  file_.punch(offset, capacity);
  uncharge(capacity);
}

bool Arena::within_limit(std::uint64_t more) const noexcept {
  return geometry_.max_bytes == 0 || (more <= geometry_.max_bytes && nbytes() <= geometry_.max_bytes - more);
}

bool Arena::can_ever_have(std::uint64_t bytes) const noexcept {
  return geometry_.max_bytes == 0 ||
         (bytes <= geometry_.max_bytes && geometry_.control_bytes <= geometry_.max_bytes - bytes);
}

void Arena::charge(std::uint64_t bytes) {
  std::uint64_t total = header_->segment_bytes.load(std::memory_order_relaxed);
  do {
    if (!within_limit(bytes))
      throw OutOfMemory("cannot have " + describe_bytes(bytes) +
                        " more of shared memory: the arena and its segments take " + describe_bytes(nbytes()) +
                        ", their limit is " + describe_bytes(geometry_.max_bytes));
  } while (!header_->segment_bytes.compare_exchange_weak(total, total + bytes, std::memory_order_relaxed));
}

void Arena::uncharge(std::uint64_t bytes) noexcept {
  header_->segment_bytes.fetch_sub(bytes, std::memory_order_relaxed);
}

std::shared_ptr<Mapping> Arena::map_segment(std::uint64_t offset, std::uint64_t capacity, Mapping::Access access) {
  // Checked in this order, so that no sum overflows. The size can only grow: it is sealed.
  const std::uint64_t size = file_.size();
  if (offset % kFileAlignment != 0 || offset < geometry_.control_bytes || offset >= size || capacity == 0 ||
      capacity > size - offset)
    throw Corrupt("a segment at " + std::to_string(offset) + " of " + std::to_string(capacity) +
                  " bytes is not within the " + std::to_string(size) + " bytes of the arena");
  // One mapping a process, if a ring's writer and a reader are in one process: half the page tables.
  const std::lock_guard lock(segments_mutex_);
  std::weak_ptr<Mapping>& known = segments_[offset];
  std::shared_ptr<Mapping> mapping = known.lock();
  if (mapping && mapping->size() == capacity && (mapping->writable() || access == Mapping::Access::kReadOnly))
    return mapping;
  mapping = std::make_shared<Mapping>(file_.descriptor(), offset, capacity, access);
  if (lists_pages_.load(std::memory_order_relaxed)) list_pages(mapping);
  known = mapping;
  std::erase_if(segments_, [](const auto& item) { return item.second.expired(); });
  return mapping;
}

bool Arena::offer_pages() noexcept {
  if (geometry_.max_bytes != 0) return false;
  // Before this process maps what it could register. seq_cst: the writer that sees our bit cleared in a segment, which
  // it is about to drop, sees this too.
  header_->pages_offered.store(1, std::memory_order_seq_cst);
  lists_pages_.store(true, std::memory_order_relaxed);
  return true;
}

std::shared_ptr<Mapping> Arena::map_copy(std::uint64_t offset, std::uint64_t bytes) const {
  return std::make_shared<Mapping>(file_.descriptor(), offset, bytes, Mapping::Access::kCopyOnWrite);
}

void claim(std::atomic<std::uint32_t>& owner, const std::string& what) {
  std::uint32_t holder = 0;
  const auto self = static_cast<std::uint32_t>(getpid());
  // acquire/release: the state that the last owner left (cursors, segments) is what the next one starts from.
  while (!owner.compare_exchange_strong(holder, self, std::memory_order_acq_rel)) {
    const bool alive = holder != 0 && (kill(static_cast<pid_t>(holder), 0) == 0 || errno == EPERM);
    if (alive) throw std::logic_error(what + " is in use by process " + std::to_string(holder));
    if (owner.compare_exchange_strong(holder, self, std::memory_order_acq_rel)) return;
    holder = 0;
  }
}

}  // namespace cgc
