// The one way in which anybody waits for anything in shared memory.
#pragma once

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

// Wait until `ready()`; false when the deadline passed first. `ready` must read its condition with sequentially
// consistent loads, and may throw. Check, yield for `spin`, sleep.
template <class Ready>
bool wait_until(Event& event, std::chrono::microseconds spin, const Waiting& waiting, Ready&& ready) {
  constexpr int kChecks = 64;  // about a microsecond: a peer that runs on another core answers within it
  for (int check = 0; check < kChecks; ++check) {
    if (ready()) return true;
    cpu_pause();
  }
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
