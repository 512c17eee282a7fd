// Threads that share out the tasks of one layer after another.
//
// Between two layers of a program there are some ten microseconds, so that the threads wait for the
// next one without sleeping.  Whoever is done with its own part takes tasks from the parts of the
// others, and nobody waits for a thread that has not begun: on a machine that does other work, too,
// a thread that the system holds back costs the task that it is at, and no more.  (OpenMP's
// parallel regions wait for every thread at each end.)
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>

namespace caffe_compat {

// task(first, last, thread): thread is below Team::size().
using TeamTask = std::function<void(int64_t, int64_t, int)>;

class Team {
 public:
  // The process's team, made at the first use (anew after a fork), with as many threads as PyTorch
  // takes now.
  static Team& get();

  int size() const { return size_; }

  // While one lives, the threads wait for work without sleeping.  One at a time: others wait.
  class Shift {
   public:
    Shift();
    ~Shift();
    Shift(const Shift&) = delete;
    Shift& operator=(const Shift&) = delete;
  };

  // Runs `task` for all of [0, count), `each` at a time, and returns when all is done.  An error in
  // a task is not caught: kernels raise none.
  void share(int64_t count, int64_t each, const TeamTask& task);

 private:
  static constexpr int kMost = 256;

  struct alignas(64) Part {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  void grow(int size);
  void work(int thread);
  void take_tasks(int thread);

  std::atomic<int> size_{1};
  int started_ = 1;
  long process_ = 0;
  // The present work: open or not (bit 0), how many others are at it (bits 1 to 31), its number
  // (bits 32 to 63).
  std::atomic<uint64_t> state_{0};
  const TeamTask* task_ = nullptr;
  int64_t each_ = 1;
  int members_ = 1;
  Part parts_[kMost];
  std::atomic<uint32_t> awake_{0};
};

// Runs task(first, last) over `count` tasks, each of about `numbers` numbers read and written.
template <typename Task>
void share_out(int64_t count, int64_t numbers, const Task& task) {
  constexpr int64_t kNumbersAtATime = 8192;  // for fewer, handing them on costs more
  const int64_t each = std::max<int64_t>(1, kNumbersAtATime / std::max<int64_t>(1, numbers));
  Team::get().share(count, each, [&](int64_t first, int64_t last, int) { task(first, last); });
}

}  // namespace caffe_compat
