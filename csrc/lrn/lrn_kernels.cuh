// CUDA kernels of LRN (lrn.h has the equation): which one runs, and its launch.  Each pass reads
// and writes every tensor once; the scale is computed again in the backward pass, never stored.
//
//   walk  across channels, NCHW, windows of 3 and 5: a thread walks down the channels of its pixels
//   row   across channels, NHWC, same windows: a thread takes a vector of channels of one pixel
//   tile  everything else: any window, both regions, both layouts, any exponent
#pragma once

#include "lrn/lrn_tile_kernels.cuh"
#include "lrn/lrn_walk_kernels.cuh"

namespace caffe_compat {
namespace lrn_cuda {

template <typename T, int V, int reach>
__global__ void __launch_bounds__(kThreads)
    lrn_forward_row(const T* __restrict__ x, T* __restrict__ y, int64_t elements, int64_t channels,
                    LrnConstants<compute_t<T>> c) {
  const int64_t at = global_thread() * V;
  if (at >= elements) return;
  const int64_t channel = at % channels;
  compute_t<T> out[V];
  normalise_row<V, reach>(x + at - channel, channels, channel, out, c);
  store<V>(out, y + at);
}

template <typename T, int V, int reach>
__global__ void __launch_bounds__(kThreads)
    lrn_backward_row(const T* __restrict__ dy, const T* __restrict__ x, T* __restrict__ dx,
                     int64_t elements, int64_t channels, LrnConstants<compute_t<T>> c) {
  const int64_t at = global_thread() * V;
  if (at >= elements) return;
  const int64_t channel = at % channels;
  compute_t<T> out[V];
  gradient_row<V, reach>(dy + at - channel, x + at - channel, channels, channel, out, c);
  store<V>(out, dx + at);
}

enum class Path { kWalk, kWalkVectors, kRow, kRowVectors, kTile };

template <typename T>
Path choose_path(const LrnShape& s, const LrnParams& p, const T* a, const T* b,
                 const T* c = nullptr) {
  const bool usual =
      !p.within_channel && (p.size == 3 || p.size == 5) && lrn_power(p.beta) != LrnPower::kAny;
  if (!usual) return Path::kTile;
  const bool fits =
      vectors_fit(s.channels_last ? s.channels : s.height * s.width, kVectorLength<T>, a, b, c);
  if (s.channels_last) return fits ? Path::kRowVectors : Path::kRow;
  return fits ? Path::kWalkVectors : Path::kWalk;
}

template <typename T, int V, int reach>
void launch_forward_walk(const T* x, T* y, const LrnShape& s, const LrnConstants<compute_t<T>>& c,
                         cudaStream_t stream) {
  const ChannelWalk walk = make_walk(s, V);
  constexpr int step = V == 1 ? 4 : V == 8 ? 1 : 2;
  auto kernel = lrn_forward_walk<T, V, reach, step>;
  CAFFE_COMPAT_LAUNCH(kernel, dim3(walk.blocks(kThreads)), kThreads, stream, x, y, walk, c);
}

template <typename T, int V, int reach>
void launch_backward_walk(const T* dy, const T* x, T* dx, const LrnShape& s,
                          const LrnConstants<compute_t<T>>& c, cudaStream_t stream) {
  const ChannelWalk walk = make_walk(s, V);
  constexpr int step = V > 1 ? 1 : reach == 2 && sizeof(T) <= 4 ? 4 : 2;
  auto kernel = lrn_backward_walk<T, V, reach, step>;
  CAFFE_COMPAT_LAUNCH(kernel, dim3(walk.blocks(kThreads)), kThreads, stream, dy, x, dx, walk, c);
}

template <typename T, int V, int reach>
void launch_forward_row(const T* x, T* y, const LrnShape& s, const LrnConstants<compute_t<T>>& c,
                        cudaStream_t stream) {
  const int64_t elements = s.batch * s.channels * s.height * s.width;
  auto kernel = lrn_forward_row<T, V, reach>;
  CAFFE_COMPAT_LAUNCH(kernel, blocks_for(elements / V), kThreads, stream, x, y, elements,
                      s.channels, c);
}

template <typename T, int V, int reach>
void launch_backward_row(const T* dy, const T* x, T* dx, const LrnShape& s,
                         const LrnConstants<compute_t<T>>& c, cudaStream_t stream) {
  const int64_t elements = s.batch * s.channels * s.height * s.width;
  auto kernel = lrn_backward_row<T, V, reach>;
  CAFFE_COMPAT_LAUNCH(kernel, blocks_for(elements / V), kThreads, stream, dy, x, dx, elements,
                      s.channels, c);
}

template <typename T, int reach>
void forward_usual(Path path, const T* x, T* y, const LrnShape& s,
                   const LrnConstants<compute_t<T>>& c, cudaStream_t stream) {
  constexpr int V = kVectorLength<T>;
  if (path == Path::kWalk) return launch_forward_walk<T, 1, reach>(x, y, s, c, stream);
  if (path == Path::kWalkVectors) return launch_forward_walk<T, V, reach>(x, y, s, c, stream);
  if (path == Path::kRow) return launch_forward_row<T, 1, reach>(x, y, s, c, stream);
  launch_forward_row<T, V, reach>(x, y, s, c, stream);
}

template <typename T, int reach>
void backward_usual(Path path, const T* dy, const T* x, T* dx, const LrnShape& s,
                    const LrnConstants<compute_t<T>>& c, cudaStream_t stream) {
  constexpr int V = kVectorLength<T>;
  if (path == Path::kWalk) return launch_backward_walk<T, 1, reach>(dy, x, dx, s, c, stream);
  if (path == Path::kWalkVectors) {
    return launch_backward_walk<T, kBackwardWalkLength<T>, reach>(dy, x, dx, s, c, stream);
  }
  if (path == Path::kRow) return launch_backward_row<T, 1, reach>(dy, x, dx, s, c, stream);
  launch_backward_row<T, V, reach>(dy, x, dx, s, c, stream);
}

}  // namespace lrn_cuda

// most: elements that the windows of a block of the tile kernels may touch.
template <typename T>
void lrn_forward_cuda(const T* x, T* y, const LrnShape& s, const LrnParams& p, cudaStream_t stream,
                      int64_t most = lrn_cuda::kTouchedMost<T>) {
  using namespace lrn_cuda;
  const LrnConstants<compute_t<T>> c(p);
  if (s.batch * s.channels * s.height * s.width == 0) return;
  const Path path = choose_path(s, p, x, y);
  if (path == Path::kTile) {
    const BlockBox box = make_box(s, p, most);
    CAFFE_COMPAT_LAUNCH(lrn_forward_tile<T>, dim3(box.blocks()), kThreads, stream, x, y, box, c);
  } else if (p.size == 3) {
    forward_usual<T, 1>(path, x, y, s, c, stream);
  } else {
    forward_usual<T, 2>(path, x, y, s, c, stream);
  }
}

template <typename T>
void lrn_backward_cuda(const T* dy, const T* x, T* dx, const LrnShape& s, const LrnParams& p,
                       cudaStream_t stream, int64_t most = lrn_cuda::kTouchedMost<T>) {
  using namespace lrn_cuda;
  const LrnConstants<compute_t<T>> c(p);
  if (s.batch * s.channels * s.height * s.width == 0) return;
  const Path path = choose_path<T>(s, p, dy, x, dx);
  if (path == Path::kTile) {
    const BlockBox box = make_box(s, p, most);
    auto kernel = box.touched() <= most ? lrn_backward_tile<T> : lrn_backward_direct<T>;
    CAFFE_COMPAT_LAUNCH(kernel, dim3(box.blocks()), kThreads, stream, dy, x, dx, box, c);
  } else if (p.size == 3) {
    backward_usual<T, 1>(path, dy, x, dx, s, c, stream);
  } else {
    backward_usual<T, 2>(path, dy, x, dx, s, c, stream);
  }
}

}  // namespace caffe_compat
