// How much memory this process could still have.
#pragma once

#include <cstdint>
#include <string>

namespace cgc {

struct AvailableMemory {
  std::uint64_t bytes;
  std::string limit;  // what sets it, for messages
};

// The least of what the machine has available and what the limits of this process's cgroups (version 1 and 2) leave.
// The kernel reserves shared memory page by page until none is left and then kills a process of its choice, so that one
// has to look first.
AvailableMemory available_memory();

}  // namespace cgc
