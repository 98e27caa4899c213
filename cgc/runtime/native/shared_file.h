// An anonymous file of shared memory, and mappings of it.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace cgc {

// Mappings and ranges of a file are multiples of this; it covers the page sizes of both architectures (4, 16, 64 KiB).
constexpr std::uint64_t kFileAlignment = 64 * 1024;

// Bytes as a person reads them: "64.0 MiB (67108864 bytes)".
std::string describe_bytes(std::uint64_t bytes);

// Unmapped with its last user, or later: see pages.h.
class Mapping {
 public:
  enum class Access { kReadOnly, kReadWrite, kCopyOnWrite };

  // Throws OutOfMemory. `offset` is a multiple of the page size, and the range lies within the file.
  Mapping(int descriptor, std::uint64_t offset, std::size_t bytes, Access access);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return bytes_; }
  bool writable() const noexcept { return writable_; }

 private:
  friend void list_pages(const std::shared_ptr<Mapping>& mapping);
  friend void keep_pages(Mapping& mapping) noexcept;
  friend bool may_unmap_pages(const Mapping& mapping) noexcept;

  std::byte* data_;
  std::size_t bytes_;
  bool writable_;
  bool listed_ = false;
  std::atomic<bool> kept_{false};
};

// A memfd, mode 0600, sealed against shrinking: once a range was seen to lie within the file, it stays so, and no
// access to it can fault because a peer has truncated the file. All its ranges in use are reserved: no access faults
// for want of memory either.
class SharedFile {
 public:
  // Throws OutOfMemory, std::system_error.
  static SharedFile create(std::uint64_t bytes);
  // Open descriptor `descriptor` of process `pid`. Throws std::system_error when it cannot be opened, Corrupt when it
  // is not the sealed file of `inode`.
  static SharedFile open_peer(pid_t pid, int descriptor, std::uint64_t inode);

  ~SharedFile();
  SharedFile(SharedFile&& other) noexcept : descriptor_(other.descriptor_.exchange(-1)), inode_(other.inode_) {}
  SharedFile& operator=(SharedFile&&) = delete;

  int descriptor() const noexcept { return descriptor_.load(std::memory_order_relaxed); }
  std::uint64_t inode() const noexcept { return inode_; }
  std::uint64_t size() const;
  SharedFile duplicate() const;
  void close() noexcept;

  // Make the pages of a range exist, growing the file. Throws OutOfMemory, and changes nothing then.
  void reserve(std::uint64_t offset, std::uint64_t bytes);
  // Give the pages of a range back to the system; mappings of it stay valid and would read zeros.
  void punch(std::uint64_t offset, std::uint64_t bytes) noexcept;

 private:
  SharedFile(int descriptor, std::uint64_t inode) : descriptor_(descriptor), inode_(inode) {}
  std::atomic<int> descriptor_;
  std::uint64_t inode_;
};

}  // namespace cgc
