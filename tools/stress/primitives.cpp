// What the decisions of the native core rest on: the cost of the ways to wake a process, and of memory.
//
//   g++ -O2 -std=c++20 tools/stress/primitives.cpp -o /tmp/primitives && /tmp/primitives
//
// Wake-ups are round trips between two processes, on two cores and on one; memory is 64 MiB of a memfd. The huge page
// case needs a directory on a tmpfs mounted with huge=always as the first argument.
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Shared {
  alignas(64) std::atomic<std::uint32_t> turn[2];
};

void futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) {
  syscall(SYS_futex, &word, operation, value, nullptr, nullptr, 0);
}

struct Spin {
  void post(Shared& shared, int to) { shared.turn[to].store(1); }
  void wait(Shared& shared, int from) {
    while (shared.turn[from].exchange(0) == 0) {
    }
  }
};

struct Yield {
  void post(Shared& shared, int to) { shared.turn[to].store(1); }
  void wait(Shared& shared, int from) {
    while (shared.turn[from].exchange(0) == 0) sched_yield();
  }
};

struct Futex {
  void post(Shared& shared, int to) {
    shared.turn[to].store(1);
    futex(shared.turn[to], FUTEX_WAKE, 1);
  }
  void wait(Shared& shared, int from) {
    while (shared.turn[from].exchange(0) == 0) futex(shared.turn[from], FUTEX_WAIT, 0);
  }
};

struct EventDescriptor {
  int descriptors[2] = {eventfd(0, 0), eventfd(0, 0)};
  void post(Shared&, int to) {
    const std::uint64_t one = 1;
    if (write(descriptors[to], &one, sizeof one) != sizeof one) _exit(1);
  }
  void wait(Shared&, int from) {
    std::uint64_t count;
    if (read(descriptors[from], &count, sizeof count) != sizeof count) _exit(1);
  }
};

void run_on(int core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  sched_setaffinity(0, sizeof cores, &cores);
}

template <class Way>
void round_trips(const char* name, bool two_cores, int rounds) {
  auto* shared =
      static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  Way way;
  const pid_t child = fork();
  run_on(child == 0 && two_cores ? 1 : 0);
  if (child == 0) {
    for (int round = 0; round < rounds; ++round) {
      way.wait(*shared, 0);
      way.post(*shared, 1);
    }
    _exit(0);
  }
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    const auto start = Clock::now();
    way.post(*shared, 0);
    way.wait(*shared, 1);
    times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
  waitpid(child, nullptr, 0);
  munmap(shared, sizeof(Shared));
  std::sort(times.begin(), times.end());
  std::printf("%-28s %-9s p5 %7.2f us   p50 %7.2f us\n", name, two_cores ? "two cores" : "one core",
              times[times.size() / 20], times[times.size() / 2]);
}

template <class Function>
double least_milliseconds(int repetitions, Function&& function) {
  double least = 1e9;
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    const auto start = Clock::now();
    function();
    least = std::min(least, std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  return least;
}

void memory(const char* name, int descriptor) {
  constexpr std::size_t kBytes = 64u << 20;
  static const std::vector<char> source(kBytes, 1);
  char* target = nullptr;
  const double reserve = least_milliseconds(1, [&] {
    if (fallocate(descriptor, 0, 0, kBytes) != 0) std::perror("fallocate"), _exit(1);
  });
  const auto map = [&](int flags) {
    target = static_cast<char*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | flags, descriptor, 0));
  };
  map(0);
  const double touched = least_milliseconds(1, [&] { std::memcpy(target, source.data(), kBytes); });
  munmap(target, kBytes);
  const double populate = least_milliseconds(1, [&] { map(MAP_POPULATE); });
  const double copy = least_milliseconds(10, [&] { std::memcpy(target, source.data(), kBytes); });
  const double copy_1m = least_milliseconds(100, [&] { std::memcpy(target, source.data(), 1 << 20); });
  munmap(target, kBytes);
  close(descriptor);
  std::printf(
      "%-28s reserve %.2f ms, map populated %.2f ms, first copy unpopulated %.2f ms, copy %.2f ms, of 1 MiB %.1f us\n",
      name, reserve, populate, touched, copy, copy_1m * 1000);
}

}  // namespace

int main(int count, char** arguments) {
  round_trips<Spin>("spin", true, 100'000);
  for (const bool two_cores : {true, false}) {
    round_trips<Yield>("sched_yield", two_cores, 100'000);
    round_trips<Futex>("futex", two_cores, 50'000);
    round_trips<EventDescriptor>("eventfd", two_cores, 50'000);
  }
  memory("memfd, 4 KiB pages", memfd_create("primitives", MFD_CLOEXEC));
  if (count > 1) {
    const std::string path = std::string(arguments[1]) + "/primitives";
    const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    unlink(path.c_str());
    memory("tmpfs, huge pages", descriptor);
  }
}
