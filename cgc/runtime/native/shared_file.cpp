#include "shared_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include "errors.h"
#include "memory_limit.h"
#include "pages.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U  // Linux 6.3
#endif

namespace cgc {
namespace {

int create_memfd() {
  constexpr const char* kName = "cgc-arena";
  // Since 6.3 systems may refuse memory files that could be executed; older ones do not know the flag.
  int descriptor =
      static_cast<int>(syscall(SYS_memfd_create, kName, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL));
  if (descriptor < 0 && errno == EINVAL)
    descriptor = static_cast<int>(syscall(SYS_memfd_create, kName, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (descriptor < 0)
    throw std::system_error(errno, std::system_category(), "cannot create shared memory (memfd_create)");
  return descriptor;
}

[[noreturn]] void refuse(std::uint64_t bytes, const std::string& why) {
  throw OutOfMemory("cannot reserve " + describe_bytes(bytes) + " of shared memory: " + why);
}

}  // namespace

std::string describe_bytes(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  int unit = 0;
  for (; value >= 1024 && unit < 6; ++unit) value /= 1024;
  char text[64];
  if (unit == 0)
    std::snprintf(text, sizeof text, "%llu bytes", static_cast<unsigned long long>(bytes));
  else
    std::snprintf(text, sizeof text, "%.1f %s (%llu bytes)", value, kUnits[unit],
                  static_cast<unsigned long long>(bytes));
  return text;
}

Mapping::Mapping(int descriptor, std::uint64_t offset, std::size_t bytes, Access access)
    : bytes_(bytes), writable_(access != Access::kReadOnly) {
  const int protection = writable_ ? PROT_READ | PROT_WRITE : PROT_READ;
  // Populating fills the page table at once, much cheaper than a fault every few pages. Not for a private writable
  // mapping: that would copy every page.
  const int flags = access == Access::kCopyOnWrite ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED | MAP_POPULATE;
  void* address = mmap(nullptr, bytes, protection, flags, descriptor, static_cast<off_t>(offset));
  if (address == MAP_FAILED)
    throw OutOfMemory("cannot map " + describe_bytes(bytes) + " of shared memory: " + std::strerror(errno) +
                      "; the limits are the address space (ulimit -v) and vm.max_map_count");
  data_ = static_cast<std::byte*>(address);
}

Mapping::~Mapping() {
  if (!listed_ || may_unmap_pages(*this)) munmap(data_, bytes_);
}

SharedFile SharedFile::create(std::uint64_t bytes) {
  const int descriptor = create_memfd();
  SharedFile file(descriptor, 0);
  struct stat status;
  if (fchmod(descriptor, 0600) != 0 || fstat(descriptor, &status) != 0 ||
      fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK) != 0)
    throw std::system_error(errno, std::system_category(), "cannot prepare shared memory");
  file.inode_ = status.st_ino;
  file.reserve(0, bytes);
  return file;
}

SharedFile SharedFile::open_peer(pid_t pid, int descriptor, std::uint64_t inode) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(descriptor);
  const auto unavailable = [&]() {
    return std::system_error(
        errno, std::system_category(),
        "cannot open the arena of process " + std::to_string(pid) + " (has it ended, or released the handle?)");
  };
  // Looked at before it is opened: a stale handle may name a terminal or a pipe by now.
  struct stat status;
  if (stat(path.c_str(), &status) != 0) throw unavailable();
  if (!S_ISREG(status.st_mode) || status.st_ino != inode)
    throw Corrupt(path + " is not the arena that the handle names");
  const int own = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (own < 0) throw unavailable();
  SharedFile file(own, inode);
  const int seals = fcntl(own, F_GET_SEALS);
  if (fstat(own, &status) != 0 || status.st_ino != inode || seals < 0 || (seals & F_SEAL_SHRINK) == 0)
    throw Corrupt(path + " is not the arena that the handle names, or could be truncated while in use");
  return file;
}

SharedFile::~SharedFile() { close(); }

std::uint64_t SharedFile::size() const {
  struct stat status;
  if (fstat(descriptor(), &status) != 0)
    throw std::system_error(errno, std::system_category(), "cannot look at shared memory");
  return static_cast<std::uint64_t>(status.st_size);
}

SharedFile SharedFile::duplicate() const {
  const int copy = fcntl(descriptor(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw std::system_error(errno, std::system_category(), "cannot duplicate the descriptor of the arena");
  return SharedFile(copy, inode_);
}

void SharedFile::close() noexcept {
  const int descriptor = descriptor_.exchange(-1);
  if (descriptor >= 0) ::close(descriptor);
}

void SharedFile::reserve(std::uint64_t offset, std::uint64_t bytes) {
  // Asked first, because going over RLIMIT_FSIZE raises SIGXFSZ, which ends a process that does not ignore it, and
  // going over the memory that there is ends a process of the kernel's choice.
  rlimit limit{};
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && offset + bytes > limit.rlim_cur)
    refuse(bytes, "together with the " + describe_bytes(offset) +
                      " before it this is more than the limit on file sizes (ulimit -f), " +
                      describe_bytes(limit.rlim_cur));
  const AvailableMemory available = available_memory();
  if (bytes > available.bytes) refuse(bytes, available.limit + " leaves " + describe_bytes(available.bytes));
  while (fallocate(descriptor(), 0, static_cast<off_t>(offset), static_cast<off_t>(bytes)) != 0) {
    if (errno != EINTR) refuse(bytes, std::strerror(errno));
  }
}

void SharedFile::punch(std::uint64_t offset, std::uint64_t bytes) noexcept {
  while (fallocate(descriptor(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                   static_cast<off_t>(bytes)) != 0 &&
         errno == EINTR) {
  }
}

}  // namespace cgc
