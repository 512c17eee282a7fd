// Channels in parts: up to kMostParts tensors (N, C / parts, H, W), each dense channels_last, whose
// channels follow each other.  So the groups of a convolution can lie apart in memory:
//
//     whole    pixel 0: c0 c1 c2 c3 | pixel 1: c0 c1 c2 c3 | ...
//     2 parts  pixel 0: c0 c1       | pixel 1: c0 c1       | ...
//              pixel 0:       c2 c3 | pixel 1:       c2 c3 | ...
//
// A thread of a kernel keeps its channels, so that it finds its part once.
#pragma once

#include "common/cuda_utils.cuh"

namespace caffe_compat {

constexpr int kMostParts = 4;

// Where some channels lie: at pixel 0, and from one pixel to the next.
template <typename T>
struct ChannelPlace {
  T* at;
  int64_t pitch;
};

template <typename T>
struct ChannelParts {
  T* data[kMostParts];  // the last part again where there are fewer
  int64_t each;         // channels of one part

  // Compared and not indexed: an array of kernel arguments that is indexed goes to local memory.
  __device__ __forceinline__ ChannelPlace<T> find(int64_t channel) const {
    T* start = data[0];
    int64_t first = 0;
    if (channel >= each) start = data[1], first = each;
    if (channel >= 2 * each) start = data[2], first = 2 * each;
    if (channel >= 3 * each) start = data[3], first = 3 * each;
    return {start + (channel - first), each};
  }

  // Whether every part can be read and written in vectors of n.
  bool fits(int n) const {
    bool all = true;
    for (T* part : data) all = all && vectors_fit<T>(each, n, part, nullptr);
    return all;
  }
};

// One pixel's channels.
template <typename T>
struct PartsRow {
  const ChannelParts<const T>& parts;
  int64_t pixel;
};
template <typename T>
__device__ __forceinline__ const T* channel_at(const PartsRow<T>& row, int64_t channel) {
  const ChannelPlace<const T> place = row.parts.find(channel);
  return place.at + row.pixel * place.pitch;
}

// One number for each channel, in the tensors' dtype or in the one to compute in; or neither.
template <typename T>
struct ChannelBias {
  const T* narrow;
  const compute_t<T>* wide;

  __host__ __device__ bool any() const { return narrow != nullptr || wide != nullptr; }
  bool fits(int n) const {
    return vectors_fit<T>(0, n, narrow, nullptr) && vectors_fit<compute_t<T>>(0, n, wide, nullptr);
  }

  template <int V>
  __device__ __forceinline__ void load_at(int64_t channel, compute_t<T> (&to)[V]) const {
    if (wide != nullptr) {
      const auto vector = *reinterpret_cast<const AlignedVector<compute_t<T>, V>*>(wide + channel);
#pragma unroll
      for (int v = 0; v < V; ++v) to[v] = vector.values[v];
    } else if (narrow != nullptr) {
      load<V>(narrow + channel, to);
    }
  }
};

// value + bias, rounded to T as the output of a convolution with a bias is.
template <typename T, typename A>
__device__ __forceinline__ A add_bias(A value, A bias) {
  return static_cast<A>(static_cast<T>(value + bias));
}

}  // namespace caffe_compat
