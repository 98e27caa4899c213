// Stress of the native core: one writer and n readers, as processes or as threads, every byte under a checksum.
//
//   python tools/stress/run.py -- --short                        seconds; processes
//   python tools/stress/run.py -- --full                         10^7 small and 10^4 large messages, rings of 2 and 10
//                                                                slots, 1 to 4 readers; about a quarter of an hour
//   python tools/stress/run.py --sanitize thread -- --short      threads, memory order under ThreadSanitizer
//   python tools/stress/run.py --sanitize address -- --short     processes, bounds and lifetimes
//   ... --seed N --small N --large N --readers N --slots N       one configuration
//
// run.py builds this file with the core's own sources (all but the Python binding). In threads all parties share one
// Arena, hence one mapping, so that ThreadSanitizer sees writer and readers at the same addresses.
//
// A reader keeps random messages leased for a while and checks them again when it lets go: a segment that was written
// again under a lease shows. A writer sends some buffers from reservations. Exit status 0: every message arrived once,
// in order, unchanged, at every reader.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "arena.h"
#include "reader.h"
#include "writer.h"

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreads = true;
#else
constexpr bool kThreads = false;
#endif

namespace {

using cgc::Arena;
using cgc::Bytes;
using cgc::Reader;
using cgc::Waiting;
using cgc::Writer;
using Random = std::mt19937_64;

constexpr std::uint64_t kSmallMost = 200;
constexpr std::uint64_t kLargeMost = 32u << 20;
constexpr std::size_t kMostBuffers = 3;

struct Options {
  std::uint64_t seed = std::random_device{}();
  std::uint64_t small = 0;
  std::uint64_t large = 0;
  std::uint64_t large_most = kLargeMost;
  std::uint32_t readers = 1;
  std::uint32_t slots = 2;
};

// Goes ahead of the buffers as the blob of each message.
struct Envelope {
  std::uint64_t index;
  std::uint64_t buffers;
  std::uint64_t sizes[kMostBuffers];
  std::uint64_t sums[kMostBuffers];
};

// Fast and sensitive to place: four multiply-and-rotate lanes over 8-byte words.
std::uint64_t checksum(const std::byte* data, std::size_t size) {
  std::uint64_t lanes[4] = {size, 1, 2, 3};
  std::size_t at = 0;
  for (; at + 32 <= size; at += 32) {
    std::uint64_t words[4];
    std::memcpy(words, data + at, 32);
    for (int lane = 0; lane < 4; ++lane) lanes[lane] = (lanes[lane] ^ words[lane]) * 0x9e3779b97f4a7c15 + lane;
  }
  for (; at < size; ++at) lanes[0] = (lanes[0] ^ static_cast<std::uint64_t>(data[at])) * 0x9e3779b97f4a7c15;
  return lanes[0] ^ lanes[1] << 1 ^ lanes[2] << 2 ^ lanes[3] << 3;
}

// Random bytes to send slices of, so that making a message costs little.
const std::vector<std::byte>& noise() {
  static const std::vector<std::byte> bytes = [] {
    std::vector<std::byte> filled(2 * kLargeMost);
    Random random(1);
    for (std::size_t at = 0; at < filled.size(); at += 8) {
      const std::uint64_t word = random();
      std::memcpy(filled.data() + at, &word, 8);
    }
    return filled;
  }();
  return bytes;
}

std::uint64_t random_size(Random& random, bool large, std::uint64_t large_most) {
  if (!large) return random() % (kSmallMost + 1);
  if (random() % 4 == 0) return random() % (large_most + 1);
  return random() % ((1ull << random() % 26) + 1) % (large_most + 1);  // every class of sizes alike
}

void write_all(Writer& writer, const Options& options, bool large) {
  Random random(options.seed);
  const Waiting for_ever;
  const std::uint64_t count = large ? options.large : options.small;
  for (std::uint64_t index = 0; index < count; ++index) {
    Envelope envelope{index, large || random() % 8 == 0 ? random() % (kMostBuffers + 1) : 0, {}, {}};
    std::vector<Bytes> buffers;
    std::vector<Writer::Reservation> reservations;
    for (std::uint64_t number = 0; number < envelope.buffers; ++number) {
      const std::uint64_t size = random_size(random, large && number == 0, options.large_most);
      const std::byte* data = noise().data() + random() % (noise().size() - size);
      envelope.sizes[number] = size;
      envelope.sums[number] = checksum(data, size);
      if (random() % 16 == 0) {
        reservations.push_back(writer.reserve(size, for_ever));
        std::memcpy(reservations.back().data, data, size);
        data = reservations.back().data;
      }
      buffers.push_back({data, size});
    }
    writer.write(static_cast<std::uint32_t>(index), {&envelope, sizeof envelope}, buffers, for_ever);
  }
}

struct Kept {
  Envelope envelope;
  std::vector<Reader::View> views;
  std::vector<std::shared_ptr<cgc::Lease>> leases;
};

void check(const Envelope& envelope, std::size_t number, const Reader::View& view, const char* when) {
  if (view.size == envelope.sizes[number] && checksum(view.data, view.size) == envelope.sums[number]) return;
  throw std::runtime_error("message " + std::to_string(envelope.index) + ", buffer " + std::to_string(number) +
                           " is wrong " + when);
}

void let_go(std::deque<Kept>& kept) {
  const Kept& oldest = kept.front();
  for (std::size_t number = 0; number < oldest.views.size(); ++number) {
    if (oldest.leases[number]) check(oldest.envelope, number, oldest.views[number], "at the end of its lease");
  }
  kept.pop_front();
}

void read_all(Reader& reader, std::uint32_t rank, const Options& options, bool large) {
  Random random(options.seed + 1 + rank);
  const Waiting for_ever;
  std::deque<Kept> kept;
  const std::uint64_t count = large ? options.large : options.small;
  for (std::uint64_t index = 0; index < count; ++index) {
    if (!reader.poll()) reader.wait(for_ever);
    const Reader::Message& message = reader.open();
    Kept now;
    if (message.blob.size != sizeof now.envelope) throw std::runtime_error("a blob has the wrong size");
    std::memcpy(&now.envelope, message.blob.data, sizeof now.envelope);
    const bool expected = now.envelope.index == index && message.kind == static_cast<std::uint32_t>(index) &&
                          message.buffers.size() == now.envelope.buffers;
    if (!expected) throw std::runtime_error("message " + std::to_string(index) + " is another one");
    const bool keep = large && random() % 2 == 0;
    for (std::size_t number = 0; number < message.buffers.size(); ++number) {
      check(now.envelope, number, message.buffers[number], "on arrival");
      if (keep) now.leases.push_back(reader.lease(message.buffers[number]));
    }
    if (keep) {
      now.views = message.buffers;
      kept.push_back(std::move(now));
    }
    reader.consume();
    while (kept.size() > random() % 8) let_go(kept);
  }
  while (!kept.empty()) let_go(kept);
}

int run_reader(const std::shared_ptr<Arena>& arena, std::uint32_t rank, const Options& options, bool large) {
  try {
    Reader reader(arena, 0, rank);
    read_all(reader, rank, options, large);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "reader %u: %s\n", rank, error.what());
    arena->close(1, static_cast<std::int32_t>(rank));  // or the writer would wait for ever
    return 1;
  }
}

bool run_writer(const std::shared_ptr<Arena>& arena, const Options& options, bool large) {
  try {
    Writer writer(arena, 0);
    write_all(writer, options, large);
    return true;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "writer: %s\n", error.what());
    arena->close(1, -1);
    return false;
  }
}

bool run_in_threads(const std::shared_ptr<Arena>& arena, const Options& options, bool large) {
  std::vector<int> results(options.readers);
  std::vector<std::thread> readers;
  for (std::uint32_t rank = 0; rank < options.readers; ++rank)
    readers.emplace_back([&, rank] { results[rank] = run_reader(arena, rank, options, large); });
  bool good = run_writer(arena, options, large);
  for (std::uint32_t rank = 0; rank < options.readers; ++rank) {
    readers[rank].join();
    good = good && results[rank] == 0;
  }
  return good;
}

bool run_in_processes(const std::shared_ptr<Arena>& arena, const Options& options, bool large) {
  std::vector<pid_t> children;
  for (std::uint32_t rank = 0; rank < options.readers; ++rank) {
    const pid_t child = fork();
    if (child == 0) _exit(run_reader(Arena::attach(arena->handle()), rank, options, large));
    children.push_back(child);
  }
  bool good = run_writer(arena, options, large);
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    good = good && status == 0;
  }
  return good;
}

void run(const Options& options) {
  for (const bool large : {false, true}) {
    const std::uint64_t count = large ? options.large : options.small;
    if (count == 0) continue;
    const cgc::RingShape shape{options.readers, options.slots, 512};
    const auto arena = Arena::create({&shape, 1}, 0, 0, -1);
    const auto start = std::chrono::steady_clock::now();
    const bool good = kThreads ? run_in_threads(arena, options, large) : run_in_processes(arena, options, large);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf(
        "%s: %llu %s messages, %u readers (%s), ring of %u: %.2f s, %.2f us a message, %.0f MiB shared, seed %llu\n",
        good ? "good" : "FAILED", static_cast<unsigned long long>(count), large ? "large" : "small", options.readers,
        kThreads ? "threads" : "processes", options.slots, seconds.count(),
        seconds.count() / static_cast<double>(count) * 1e6, static_cast<double>(arena->nbytes()) / (1 << 20),
        static_cast<unsigned long long>(options.seed));
    std::fflush(stdout);
    if (!good) std::exit(1);
  }
}

void run_matrix(Options options) {
  // A ring that never fills shows what a short one hides: there the writer synchronises with each reader all the time.
  const std::uint32_t longest = kThreads ? 100 : 10;
  for (std::uint32_t slots = 2; slots <= longest; slots = slots == 2 ? 10 : slots * 10) {
    for (std::uint32_t readers = 1; readers <= 4; ++readers) {
      options.slots = slots;
      options.readers = readers;
      run(options);
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  Options options;
  bool matrix = false;
  for (int at = 1; at < count; ++at) {
    const std::string name = arguments[at];
    if (name == "--short" || name == "--full") {
      matrix = true;
      const bool full = name == "--full";
      options.small = full ? 10'000'000 : 1'000;
      options.large = full ? 10'000 : 40;
      options.large_most = full ? kLargeMost : kThreads ? 1u << 20 : 4u << 20;
      continue;
    }
    const std::uint64_t value = at + 1 < count ? std::strtoull(arguments[++at], nullptr, 10) : 0;
    if (name == "--seed")
      options.seed = value;
    else if (name == "--small")
      options.small = value;
    else if (name == "--large")
      options.large = value;
    else if (name == "--readers")
      options.readers = static_cast<std::uint32_t>(value);
    else if (name == "--slots")
      options.slots = static_cast<std::uint32_t>(value);
    else
      return std::fprintf(stderr, "unknown option %s: see the top of stress.cpp\n", name.c_str()), 2;
  }
  noise();  // before any fork: shared by all
  if (matrix)
    run_matrix(options);
  else
    run(options);
}
