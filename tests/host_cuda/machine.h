// Runs CUDA kernels on the host, block by block, so that their own source is tested where there is
// no GPU.
//
// csrc/common/cuda_utils.cuh includes this in place of the CUDA headers when a C++ compiler reads a
// kernel.  The threads of a block are fibers; at each barrier or warp exchange one is left and
// another, drawn at random, goes on, so a race changes results between seeds.  Shared memory is
// fresh, exactly sized and filled with 0xff (NaN) for each block, so AddressSanitizer sees a step
// outside and an unwritten element shows.  A barrier that not all threads reach aborts. Only for
// tests: nothing here is thread-safe or fast.
#pragma once

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
using cudaStream_t = void*;

namespace host_cuda {

constexpr unsigned kWarpSize = 32;
constexpr size_t kStackBytes = 256 * 1024;

// A flow of control with a stack of its own.
struct Context {
#if defined(__x86_64__)
  // swapcontext makes a system call each time, and these kernels switch millions of times.
  void* stack_pointer = nullptr;

  void prepare(char* stack, void (*entry)()) {
    auto* top =
        reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + kStackBytes) & ~uintptr_t{15});
    *--top = nullptr;  // as if called: the stack is 8 off 16 when entry starts
    *--top = reinterpret_cast<void*>(entry);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    stack_pointer = top;
  }
  static void swap(Context& from, const Context& to) {
    swap_stacks(&from.stack_pointer, to.stack_pointer);
  }

 private:
  __attribute__((naked, noinline)) static void swap_stacks(void** /*from*/, void* /*to*/) {
    asm("pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n\t"
        "movq %rsp, (%rdi); movq %rsi, %rsp\n\t"
        "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; ret");
  }
#else
  ucontext_t context;

  void prepare(char* stack, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
  static void swap(Context& from, const Context& to) { swapcontext(&from.context, &to.context); }
#endif
};

enum class State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };

// 16 bytes on their way from global to shared memory; without `from`, zeros.
struct Copy {
  char* to;
  const char* from;
  size_t bytes;

  void finish() const {
    if (from == nullptr) {
      std::memset(to, 0, bytes);
    } else {
      std::memcpy(to, from, bytes);
    }
  }
};

struct Fiber {
  Context context;
  std::unique_ptr<char[]> stack;
  State state = State::kDone;
  dim3 index;
  void* sanitizer_stack = nullptr;
  alignas(16) char offers[2][32];  // what this lane gave in the last two warp exchanges
  unsigned turn = 0;
  std::deque<std::vector<Copy>> copies{1};  // groups of copies on their way; the last one is open
};

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "host_cuda: %s\n", what);
  std::abort();
}

class Machine {
 public:
  static Machine& get() {
    static Machine machine;
    return machine;
  }

  std::mt19937 random{1};
  dim3 block_index, block_size, grid_size;
  uint64_t last_blocks = UINT64_MAX;  // how many blocks of a grid to run, counted from its end

  unsigned lane() const { return current_ % kWarpSize; }
  const dim3& thread_index() const { return fibers_[current_]->index; }

  template <typename Body>
  void run_grid(dim3 grid, dim3 block, const Body& body) {
    grid_size = grid;
    block_size = block;
    const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
    if (blocks == 0 || block.x * block.y * block.z == 0) fail("a launch with no blocks or threads");
    if (block.x * block.y * block.z > 1024 || grid.y > 65535 || grid.z > 65535) {
      fail("a launch beyond CUDA's limits");
    }
    std::vector<uint64_t> order(std::min(blocks, last_blocks));
    for (uint64_t i = 0; i < order.size(); ++i) order[i] = blocks - 1 - i;
    std::shuffle(order.begin(), order.end(), random);
    for (const uint64_t b : order) {
      block_index = dim3(b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y);
      run_block(body);
    }
  }

  // Gives way until every thread of the block (or of the warp) has come here.
  void wait(State barrier) {
    fibers_[current_]->state = barrier;
    to_scheduler(false);
  }

  // Gives `own` to all lanes of this warp and returns what they gave, after one barrier: values of
  // the exchange before are kept apart, since a slow lane may still read them.
  template <typename T>
  std::array<const T*, kWarpSize> gather(const T& own) {
    static_assert(sizeof(T) <= sizeof(Fiber::offers[0]) && std::is_trivially_copyable_v<T>);
    Fiber& fiber = *fibers_[current_];
    const unsigned turn = fiber.turn++ % 2, first = current_ / kWarpSize * kWarpSize;
    if (first + kWarpSize > threads_) fail("a warp-wide operation in a part of a warp");
    std::memcpy(fiber.offers[turn], &own, sizeof(T));
    wait(State::kAtWarpBarrier);
    std::array<const T*, kWarpSize> all;
    for (unsigned i = 0; i < kWarpSize; ++i) {
      all[i] = reinterpret_cast<const T*>(fibers_[first + i]->offers[turn]);
    }
    return all;
  }

  // cp.async: the copy happens now, or when its group is waited for.
  void copy_async(char* to, const void* from, size_t bytes, bool inside) {
    const Copy copy{to, inside ? static_cast<const char*>(from) : nullptr, bytes};
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(copy.from)) % bytes != 0) {
      fail("a misaligned cp.async");
    }
    if (random() % 4 == 0) {
      copy.finish();
    } else {
      fibers_[current_]->copies.back().push_back(copy);
    }
  }
  void commit_copies() { fibers_[current_]->copies.emplace_back(); }
  void wait_for_copies(size_t youngest) {
    auto& groups = fibers_[current_]->copies;
    for (; groups.size() > youngest + 1; groups.pop_front()) {
      for (const Copy& copy : groups.front()) copy.finish();
    }
  }

  // Bytes that the launch asks for beside the fixed arrays.
  size_t dynamic_bytes = 0;

  void* shared(int key, size_t bytes) {
    auto& memory = shared_[key];
    if (!memory) {
      memory.reset(static_cast<char*>(std::aligned_alloc(128, (bytes + 127) / 128 * 128)));
      std::memset(memory.get(), 0xff, bytes);
    }
    return memory.get();
  }

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };

  template <typename Body>
  void run_block(const Body& body) {
    threads_ = block_size.x * block_size.y * block_size.z;
    body_ = [](const void* data) { (*static_cast<const Body*>(data))(); };
    body_data_ = &body;
    while (fibers_.size() < threads_) fibers_.push_back(std::make_unique<Fiber>());
    for (unsigned i = 0; i < threads_; ++i) start(i);
    shared_.clear();
    // Some warps run ahead of others, as far as the barriers of the block let them.
    std::vector<unsigned> ready, slowness((threads_ + kWarpSize - 1) / kWarpSize);
    for (unsigned& warp : slowness) warp = 1 + random() % 4;
    for (;;) {
      open_warp_barriers();
      bool stuck = true;
      ready.clear();
      for (unsigned first = 0; first < threads_; first += kWarpSize) {
        const bool goes_on = random() % slowness[first / kWarpSize] == 0;
        for (unsigned i = first; i < std::min(first + kWarpSize, threads_); ++i) {
          if (fibers_[i]->state != State::kReady) continue;
          stuck = false;
          if (goes_on) ready.push_back(i);
        }
      }
      if (stuck && !open_block_barrier()) return;
      std::shuffle(ready.begin(), ready.end(), random);
      for (const unsigned i : ready) resume(i);
    }
  }

  void start(unsigned i) {
    Fiber& fiber = *fibers_[i];
    fiber.index =
        dim3(i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y);
    fiber.state = State::kReady;
    fiber.turn = 0;
    fiber.copies.assign(1, {});
    if (!fiber.stack) fiber.stack.reset(new char[kStackBytes]);
    fiber.context.prepare(fiber.stack.get(), &Machine::enter);
  }

  static void enter() {
    Machine& m = get();
    m.arrived(nullptr);
    m.body_(m.body_data_);
    m.fibers_[m.current_]->state = State::kDone;
    m.to_scheduler(true);
  }

  void resume(unsigned i) {
    current_ = i;
    Fiber& fiber = *fibers_[i];
#if defined(__SANITIZE_ADDRESS__)
    void* own = nullptr;
    __sanitizer_start_switch_fiber(&own, fiber.stack.get(), kStackBytes);
    Context::swap(scheduler_, fiber.context);
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#else
    Context::swap(scheduler_, fiber.context);
#endif
  }

  void to_scheduler([[maybe_unused]] bool finished) {
    Fiber& fiber = *fibers_[current_];
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(finished ? nullptr : &fiber.sanitizer_stack, main_stack_,
                                   main_bytes_);
#endif
    Context::swap(fiber.context, scheduler_);
    arrived(fiber.sanitizer_stack);
  }

  void arrived([[maybe_unused]] void* stack) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(stack, &main_stack_, &main_bytes_);
#endif
  }

  void open_warp_barriers() {
    for (unsigned warp = 0; warp < threads_; warp += kWarpSize) {
      const unsigned end = std::min(warp + kWarpSize, threads_);
      bool complete = true;
      for (unsigned i = warp; complete && i < end; ++i) {
        complete = fibers_[i]->state == State::kAtWarpBarrier;
      }
      for (unsigned i = warp; complete && i < end; ++i) fibers_[i]->state = State::kReady;
    }
  }

  // When nobody can go on.  False when all threads are done.
  bool open_block_barrier() {
    bool complete = true, all_done = true;
    for (unsigned i = 0; i < threads_; ++i) {
      all_done &= fibers_[i]->state == State::kDone;
      complete &= fibers_[i]->state == State::kAtBlockBarrier;
    }
    if (all_done) return false;
    if (!complete) fail("a barrier that not all threads of the block or warp reach");
    for (unsigned i = 0; i < threads_; ++i) fibers_[i]->state = State::kReady;
    return true;
  }

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::map<int, std::unique_ptr<char, Free>> shared_;
  Context scheduler_;
  unsigned threads_ = 0, current_ = 0;
  void (*body_)(const void*) = nullptr;
  const void* body_data_ = nullptr;
  const void* main_stack_ = nullptr;
  size_t main_bytes_ = 0;
};

template <typename Kernel, typename... Arguments>
void launch(Kernel kernel, dim3 grid, dim3 block, Arguments... arguments) {
  Machine::get().run_grid(grid, block, [&] { kernel(arguments...); });
}

template <typename Kernel, typename... Arguments>
void launch_dynamic(Kernel kernel, dim3 grid, dim3 block, size_t bytes, Arguments... arguments) {
  Machine::get().dynamic_bytes = bytes;
  launch(kernel, grid, block, arguments...);
}

template <typename T>
T exchange(T value, unsigned source) {
  return *Machine::get().gather(value)[source % kWarpSize];
}

}  // namespace host_cuda

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define threadIdx (host_cuda::Machine::get().thread_index())
#define blockIdx (host_cuda::Machine::get().block_index)
#define blockDim (host_cuda::Machine::get().block_size)
#define gridDim (host_cuda::Machine::get().grid_size)

inline void __syncthreads() { host_cuda::Machine::get().wait(host_cuda::State::kAtBlockBarrier); }
inline void __syncwarp(unsigned = ~0u) {
  host_cuda::Machine::get().wait(host_cuda::State::kAtWarpBarrier);
}

template <typename T>
T __shfl_sync(unsigned, T value, int source) {
  return host_cuda::exchange(value, source);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return host_cuda::exchange(value, host_cuda::Machine::get().lane() ^ mask);
}
template <typename T>
T __shfl_down_sync(unsigned, T value, int delta) {
  const unsigned lane = host_cuda::Machine::get().lane();
  return host_cuda::exchange(value, lane + delta < host_cuda::kWarpSize ? lane + delta : lane);
}
template <typename T>
T __ldg(const T* address) {
  return *address;
}
template <typename T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address += value;
  return old;
}

inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }

namespace caffe_compat {

inline float approximate_sqrt(float x) { return std::sqrt(x); }

template <typename T>
void keep(T&) {}
inline void part_here() {}

inline const char* advanced(const char* base, int count, int bytes) {
  return base + static_cast<int64_t>(count) * bytes;
}

inline void store_16_bytes(const void* from, void* to) { std::memcpy(to, from, 16); }

}  // namespace caffe_compat

#define CAFFE_COMPAT_SHARED(type, name, count) \
  type* const name =                           \
      static_cast<type*>(host_cuda::Machine::get().shared(__LINE__, sizeof(type) * (count)))
#define CAFFE_COMPAT_DYNAMIC_SHARED(name) \
  char* const name = static_cast<char*>(  \
      host_cuda::Machine::get().shared(0, host_cuda::Machine::get().dynamic_bytes))
#define CAFFE_COMPAT_LAUNCH_DYNAMIC(kernel, grid, block, bytes, stream, ...) \
  host_cuda::launch_dynamic(kernel, grid, block, bytes, __VA_ARGS__)
#define CAFFE_COMPAT_LAUNCH(kernel, grid, block, stream, ...) \
  host_cuda::launch(kernel, grid, block, __VA_ARGS__)
