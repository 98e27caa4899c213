// The one way in which anybody waits for anything in shared memory.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>

#include "errors.h"
#include "layout.h"

namespace cgc {

using Clock = std::chrono::steady_clock;

// How long to wait, and how. `interrupted` is asked after every signal and every slice of sleep; true ends the wait
// with `Interrupted`.
struct Waiting {
  Clock::time_point deadline = Clock::time_point::max();
  bool (*interrupted)() = nullptr;
};

// Sleep until `event` moves on from `sequence`, a signal arrives, the deadline passes or one slice is over. The slice
// bounds the harm of a notifier that was killed between its change and its wake; at ten a second it costs nothing.
void sleep_slice(Event& event, std::uint32_t sequence, Clock::time_point deadline) noexcept;

void yield_thread() noexcept;
void wake_all(Event& event) noexcept;

// Call after a sequentially consistent store to the condition that waiters of `event` check.
inline void notify(Event& event) noexcept {
  // seq_cst: ordered after the caller's store; a waiter adds itself before it checks, so one of the two sees the other.
  if (event.sleepers.load(std::memory_order_seq_cst) != 0) wake_all(event);
}

// How many checks one party makes before it gives its core away. Learned: with a peer on another core the answer comes
// within them, and a system call would only delay it; with a peer that needs this very core every check delays it.
class Patience {
 public:
  std::uint32_t checks() noexcept { return ++waits_ % kProbe == 0 ? kMost : checks_; }
  void answered(std::uint32_t after) noexcept { checks_ = std::max(checks_, std::min(2 * after + kLeast, kMost)); }
  void gave_up() noexcept { checks_ -= (checks_ - kLeast + 7) / 8; }

 private:
  static constexpr std::uint32_t kLeast = 2;
  static constexpr std::uint32_t kMost = 64;  // one to two microseconds
  static constexpr std::uint32_t kProbe = 16;
  std::uint32_t checks_ = kMost;
  std::uint32_t waits_ = 0;
};

// Wait until `ready()`; false when the deadline passed first. `ready` must read its condition with sequentially
// consistent loads, and may throw. Check, yield for `spin`, sleep.
template <class Ready>
bool wait_until(Event& event, Patience& patience, std::chrono::microseconds spin, const Waiting& waiting, Ready&& ready) {
  const std::uint32_t checks = patience.checks();
  for (std::uint32_t check = 0; check < checks; ++check) {
    if (ready()) {
      patience.answered(check);
      return true;
    }
    cpu_pause();
  }
  patience.gave_up();
  const auto start = Clock::now();
  const auto yield_until = waiting.deadline - start > spin ? start + spin : waiting.deadline;
  while (Clock::now() < yield_until) {
    yield_thread();
    if (ready()) return true;
  }
  // Counted as a sleeper for as long as this lives; seq_cst pairs with notify().
  struct Sleeper {
    explicit Sleeper(Event& e) : event(e) { event.sleepers.fetch_add(1, std::memory_order_seq_cst); }
    ~Sleeper() { event.sleepers.fetch_sub(1, std::memory_order_seq_cst); }
    Event& event;
  } sleeper(event);
  for (;;) {
    // acquire: if this reads the value that wake_all stored, then ready() sees the change it announced.
    const std::uint32_t sequence = event.sequence.load(std::memory_order_acquire);
    if (ready()) return true;
    if (Clock::now() >= waiting.deadline) return false;
    sleep_slice(event, sequence, waiting.deadline);
    if (ready()) return true;
    if (waiting.interrupted != nullptr && waiting.interrupted()) throw Interrupted{};
  }
}

}  // namespace cgc
