// LRN across channels, NCHW, windows of 3 and 5: a thread walks down the channels of V pixels with
// the window in registers, so that each element is loaded once (and a few twice, where one walk
// ends and the next begins).  What the next steps need is on its way to shared memory meanwhile: an
// SM hides the latency of an H100's memory with some 25 KB on the way, and registers hold too
// little where planes of an odd number of pixels allow loads of one element only.
//
// Forward, with a reach of 2, one channel a step:
//
//     channel     c-2   c-1    c    c+1   c+2   c+3
//     step c     [ x     x     x     x     x ]          x[c+2] is loaded, y[c] stored
//     step c+1         [ x     x     x     x     x ]    x[c+3] is loaded, y[c+1] stored
//
// Backward dx[c] needs the ratios dy y / scale of channels c-2 to c+2, and the last of these needs
// x of channels c to c+4:
//
//     channel     c-2   c-1    c    c+1   c+2   c+3   c+4
//     ratios     [ r     r     r     r     r ]
//     terms                  [ t     t     t ]
//     x                      [ x     x     x     x     x ]
//     step c                              ^ from dy[c+2], loaded    ^ loaded        dx[c] stored
#pragma once

#include "common/async_copy.cuh"
#include "lrn/lrn_device.cuh"

namespace caffe_compat {
namespace lrn_cuda {

// `columns` vectors of V pixels in all images, each with all its channels; a column is walked in
// `walks` pieces of `channels_each` channels.
struct ChannelWalk {
  int64_t columns, columns_per_image, pixels, channels, channels_each, walks;

  __host__ __device__ int64_t blocks(int threads) const {
    return (columns + threads - 1) / threads * walks;
  }
};

// Where a thread starts: its first channel, and the address offset of channel 0 of its pixels.
// False for a thread without a column.  The pieces of a column belong to neighbouring blocks, so
// that what two of them read is still in the L2 cache.
template <int V>
__device__ __forceinline__ bool find_walk(const ChannelWalk& w, int64_t block, int threads,
                                          int thread, int64_t& first, int64_t& base) {
  const int64_t column = block / w.walks * threads + thread;
  first = block % w.walks * w.channels_each;
  base = column / w.columns_per_image * w.channels * w.pixels + column % w.columns_per_image * V;
  return column < w.columns;
}

__device__ __forceinline__ int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Behind the last channel of the piece that begins with `first`.
__device__ __forceinline__ int64_t walk_end(const ChannelWalk& w, int64_t first) {
  return smaller(first + w.channels_each, w.channels);
}

// Channel `c` of this thread's pixels, zero outside.
template <int V, typename T>
__device__ __forceinline__ void load_channel(const T* x, const ChannelWalk& w, int64_t base,
                                             int64_t c, compute_t<T> (&to)[V]) {
  if (c >= 0 && c < w.channels) {
    load<V>(x + base + c * w.pixels, to);
  } else {
#pragma unroll
    for (int v = 0; v < V; ++v) to[v] = 0;
  }
}

// The V elements at `from`, or zero.
template <int V, typename T>
__device__ __forceinline__ void load_if(bool there, const T* from, compute_t<T> (&to)[V]) {
#pragma unroll
  for (int v = 0; v < V; ++v) to[v] = 0;
  if (there) load<V>(from, to);
}

// Steps that have a place in shared memory: one is in use, the others are on their way.
constexpr int kStages = 4;

// Whether a load of V elements is one that cp.async can do.
template <typename T, int V>
constexpr bool kCopiesAhead = sizeof(T) * V >= 4;

// The channels of a tensor that a walk reads, in order, `step` at a time.  Each thread has its own
// places in `ring` (kRingSize elements), so that no barrier is needed.
template <typename T, int V, int step>
class ChannelReader {
 public:
  using Vector = AlignedVector<T, V>;
  static constexpr int kRingSize = kCopiesAhead<T, V> ? kStages * step * kThreads : 1;

  // Channels from `next` on, zero from `end` on; `base` as find_walk gives it.
  __device__ __forceinline__ ChannelReader(Vector* ring, const T* x, const ChannelWalk& w,
                                           int64_t base, int64_t next, int64_t end)
      : own_(ring + threadIdx.x),
        from_(x + base + next * w.pixels),
        pixels_(w.pixels),
        left_(static_cast<int>(end - next)) {}

  // Sends the next step on its way, to places that are not in use.
  __device__ __forceinline__ void fetch() {
    if constexpr (kCopiesAhead<T, V>) {
#pragma unroll
      for (int j = 0; j < step; ++j) {
        char* to = reinterpret_cast<char*>(own_ + (fetched_ * step + j) * kThreads);
        copy_bytes<sizeof(Vector)>(to, from_, left_ > j);
        from_ += pixels_;
      }
      left_ -= step;
      fetched_ = (fetched_ + 1) % kStages;
    }
  }

  // The next channel, which has arrived.
  __device__ __forceinline__ void read(compute_t<T> (&to)[V]) {
    if constexpr (kCopiesAhead<T, V>) {
      load<V>(reinterpret_cast<const T*>(own_ + read_ * kThreads), to);
      read_ = (read_ + 1) % (kStages * step);
    } else {
#pragma unroll
      for (int v = 0; v < V; ++v) to[v] = 0;
      if (left_ > 0) load<V>(from_, to);
      --left_;
      from_ += pixels_;
    }
  }

 private:
  Vector* own_;
  const T* from_;
  int64_t pixels_;
  int left_, fetched_ = 0, read_ = 0;
};

// Before the first step.
template <typename... Readers>
__device__ __forceinline__ void fetch_first_steps(Readers&... readers) {
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    (readers.fetch(), ...);
    commit_copies();
  }
}

// Before each step: waits for it, and sends the one on its way that is kStages - 1 ahead, to the
// places of the step before.
template <typename... Readers>
__device__ __forceinline__ void turn_to_next_step(Readers&... readers) {
  wait_for_copies<kStages - 2>();
  (readers.fetch(), ...);
  commit_copies();
}

template <typename T, int V, int reach, int step>
__global__ void __launch_bounds__(kThreads)
    lrn_forward_walk(const T* __restrict__ x, T* __restrict__ y, ChannelWalk w,
                     LrnConstants<compute_t<T>> c) {
  using A = compute_t<T>;
  using Reader = ChannelReader<T, V, step>;
  constexpr int carried = 2 * reach;
  CAFFE_COMPAT_SHARED(typename Reader::Vector, ring, Reader::kRingSize);
  int64_t first, base;
  if (!find_walk<V>(w, blockIdx.x, blockDim.x, threadIdx.x, first, base)) return;
  const int64_t last = walk_end(w, first), end = smaller(last + reach, w.channels);
  Reader reader(ring, x, w, base, first + reach, end);
  fetch_first_steps(reader);

  A window[carried + step][V];  // channels from channel - reach on
#pragma unroll
  for (int j = 0; j < carried; ++j) load_channel<V>(x, w, base, first - reach + j, window[j]);
  T* to = y + base + first * w.pixels;
  for (int left = static_cast<int>(last - first); left > 0; left -= step) {
    turn_to_next_step(reader);
#pragma unroll
    for (int j = 0; j < step; ++j) reader.read(window[carried + j]);
#pragma unroll
    for (int j = 0; j < step; ++j) {
      A out[V];
#pragma unroll
      for (int v = 0; v < V; ++v) out[v] = normalise<reach>(&window[j][v], V, c);
      if (j < left) store<V>(out, to);
      to += w.pixels;
    }
#pragma unroll
    for (int j = 0; j < carried; ++j) {
#pragma unroll
      for (int v = 0; v < V; ++v) window[j][v] = window[j + step][v];
    }
  }
}

// Pixels that a backward walk takes at once.  16-bit types take 4, in 8 bytes: the registers hold
// them as float32, and 8 pixels would not fit; a warp still reads 256 bytes at a time.
template <typename T>
constexpr int kBackwardWalkLength = sizeof(T) == 8 ? 2 : 4;

// What the backward walk keeps in registers from channel to channel, for V pixels.
template <typename A, int V, int reach, int step>
struct BackwardWalk {
  static constexpr int carried = 2 * reach;
  A window[carried + step][V];  // x, channels from channel on
  A ratios[carried + step][V];  // channels from channel - reach on
  A terms[reach + step][V];     // channels from channel on

  // To be called before the first channel.  read_x(channel, to) and read_dy(channel, to) give zero
  // outside.
  template <typename ReadX, typename ReadDy>
  __device__ __forceinline__ void start(int64_t first, const ReadX& read_x, const ReadDy& read_dy,
                                        const LrnConstants<A>& c) {
    A early[2 * carried][V];  // x, channels from first - 2 reach on
#pragma unroll
    for (int j = 0; j < 2 * carried; ++j) read_x(first - carried + j, early[j]);
#pragma unroll
    for (int j = 0; j < carried; ++j) {
      A grad[V];
      read_dy(first - reach + j, grad);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        A term;
        term_and_ratio<reach>(grad[v], &early[j][v], V, term, ratios[j][v], c);
        if (j >= reach) terms[j - reach][v] = term;
        window[j][v] = early[carried + j][v];
      }
    }
  }

  // Reads what the gradients of `step` channels from `channel` on still lack: x from channel + 2
  // reach on and dy from channel + reach on.
  template <typename ReadX, typename ReadDy>
  __device__ __forceinline__ void take(int64_t channel, const ReadX& read_x, const ReadDy& read_dy,
                                       const LrnConstants<A>& c) {
    A grads[step][V];
#pragma unroll
    for (int j = 0; j < step; ++j) {
      read_x(channel + carried + j, window[carried + j]);
      read_dy(channel + reach + j, grads[j]);
    }
#pragma unroll
    for (int j = 0; j < step; ++j) {
#pragma unroll
      for (int v = 0; v < V; ++v) {
        term_and_ratio<reach>(grads[j][v], &window[j][v], V, terms[reach + j][v],
                              ratios[carried + j][v], c);
      }
    }
  }

  // The gradient of channel + j, of pixel v.
  __device__ __forceinline__ A give(int j, int v, const LrnConstants<A>& c) const {
    return gradient<reach>(terms[j][v], window[j][v], &ratios[j][v], V, c);
  }

  __device__ __forceinline__ void move_on() {
#pragma unroll
    for (int v = 0; v < V; ++v) {
#pragma unroll
      for (int j = 0; j < carried; ++j) window[j][v] = window[j + step][v];
#pragma unroll
      for (int j = 0; j < carried; ++j) ratios[j][v] = ratios[j + step][v];
#pragma unroll
      for (int j = 0; j < reach; ++j) terms[j][v] = terms[j + step][v];
    }
  }
};

// Blocks that an SM should hold: of one element a load, half as many threads as it can.
template <typename T, int V>
constexpr int kBackwardBlocks = V == 1 && sizeof(T) <= 4 ? 4 : 1;

template <typename T, int V, int reach, int step>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks<T, V>)
    lrn_backward_walk(const T* __restrict__ dy, const T* __restrict__ x, T* __restrict__ dx,
                      ChannelWalk w, LrnConstants<compute_t<T>> c) {
  using A = compute_t<T>;
  using Reader = ChannelReader<T, V, step>;
  CAFFE_COMPAT_SHARED(typename Reader::Vector, x_ring, Reader::kRingSize);
  CAFFE_COMPAT_SHARED(typename Reader::Vector, dy_ring, Reader::kRingSize);
  int64_t first, base;
  if (!find_walk<V>(w, blockIdx.x, blockDim.x, threadIdx.x, first, base)) return;
  const int64_t last = walk_end(w, first);
  Reader next_x(x_ring, x, w, base, first + 2 * reach, smaller(last + 2 * reach, w.channels));
  Reader next_dy(dy_ring, dy, w, base, first + reach, smaller(last + reach, w.channels));
  fetch_first_steps(next_x, next_dy);

  BackwardWalk<A, V, reach, step> walk;
  walk.start(
      first, [&](int64_t q, A(&to)[V]) { load_channel<V>(x, w, base, q, to); },
      [&](int64_t q, A(&to)[V]) { load_channel<V>(dy, w, base, q, to); }, c);
  int64_t at = base + first * w.pixels;
  int behind = static_cast<int>(w.channels - first);  // channels from here to the tensor's end
  for (int left = static_cast<int>(last - first); left > 0; left -= step) {
    turn_to_next_step(next_x, next_dy);
    walk.take(
        0,
        [&](int64_t q, A(&to)[V]) {
          if constexpr (kCopiesAhead<T, V>) {
            next_x.read(to);
          } else {
            load_if<V>(q < behind && q < left + 2 * reach, x + at + q * w.pixels, to);
          }
        },
        [&](int64_t q, A(&to)[V]) {
          if constexpr (kCopiesAhead<T, V>) {
            next_dy.read(to);
          } else {
            load_if<V>(q < behind && q < left + reach, dy + at + q * w.pixels, to);
          }
        },
        c);
    behind -= step;
#pragma unroll
    for (int j = 0; j < step; ++j) {
      A out[V];
#pragma unroll
      for (int v = 0; v < V; ++v) out[v] = walk.give(j, v, c);
      if (j < left) store<V>(out, dx + at);
      at += w.pixels;
    }
    walk.move_on();
  }
}

// Enough threads to fill a large GPU (132 SMs of 2,048) twice, but pieces so long that what is read
// twice between them costs little.
constexpr int64_t kThreadsWanted = 1 << 19;
constexpr int64_t kLeastChannels = 24;

// Channels in each piece when `columns` threads take one piece each.
inline int64_t channels_each(int64_t channels, int64_t columns, int64_t least = kLeastChannels) {
  const int64_t most = ceil_div(channels, least), wanted = ceil_div(kThreadsWanted, columns);
  return ceil_div(channels, wanted < most ? wanted : most);
}

inline ChannelWalk make_walk(const LrnShape& s, int v, int64_t least = kLeastChannels) {
  const int64_t pixels = s.height * s.width, columns = s.batch * pixels / v;
  const int64_t each = channels_each(s.channels, columns, least);
  return {.columns = columns,
          .columns_per_image = pixels / v,
          .pixels = pixels,
          .channels = s.channels,
          .channels_each = each,
          .walks = ceil_div(s.channels, each)};
}

}  // namespace lrn_cuda
}  // namespace caffe_compat
