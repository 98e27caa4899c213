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

// What one party has learned about its own waits.
//
// How many checks to make before giving the core away: with a peer on another core the answer comes within them, and a
// system call would only delay it; with a peer that needs this very core every check delays it.
//
// Whether to yield before sleeping: a wake-up on an idle core takes ten times as long as a yield; but a peer on this
// core that runs at a lower priority (Ray starts its workers at nice 15) gets the core only after many yields, and at
// once when this party sleeps. Where yields do switch to others there is nothing to gain: parties that sleep make each
// other slow.
class Patience {
 public:
  std::uint32_t checks() noexcept { return ++waits_ % kProbe == 0 ? kMostChecks : checks_; }
  void checks_sufficed(std::uint32_t after) noexcept {
    checks_ = std::max(checks_, std::min(2 * after + kLeastChecks, kMostChecks));
  }
  void checks_failed() noexcept { checks_ -= (checks_ - kLeastChecks + 7) / 8; }

  bool yields() const noexcept {
    const Microseconds yielding = cost_[true], sleeping = cost_[false];
    if (yielding < kQuick) return true;
    const bool better = yielding < sleeping + kQuick;
    return waits_ % kProbe == kProbe / 2 ? !better : better;
  }
  // A wait took `time`, `yields` of them if it yielded first.
  void took(Clock::duration time, bool yielded, std::uint32_t yields) noexcept {
    if (time > kWork) return;  // the peer was at work or idle: nothing to learn from
    if (yielded && yields < kManyYields) time = {};
    Microseconds& cost = cost_[yielded];
    cost += (std::chrono::duration_cast<Microseconds>(time) - cost) / 4;
  }

 private:
  using Microseconds = std::chrono::duration<float, std::micro>;
  static constexpr std::uint32_t kLeastChecks = 2;
  static constexpr std::uint32_t kMostChecks = 64;  // one to two microseconds
  static constexpr std::uint32_t kProbe = 32;       // every so many waits try the other way
  static constexpr Microseconds kQuick{5};          // no sleep ends sooner
  static constexpr std::uint32_t kManyYields = 12;  // fewer: they switched to others, and the peer had its turn soon
  static constexpr std::chrono::milliseconds kWork{1};

  std::uint32_t checks_ = kMostChecks;
  std::uint32_t waits_ = 0;
  Microseconds cost_[2] = {};  // of waits that slept at once, and that yielded first: moving averages
};

// Wait until `ready()`; false when the deadline passed first. `ready` must read its condition with sequentially
// consistent loads, and may throw. Check, yield for `spin` at most, sleep.
template <class Ready>
bool wait_until(Event& event, Patience& patience, std::chrono::microseconds spin, const Waiting& waiting,
                Ready&& ready) {
  const std::uint32_t checks = patience.checks();
  for (std::uint32_t check = 0; check < checks; ++check) {
    if (ready()) {
      patience.checks_sufficed(check);
      return true;
    }
    cpu_pause();
  }
  patience.checks_failed();
  const auto start = Clock::now();
  const bool yields = patience.yields();
  std::uint32_t yield_count = 0;
  const auto is_ready = [&] {
    if (!ready()) return false;
    patience.took(Clock::now() - start, yields, yield_count);
    return true;
  };
  if (yields) {
    const auto yield_until = waiting.deadline - start > spin ? start + spin : waiting.deadline;
    while (Clock::now() < yield_until) {
      yield_thread();
      ++yield_count;
      if (is_ready()) return true;
    }
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
    if (is_ready()) return true;
    if (Clock::now() >= waiting.deadline) return false;
    sleep_slice(event, sequence, waiting.deadline);
    if (is_ready()) return true;
    if (waiting.interrupted != nullptr && waiting.interrupted()) throw Interrupted{};
  }
}

}  // namespace cgc
