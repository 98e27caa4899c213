// The errors of the core; binding.cpp turns each into its Python class.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace cgc {

// The arena was closed; `code` and `culprit` are what the first closer gave.
struct Closed : std::runtime_error {
  Closed(std::int32_t code_, std::int32_t culprit_)
      : std::runtime_error("the channel is closed (code " + std::to_string(code_) + ", culprit " +
                           std::to_string(culprit_) + ")"),
        code(code_),
        culprit(culprit_) {}
  std::int32_t code;
  std::int32_t culprit;
};

// The time-out ended; `holders` are the ranks of the readers that a writer waited for.
struct Timeout : std::runtime_error {
  explicit Timeout(const std::string& what, std::vector<std::uint32_t> holders_ = {})
      : std::runtime_error(what), holders(std::move(holders_)) {}
  std::vector<std::uint32_t> holders;
};

// Something read from shared memory cannot be true.
struct Corrupt : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Shared memory could not be had.
struct OutOfMemory : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A wait was ended by its interrupt hook; whoever gave the hook knows why.
struct Interrupted {};

}  // namespace cgc
