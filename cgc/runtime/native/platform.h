// What the core assumes of the machine, checked at compile time, and the few instructions that differ between machines.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

#if !defined(__linux__) || !(defined(__x86_64__) || defined(__aarch64__))
#error "cgc's native core runs on Linux x86-64 and aarch64 only (memfd, futex, 64-bit lock-free atomics)"
#endif

namespace cgc {

static_assert(std::endian::native == std::endian::little);
static_assert(sizeof(void*) == 8);
// Atomics in shared memory must be plain words: a lock table would be private to each process.
static_assert(std::atomic<std::uint32_t>::is_always_lock_free && sizeof(std::atomic<std::uint32_t>) == 4);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && sizeof(std::atomic<std::uint64_t>) == 8);

inline void cpu_pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  asm volatile("isb" ::: "memory");  // `yield` is a no-op on most cores; isb delays for tens of cycles, as pause does
#endif
}

}  // namespace cgc
