// The threads of team.h.

#include "inference/team.h"

#include <ATen/Parallel.h>

#include <chrono>
#include <mutex>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace caffe_compat {
namespace {

constexpr uint64_t kOpen = 1, kOne = 2, kWorkers = (uint64_t{1} << 32) - 2;
constexpr int kSpins = 4000;  // some ten microseconds, then the processor may go to somebody else
// How long a thread stays awake after a shift: waking it for the next one takes some ten
// microseconds, and calls often follow each other.
constexpr std::chrono::microseconds kLinger(300);

std::mutex& shift_mutex() {
  static std::mutex* mutex = new std::mutex;  // never destroyed: threads may outlive statics
  return *mutex;
}

long process_id() {
#if defined(__unix__) || defined(__APPLE__)
  return static_cast<long>(getpid());
#else
  return 1;
#endif
}

void pause(int* spins) {
  if (++*spins > kSpins) {
    std::this_thread::yield();
    return;
  }
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

Team& Team::get() {
  static Team* team = nullptr;
  static std::mutex* mutex = new std::mutex;
  const std::lock_guard<std::mutex> lock(*mutex);
  // Threads do not come along in a fork.
  if (team == nullptr || team->process_ != process_id()) {
    team = new Team;
    team->process_ = process_id();
  }
  team->grow(std::clamp(at::get_num_threads(), 1, kMost));
  return *team;
}

void Team::grow(int size) {
  for (; started_ < size; ++started_) {
    std::thread([this, thread = started_] { work(thread); }).detach();
  }
  size_ = size;
}

Team::Shift::Shift() {
  shift_mutex().lock();
  Team& team = Team::get();
  team.awake_ = 1;
  team.awake_.notify_all();
}

Team::Shift::~Shift() {
  Team::get().awake_ = 0;
  shift_mutex().unlock();
}

void Team::share(int64_t count, int64_t each, const TeamTask& task) {
  const int members = static_cast<int>(std::clamp<int64_t>((count + each - 1) / each, 1, size_));
  if (members == 1) {
    if (count > 0) task(0, count, 0);
    return;
  }
  for (int i = 0; i < members; ++i) {
    parts_[i].next.store(count * i / members, std::memory_order_relaxed);
    parts_[i].end = count * (i + 1) / members;
  }
  task_ = &task;
  each_ = each;
  members_ = members;
  // Nobody is at the work before: its number may change.
  state_.store((((state_.load() >> 32) + 1) << 32) | kOpen, std::memory_order_release);
  take_tasks(0);
  state_.fetch_and(~kOpen, std::memory_order_acq_rel);
  for (int spins = 0; state_.load(std::memory_order_acquire) & kWorkers;) pause(&spins);
}

void Team::take_tasks(int thread) {
  for (int i = 0; i < members_; ++i) {
    Part& part = parts_[(thread + i) % members_];
    for (;;) {
      const int64_t first = part.next.fetch_add(each_, std::memory_order_relaxed);
      if (first >= part.end) break;
      (*task_)(first, std::min(first + each_, part.end), thread);
    }
  }
}

void Team::work(int thread) {
  uint64_t done = 0;
  int spins = 0;
  for (;;) {
    if (!awake_.load(std::memory_order_relaxed)) {
      const auto end = std::chrono::steady_clock::now() + kLinger;
      while (!awake_.load(std::memory_order_relaxed)) {
        if (std::chrono::steady_clock::now() >= end) awake_.wait(0);
        pause(&spins);
      }
      spins = 0;
    }
    uint64_t state = state_.load(std::memory_order_acquire);
    if (!(state & kOpen) || state >> 32 == done || thread >= size_) {
      pause(&spins);
      continue;
    }
    if (!state_.compare_exchange_weak(state, state + kOne, std::memory_order_acq_rel)) continue;
    done = state >> 32;
    spins = 0;
    if (thread < members_) take_tasks(thread);
    state_.fetch_sub(kOne, std::memory_order_acq_rel);
  }
}

}  // namespace caffe_compat
