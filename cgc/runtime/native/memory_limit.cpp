#include "memory_limit.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>

namespace cgc {
namespace {

constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc()) return std::nullopt;  // "max"
  return value;
}

// The number in a file that holds just that.
std::optional<std::uint64_t> read_number(const std::string& path) {
  std::string word;
  if (!(std::ifstream(path) >> word)) return std::nullopt;
  return number(word);
}

// The number after `key` in a file of keys and numbers.
std::optional<std::uint64_t> read_field(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  std::string word, value, rest;
  while (file >> word >> value && std::getline(file, rest)) {
    if (word == key) return number(value);
  }
  return std::nullopt;
}

struct Controller {
  const char* root;
  const char* limit;
  const char* usage;
  const char* cache;  // field of memory.stat: what the kernel would drop first
};
constexpr Controller kVersion1{"/sys/fs/cgroup/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes",
                               "total_inactive_file"};
constexpr Controller kVersion2{"/sys/fs/cgroup", "/memory.max", "/memory.current", "inactive_file"};

// The group and all above it: each has its own limit. Inside a container the path may not exist below the mount, while
// the mount itself is the container's group.
void limit_by_groups(AvailableMemory& least, const Controller& controller, std::string path) {
  for (;;) {
    const std::string directory = controller.root + path;
    const auto limit = read_number(directory + controller.limit);
    const auto usage = read_number(directory + controller.usage);
    if (limit && usage) {
      const std::uint64_t cache =
          std::min(*usage, read_field(directory + "/memory.stat", controller.cache).value_or(0));
      const std::uint64_t used = *usage - cache;
      const std::uint64_t left = *limit > used ? *limit - used : 0;
      if (left < least.bytes)
        least = {left, "the memory limit of the container (" + directory + controller.limit + ")"};
    }
    if (path.empty() || path == "/" || path[0] != '/') return;
    path.resize(path.rfind('/'));
  }
}

}  // namespace

AvailableMemory available_memory() {
  const auto machine = read_field("/proc/meminfo", "MemAvailable:");
  AvailableMemory least{machine ? *machine * 1024 : kUnlimited, "the memory of this machine"};
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // hierarchy:controllers:path
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::istringstream controllers(line.substr(first + 1, second - first - 1));
    const std::string path = line.substr(second + 1);
    if (first + 1 == second) limit_by_groups(least, kVersion2, path);
    for (std::string name; std::getline(controllers, name, ',');) {
      if (name == "memory") limit_by_groups(least, kVersion1, path);
    }
  }
  return least;
}

}  // namespace cgc
