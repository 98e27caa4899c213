#include "wait.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

namespace cgc {
namespace {

constexpr std::chrono::milliseconds kSlice{100};

// The word is shared between processes: no FUTEX_PRIVATE_FLAG.
long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value, const timespec* timeout) noexcept {
  return syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), operation, value, timeout, nullptr, 0);
}

}  // namespace

void sleep_slice(Event& event, std::uint32_t sequence, Clock::time_point deadline) noexcept {
  const auto now = Clock::now();
  if (deadline <= now) return;
  const auto slice = std::min<Clock::duration>(kSlice, deadline - now);
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(slice).count();
  const timespec timeout{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
  // EAGAIN (moved already), EINTR and ETIMEDOUT all mean: look again.
  futex(event.sequence, FUTEX_WAIT, sequence, &timeout);
}

void yield_thread() noexcept { sched_yield(); }

void wake_all(Event& event) noexcept {
  // release: a waiter that reads this value has synchronised with the change that we announce.
  event.sequence.fetch_add(1, std::memory_order_release);
  futex(event.sequence, FUTEX_WAKE, std::numeric_limits<std::int32_t>::max(), nullptr);
}

}  // namespace cgc
