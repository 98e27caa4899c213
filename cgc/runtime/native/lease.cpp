#include "lease.h"

namespace cgc {

std::shared_ptr<Mapping> Lease::map_copy(const std::byte* data, std::size_t bytes, std::byte*& copy) const {
  const auto begin = static_cast<std::uint64_t>(data - mapping_->data());
  const std::uint64_t first_page = begin / kFileAlignment * kFileAlignment;
  auto mapping = arena_->map_copy(file_offset_ + first_page, begin - first_page + bytes);
  copy = mapping->data() + (begin - first_page);
  return mapping;
}

}  // namespace cgc
