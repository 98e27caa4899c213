// Mappings of segments whose pages a device's driver may register, to copy from and to them by itself.
//
// A registration must end before its memory is unmapped: the device would go on with the old pages. But the last user
// of a mapping may go on any thread, with any lock, within any call; no driver is to be called from there. Therefore:
//
//   listed    ──keep_pages()──▶ kept        somebody may register it from now on
//   listed    ──last user goes──▶ unmapped
//   kept      ──last user goes──▶ retired   still mapped; retired_pages() tells whoever has registered it
//   retired   ──unmap_pages()──▶ unmapped   after the registration has ended
//
// In a forked child, where no driver works, the parent's kept mappings are left as they are until it ends. What is
// mapped at exit is left to the system, as are registrations.
//
// The other half of the rule is about files: who gives a range of one back and has it again gets other pages, while a
// registration still has the old ones. Arena::offer_pages() sees to it that no range is used twice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "shared_file.h"
#include "wait.h"

namespace cgc {

// Let find_pages() find a mapping for as long as it lives.
void list_pages(const std::shared_ptr<Mapping>& mapping);

// The listed mapping that these bytes lie in, or null.
std::shared_ptr<Mapping> find_pages(const void* data, std::size_t bytes);

// Let a listed mapping be retired when its last user goes, instead of being unmapped. Idempotent.
void keep_pages(Mapping& mapping) noexcept;

// The first addresses of mappings that were retired since the last call; waits for one until the deadline.
std::vector<std::uintptr_t> retired_pages(Clock::time_point deadline);

// Unmap what retired_pages() has told. Throws std::invalid_argument for anything else.
void unmap_pages(std::uintptr_t address);

// For ~Mapping, of a listed one: true if it is to be unmapped now.
bool may_unmap_pages(const Mapping& mapping) noexcept;

}  // namespace cgc
