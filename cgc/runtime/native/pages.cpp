#include "pages.h"

#include <pthread.h>
#include <sys/mman.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

namespace cgc {
namespace {

struct Table {
  enum class State { kInUse, kRetired, kTold };
  struct Entry {
    std::size_t bytes;
    std::weak_ptr<Mapping> mapping;
    State state = State::kInUse;
  };
  // Held for a few instructions, and while no mapping is destroyed: ~Mapping takes it, with any other lock held.
  std::mutex mutex;
  std::condition_variable retirement;
  std::map<std::uintptr_t, Entry> entries;  // by first address

  std::vector<std::uintptr_t> take_retired() {
    std::vector<std::uintptr_t> addresses;
    for (auto& [address, entry] : entries) {
      if (entry.state != State::kRetired) continue;
      addresses.push_back(address);
      entry.state = State::kTold;
    }
    return addresses;
  }
};

// Never destroyed: threads may wait, and views be dropped, while the process exits. A forked child starts with an empty
// one; the parent's may be locked for ever, and what it says is the parent's.
Table* table = new Table;

std::uintptr_t address_of(const void* data) noexcept { return reinterpret_cast<std::uintptr_t>(data); }

}  // namespace

void list_pages(const std::shared_ptr<Mapping>& mapping) {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { table = new Table; });
  static_cast<void>(registered);
  const std::lock_guard lock(table->mutex);
  table->entries.insert_or_assign(address_of(mapping->data()), Table::Entry{mapping->size(), mapping});
  mapping->listed_ = true;
}

std::shared_ptr<Mapping> find_pages(const void* data, std::size_t bytes) {
  const std::lock_guard lock(table->mutex);
  auto found = table->entries.upper_bound(address_of(data));
  if (found == table->entries.begin()) return nullptr;
  --found;
  const std::uintptr_t offset = address_of(data) - found->first;
  if (offset > found->second.bytes || bytes > found->second.bytes - offset) return nullptr;
  return found->second.mapping.lock();
}

void keep_pages(Mapping& mapping) noexcept { mapping.kept_.store(true, std::memory_order_relaxed); }

bool may_unmap_pages(const Mapping& mapping) noexcept {
  // relaxed: the last user is alone, and has synchronised with all others.
  const bool kept = mapping.kept_.load(std::memory_order_relaxed);
  const std::lock_guard lock(table->mutex);
  const auto found = table->entries.find(address_of(mapping.data()));
  if (found == table->entries.end()) return !kept;  // the parent's
  if (!kept) {
    table->entries.erase(found);
    return true;
  }
  found->second.state = Table::State::kRetired;
  table->retirement.notify_all();
  return false;
}

std::vector<std::uintptr_t> retired_pages(Clock::time_point deadline) {
  Table& own = *table;
  std::unique_lock lock(own.mutex);
  for (;;) {
    const bool last = Clock::now() >= deadline;
    std::vector<std::uintptr_t> addresses = own.take_retired();
    if (last || !addresses.empty()) return addresses;
    if (deadline == Clock::time_point::max())
      own.retirement.wait(lock);
    else
      own.retirement.wait_until(lock, deadline);
  }
}

void unmap_pages(std::uintptr_t address) {
  std::size_t bytes = 0;
  {
    const std::lock_guard lock(table->mutex);
    const auto found = table->entries.find(address);
    if (found == table->entries.end() || found->second.state != Table::State::kTold)
      throw std::invalid_argument("no pages at address " + std::to_string(address) + " were retired");
    bytes = found->second.bytes;
    table->entries.erase(found);
  }
  munmap(reinterpret_cast<void*>(address), bytes);
}

}  // namespace cgc
