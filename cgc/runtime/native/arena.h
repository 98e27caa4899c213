// An arena as one process sees it: the mapped control region, its rings, and the mappings of segments.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "layout.h"
#include "shared_file.h"
#include "wait.h"

namespace cgc {

struct RingShape {
  std::uint32_t readers;
  std::uint32_t slots;
  std::uint64_t slot_bytes;
};

struct Handle {
  pid_t pid;
  int descriptor;
  std::uint64_t inode;
  std::uint64_t cookie;
};

// Pointers to the words of one ring. The shape was checked when the arena was mapped and is private since.
struct Ring {
  std::uint32_t index;
  RingLayout layout;
  RingHeader* header;
  ReaderLine* readers;
  SegmentLine* segments;
  std::byte* slots;

  SlotHeader* slot(std::uint64_t message) const noexcept {
    return reinterpret_cast<SlotHeader*>(slots + message % layout.slots * layout.slot_stride());
  }
};

// Changes in a forked child: what shared memory says about the parent's reader or lease is not the child's to move.
std::uint64_t process_generation() noexcept;

class Arena {
 public:
  // Throws OutOfMemory, std::invalid_argument, std::system_error. `max_bytes` 0: no limit.
  static std::shared_ptr<Arena> create(std::span<const RingShape> rings, std::uint32_t participants,
                                       std::uint64_t max_bytes, std::int32_t spin_us);
  // Throws Corrupt, OutOfMemory, std::system_error.
  static std::shared_ptr<Arena> attach(const Handle& handle);

  Handle handle() const;  // throws std::logic_error when it was released
  void release_handle() noexcept;

  std::uint64_t nbytes() const noexcept;
  std::optional<std::pair<std::int32_t, std::int32_t>> closed() const noexcept;
  bool close(std::int32_t code, std::int32_t culprit) noexcept;
  // seq_cst: close() stores the word before it looks for sleepers.
  bool is_closed() const noexcept { return header_->closed.load(std::memory_order_seq_cst) != 0; }
  void check_open() const {  // throws Closed
    if (is_closed()) throw_closed();
  }
  [[noreturn]] void throw_closed() const;

  std::uint64_t* progress(std::uint32_t participant) const { return line(participant).progress; }
  std::int64_t state(std::uint32_t participant) const;
  void set_state(std::uint32_t participant, std::int64_t state);
  bool wait_state(std::uint32_t participant, std::int64_t state, const Waiting& waiting);

  const Ring& ring(std::uint32_t index) const;  // throws std::out_of_range
  std::chrono::microseconds spin() const noexcept { return std::chrono::microseconds(geometry_.spin_us); }

  // A new range of the file with reserved pages, counted against the limit. Throws OutOfMemory.
  std::uint64_t add_segment(std::uint64_t capacity);
  // Give the pages of a range back to the system, and have them again. `restore_segment` throws OutOfMemory.
  void drop_segment(std::uint64_t offset, std::uint64_t capacity) noexcept;
  void restore_segment(std::uint64_t offset, std::uint64_t capacity);
  bool within_limit(std::uint64_t more) const noexcept;
  // Whether more than half of the limit is in use: a reader that kept segments now might let a writer wait for ever.
  bool is_short() const noexcept { return geometry_.max_bytes != 0 && !within_limit(geometry_.max_bytes / 2); }
  // Whether that many bytes are within the limit when there is no other segment: if not, waiting is in vain.
  bool can_ever_have(std::uint64_t bytes) const noexcept;
  // Map a segment, or share this process's mapping of it. Throws Corrupt when the range is not one of the file.
  std::shared_ptr<Mapping> map_segment(std::uint64_t offset, std::uint64_t capacity, Mapping::Access access);
  // Let devices of this process register the pages of segments (pages.h) that it maps from now on. False, and nothing
  // is done, for an arena with a limit: what waits for its device keeps segments longer than the limit may allow.
  bool offer_pages() noexcept;
  // Whether any process has: then a range that was dropped is not to be restored, for devices still have its old pages.
  bool pages_offered() const noexcept { return header_->pages_offered.load(std::memory_order_seq_cst) != 0; }
  // A private copy-on-write mapping of whole pages, which lie in a segment that is mapped already.
  std::shared_ptr<Mapping> map_copy(std::uint64_t offset, std::uint64_t bytes) const;

 private:
  Arena(SharedFile file, std::optional<SharedFile> offered, pid_t pid, const ArenaGeometry& geometry);
  void bind_rings(std::span<const RingEntry> entries);
  ParticipantLines& line(std::uint32_t participant) const;  // throws std::out_of_range
  void charge(std::uint64_t bytes);
  void uncharge(std::uint64_t bytes) noexcept;

  SharedFile file_;
  std::optional<SharedFile> offered_;  // the creator's second descriptor, which peers open; closed by release_handle
  int offered_descriptor_;
  pid_t pid_;
  const ArenaGeometry geometry_;  // a private copy: nobody can change it under us
  Mapping control_;
  ArenaHeader* header_;
  std::span<ParticipantLines> participants_;
  std::vector<Ring> rings_;
  std::mutex segments_mutex_;
  std::map<std::uint64_t, std::weak_ptr<Mapping>> segments_;
  std::atomic<bool> lists_pages_{false};
};

// The one user of a rank or of the writer's side: throws std::logic_error while a living process has it.
void claim(std::atomic<std::uint32_t>& owner, const std::string& what);

}  // namespace cgc
