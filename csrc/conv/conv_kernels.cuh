// Grouped convolution on CUDA as an implicit matrix product: output, input gradient and weight
// gradient are each one launch over all groups, and the column matrix of im2col exists only as
// tiles in shared memory.
//
//                    rows m                 columns n                      depth k
//   output           outputs of a group     pixels of all images           channels of a group,
//   taps input gradient   channels of a group    input pixels of all images     outputs of a group,
//   taps weight gradient  outputs of a group     channels of a group, taps      output pixels,
//   image by image
//
// A float32 product is computed by plain FMA, by TF32 tensor cores, or as three TF32 products of
// split numbers, which keeps float32's accuracy.  float16 and bfloat16 fit into TF32 without loss.
// Sums are float32 (float64 for double), always in the same order.
#pragma once

#include <type_traits>

#include "common/cuda_utils.cuh"
#include "common/mma.cuh"
#include "conv/conv.h"

namespace caffe_compat {

// How float32 products are made; float64 is always kFma, 16-bit types kTf32.
enum class ConvMath { kFma, kTf32, kSplitTf32 };

namespace conv_cuda {

// Division by a constant of numbers below 2^31, as one multiplication (Granlund and Montgomery,
// PLDI 1994).
struct Divider {
  uint32_t divisor, multiplier, shift;

  explicit Divider(int64_t d) : divisor(static_cast<uint32_t>(d)), shift(0) {
    while (shift < 31 && (uint64_t{1} << shift) < divisor) ++shift;
    multiplier = static_cast<uint32_t>(
        ((uint64_t{1} << 32) * ((uint64_t{1} << shift) - divisor)) / divisor + 1);
  }
  __host__ __device__ uint32_t quotient(uint32_t n) const {
    const uint64_t high = (static_cast<uint64_t>(n) * multiplier) >> 32;
    return static_cast<uint32_t>((high + n) >> shift);
  }
  __host__ __device__ uint32_t split(uint32_t n, uint32_t& rest) const {
    const uint32_t q = quotient(n);
    rest = n - q * divisor;
    return q;
  }
};

// A tile of the product, computed by kThreads threads.
template <int rows, int columns>
struct Tile {
  static constexpr int kRows = rows, kColumns = columns, kDepth = 16;
  static constexpr int kPad =
      8;  // keeps 16-byte alignment and spreads the tensor-core reads over the banks
};
template <typename A, typename Tile>
using TileA = A[Tile::kDepth][Tile::kRows + Tile::kPad];
template <typename A, typename Tile>
using TileB = A[Tile::kDepth][Tile::kColumns + Tile::kPad];

// ---- sums of a tile -----------------------------------------------------------------------------

// 16 x 16 threads, each with blocks of 4 x 4 sums, 64 apart.
template <typename A, typename Tile>
struct FmaSums {
  using TileType = Tile;
  static constexpr int kM = Tile::kRows / 16, kN = Tile::kColumns / 16;
  A sums[kM][kN] = {};

  __device__ static int row(int i) { return i / 4 * 64 + threadIdx.x / 16 * 4 + i % 4; }
  __device__ static int column(int j) { return j / 4 * 64 + threadIdx.x % 16 * 4 + j % 4; }

  __device__ void add(const TileA<A, Tile>& a, const TileB<A, Tile>& b) {
#pragma unroll
    for (int k = 0; k < Tile::kDepth; ++k) {
      A left[kM], right[kN];
#pragma unroll
      for (int i = 0; i < kM; ++i) left[i] = a[k][row(i)];
#pragma unroll
      for (int j = 0; j < kN; ++j) right[j] = b[k][column(j)];
#pragma unroll
      for (int i = 0; i < kM; ++i) {
#pragma unroll
        for (int j = 0; j < kN; ++j) sums[i][j] += left[i] * right[j];
      }
    }
  }

  template <typename Visit>
  __device__ void for_each(const Visit& visit) const {
#pragma unroll
    for (int i = 0; i < kM; ++i) {
#pragma unroll
      for (int j = 0; j < kN; ++j) visit(row(i), column(j), sums[i][j]);
    }
  }
};

// 2 x 4 warps, each with a grid of 16 x 8 fragments.
template <typename Tile, bool split>
struct TensorSums {
  using TileType = Tile;
  static constexpr int kM = Tile::kRows / 2 / 16, kN = Tile::kColumns / 4 / 8;
  FragmentC sums[kM][kN] = {};

  __device__ static int warp_row() { return threadIdx.x / 32 / 4 * (Tile::kRows / 2); }
  __device__ static int warp_column() { return threadIdx.x / 32 % 4 * (Tile::kColumns / 4); }

  // value = big + small, both TF32; what is left is below float32's last bit.
  __device__ static void part(float value, float& big, float& small) {
    big = round_to_tf32(value);
    if (split) small = round_to_tf32(value - big);
  }

  __device__ void add(const TileA<float, Tile>& a, const TileB<float, Tile>& b) {
    const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4;
#pragma unroll
    for (int k = 0; k < Tile::kDepth; k += 8) {
      FragmentA big_a[kM], small_a[kM];
      FragmentB big_b[kN], small_b[kN];
#pragma unroll
      for (int i = 0; i < kM; ++i) {
#pragma unroll
        for (int v = 0; v < 4; ++v) {
          const float value = a[k + column + v / 2 * 4][warp_row() + i * 16 + row + v % 2 * 8];
          part(value, big_a[i].values[v], small_a[i].values[v]);
        }
      }
#pragma unroll
      for (int j = 0; j < kN; ++j) {
#pragma unroll
        for (int v = 0; v < 2; ++v) {
          const float value = b[k + column + v * 4][warp_column() + j * 8 + row];
          part(value, big_b[j].values[v], small_b[j].values[v]);
        }
      }
#pragma unroll
      for (int i = 0; i < kM; ++i) {
#pragma unroll
        for (int j = 0; j < kN; ++j) {
          if constexpr (split) {
            // Tensor cores truncate when they add: the long sum is kept in rounded float32 outside
            // of them.
            FragmentC sum = {};
            multiply_tf32(small_a[i], big_b[j], sum);
            multiply_tf32(big_a[i], small_b[j], sum);
            multiply_tf32(big_a[i], big_b[j], sum);
#pragma unroll
            for (int v = 0; v < 4; ++v) sums[i][j].values[v] += sum.values[v];
          } else {
            multiply_tf32(big_a[i], big_b[j], sums[i][j]);
          }
        }
      }
    }
  }

  template <typename Visit>
  __device__ void for_each(const Visit& visit) const {
    const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < kM; ++i) {
#pragma unroll
      for (int j = 0; j < kN; ++j) {
#pragma unroll
        for (int v = 0; v < 4; ++v) {
          visit(warp_row() + i * 16 + row + v / 2 * 8, warp_column() + j * 8 + column + v % 2,
                sums[i][j].values[v]);
        }
      }
    }
  }
};

// ---- what the three products read and write
// ------------------------------------------------------
//
// A product has operands `a` (m, k) and `b` (k, n); k runs over `depth` in each of `rounds()`.  In
// `a` rows are evenly spaced, `row_stride` apart.  A thread loads elements of few columns n of `b`,
// so what depends on n is found once (Spot). Addresses are 64-bit; k, n within an image and
// coordinates fit into 32 bits, which check_conv_limits makes sure of.

struct Sizes : ConvSizes {
  Divider by_taps, by_kernel_w, by_out_width;

  explicit Sizes(const ConvSizes& s)
      : ConvSizes(s), by_taps(s.taps()), by_kernel_w(s.kernel_w), by_out_width(s.out_width) {}
};

// The element of a plane under tap (kh, kw) of a window at (top, left); zero in the padding.
template <typename T>
__device__ __forceinline__ compute_t<T> load_pixel(const T* plane, const Sizes& s, int32_t top,
                                                   int32_t left, uint32_t kh, uint32_t kw) {
  const int32_t row = top + static_cast<int32_t>(kh * s.dilation_h);
  const int32_t column = left + static_cast<int32_t>(kw * s.dilation_w);
  const bool inside = row >= 0 && row < s.height && column >= 0 && column < s.width;
  return inside ? static_cast<compute_t<T>>(plane[row * s.width + column]) : compute_t<T>(0);
}

template <typename T>
struct OutputProduct {
  using Element = T;
  using A = compute_t<T>;
  static constexpr bool kDepthFirstB =
      false;  // neighbouring threads take neighbouring k, or neighbouring n?
  const T *x, *weight, *bias;
  T* y;
  Sizes s;
  int64_t rows, columns, depth;

  OutputProduct(const T* x, const T* weight, const T* bias, T* y, const ConvSizes& sizes)
      : x(x),
        weight(weight),
        bias(bias),
        y(y),
        s(sizes),
        rows(s.group_outputs()),
        columns(s.batch * s.out_pixels()),
        depth(s.depth()) {}

  struct Spot {
    const T* image;
    int32_t top, left;
  };

  __device__ void rounds(int64_t& first, int64_t& last) const { first = 0, last = 1; }
  __device__ int64_t row_stride() const { return depth; }
  __device__ const T* row(int64_t group, int64_t m) const {
    return weight + (group * rows + m) * depth;
  }
  __device__ Spot spot(int64_t group, int64_t n) const {
    const int64_t image = n / s.out_pixels();
    uint32_t column;
    const uint32_t row = s.by_out_width.split(static_cast<uint32_t>(n % s.out_pixels()), column);
    return {x + (image * s.channels + group * s.group_channels()) * s.pixels(),
            static_cast<int32_t>(row * s.stride_h - s.pad_h),
            static_cast<int32_t>(column * s.stride_w - s.pad_w)};
  }
  __device__ A load_a(const T* row, int64_t, uint32_t k) const { return static_cast<A>(row[k]); }
  __device__ A load_b(const Spot& spot, int64_t, uint32_t k) const {
    uint32_t tap, kw;
    const uint32_t channel = s.by_taps.split(k, tap), kh = s.by_kernel_w.split(tap, kw);
    return load_pixel(spot.image + channel * s.pixels(), s, spot.top, spot.left, kh, kw);
  }
  __device__ void store(int64_t group, int64_t m, int64_t n, A sum) const {
    const int64_t image = n / s.out_pixels(), pixel = n % s.out_pixels(), output = group * rows + m;
    if (bias != nullptr) sum += static_cast<A>(bias[output]);
    y[(image * s.outputs + output) * s.out_pixels() + pixel] = static_cast<T>(sum);
  }
};

template <typename T>
struct InputGradProduct {
  using Element = T;
  using A = compute_t<T>;
  static constexpr bool kDepthFirstB = false;
  const T *dy, *weight;
  T* dx;
  Sizes s;
  Divider by_stride_h, by_stride_w, by_width;
  int64_t rows, columns, depth;

  InputGradProduct(const T* dy, const T* weight, T* dx, const ConvSizes& sizes)
      : dy(dy),
        weight(weight),
        dx(dx),
        s(sizes),
        by_stride_h(s.stride_h),
        by_stride_w(s.stride_w),
        by_width(s.width),
        rows(s.group_channels()),
        columns(s.batch * s.pixels()),
        depth(s.group_outputs() * s.taps()) {}

  struct Spot {
    const T* image;
    int32_t bottom, right;  // padded position of the input pixel
  };

  __device__ void rounds(int64_t& first, int64_t& last) const { first = 0, last = 1; }
  __device__ int64_t row_stride() const { return s.taps(); }
  __device__ const T* row(int64_t group, int64_t m) const {
    return weight + group * s.group_outputs() * s.depth() + m * s.taps();
  }
  __device__ Spot spot(int64_t group, int64_t n) const {
    const int64_t image = n / s.pixels();
    uint32_t column;
    const uint32_t row = by_width.split(static_cast<uint32_t>(n % s.pixels()), column);
    return {dy + (image * s.outputs + group * s.group_outputs()) * s.out_pixels(),
            static_cast<int32_t>(row + s.pad_h), static_cast<int32_t>(column + s.pad_w)};
  }
  __device__ A load_a(const T* row, int64_t, uint32_t k) const {
    uint32_t tap;
    const int64_t output = s.by_taps.split(k, tap);
    return static_cast<A>(row[output * s.depth() + tap]);
  }
  // The output pixel that has the input pixel under its tap, if there is one.
  __device__ A load_b(const Spot& spot, int64_t, uint32_t k) const {
    uint32_t tap, kw, off_row, off_column;
    const int64_t output = s.by_taps.split(k, tap);
    const uint32_t kh = s.by_kernel_w.split(tap, kw);
    const int32_t down = spot.bottom - static_cast<int32_t>(kh * s.dilation_h);
    const int32_t across = spot.right - static_cast<int32_t>(kw * s.dilation_w);
    if (down < 0 || across < 0) return A(0);
    const int64_t row = by_stride_h.split(static_cast<uint32_t>(down), off_row);
    const int64_t column = by_stride_w.split(static_cast<uint32_t>(across), off_column);
    const bool hit = off_row == 0 && off_column == 0 && row < s.out_height && column < s.out_width;
    return hit ? static_cast<A>(spot.image[output * s.out_pixels() + row * s.out_width + column])
               : A(0);
  }
  __device__ void store(int64_t group, int64_t m, int64_t n, A sum) const {
    const int64_t image = n / s.pixels(), pixel = n % s.pixels();
    dx[(image * s.channels + group * rows + m) * s.pixels() + pixel] = static_cast<T>(sum);
  }
};

// Each of `parts` sums a share of the images into its own slice of `partial`; add_parts then adds
// the slices.
template <typename T>
struct WeightGradProduct {
  using Element = T;
  using A = compute_t<T>;
  static constexpr bool kDepthFirstB = true;
  const T *dy, *x;
  A* partial;
  Sizes s;
  int64_t rows, columns, depth, parts;

  WeightGradProduct(const T* dy, const T* x, A* partial, const ConvSizes& sizes, int64_t parts)
      : dy(dy),
        x(x),
        partial(partial),
        s(sizes),
        rows(s.group_outputs()),
        columns(s.depth()),
        depth(s.out_pixels()),
        parts(parts) {}

  struct Spot {
    int64_t plane;
    int32_t top, left;
  };

  __device__ int64_t part() const { return blockIdx.z / s.groups; }
  __device__ void rounds(int64_t& first, int64_t& last) const {
    first = s.batch * part() / parts;
    last = s.batch * (part() + 1) / parts;
  }
  __device__ int64_t row_stride() const { return depth; }
  __device__ const T* row(int64_t group, int64_t m) const {
    return dy + (group * rows + m) * depth;
  }
  __device__ Spot spot(int64_t group, int64_t n) const {
    uint32_t tap, kw;
    const uint32_t channel = s.by_taps.split(static_cast<uint32_t>(n), tap),
                   kh = s.by_kernel_w.split(tap, kw);
    return {(group * s.group_channels() + channel) * s.pixels(),
            static_cast<int32_t>(kh * s.dilation_h - s.pad_h),
            static_cast<int32_t>(kw * s.dilation_w - s.pad_w)};
  }
  __device__ A load_a(const T* row, int64_t image, uint32_t k) const {
    return static_cast<A>(row[image * s.outputs * depth + k]);
  }
  __device__ A load_b(const Spot& spot, int64_t image, uint32_t k) const {
    uint32_t out_column;
    const uint32_t out_row = s.by_out_width.split(k, out_column);
    const T* plane = x + image * s.channels * s.pixels() + spot.plane;
    return load_pixel(plane, s, static_cast<int32_t>(out_row * s.stride_h) + spot.top,
                      static_cast<int32_t>(out_column * s.stride_w) + spot.left, 0, 0);
  }
  __device__ void store(int64_t group, int64_t m, int64_t n, A sum) const {
    partial[((part() * s.groups + group) * rows + m) * columns + n] = sum;
  }
};

// ---- the product --------------------------------------------------------------------------------

// Where a thread's i-th element of a tile lies: `size` rows (or columns) x kDepth, neighbours along
// k or along the row.
template <int size, bool depth_first>
__device__ __forceinline__ void place(int i, int& spot, int& k) {
  const int element = threadIdx.x + i * kThreads;
  if (depth_first) {
    k = element % 16, spot = element / 16;
  } else {
    spot = element % size, k = element / size;
  }
}

template <typename Product, typename Tile, typename Sums>
__global__ void __launch_bounds__(kThreads) product_kernel(Product p) {
  using A = typename Product::A;
  using SharedA = TileA<A, Tile>;
  using SharedB = TileB<A, Tile>;
  constexpr int kLoadsA = Tile::kRows * Tile::kDepth / kThreads;
  constexpr int kLoadsB = Tile::kColumns * Tile::kDepth / kThreads;
  // Depth-first threads visit several columns, the others stay on one.
  constexpr int kSpots = Product::kDepthFirstB ? kLoadsB : 1;
  static_assert(Tile::kDepth == 16 && kThreads % Tile::kColumns == 0);
  CAFFE_COMPAT_SHARED(SharedA, tile_a, 2);
  CAFFE_COMPAT_SHARED(SharedB, tile_b, 2);

  const int64_t group = blockIdx.z % p.s.groups;
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * Tile::kRows;
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * Tile::kColumns;
  const int rows_left =
      static_cast<int>(p.rows - first_row < Tile::kRows ? p.rows - first_row : Tile::kRows);
  const auto* first_a = p.row(group, first_row);
  const int64_t row_stride = p.row_stride();
  typename Product::Spot spots[kSpots];
  bool inside_b[kSpots];
#pragma unroll
  for (int i = 0; i < kSpots; ++i) {
    int column, k;
    place<Tile::kColumns, Product::kDepthFirstB>(i, column, k);
    inside_b[i] = first_column + column < p.columns;
    spots[i] = p.spot(group, inside_b[i] ? first_column + column : 0);
  }

  A next_a[kLoadsA], next_b[kLoadsB];
  const auto fetch = [&](int64_t round, uint32_t depth) {
#pragma unroll
    for (int i = 0; i < kLoadsA; ++i) {
      int row, k;
      place<Tile::kRows, true>(i, row, k);
      const bool inside = row < rows_left && depth + k < p.depth;
      next_a[i] = inside ? p.load_a(first_a + row * row_stride, round, depth + k) : A(0);
    }
#pragma unroll
    for (int i = 0; i < kLoadsB; ++i) {
      int column, k;
      place<Tile::kColumns, Product::kDepthFirstB>(i, column, k);
      const int spot = Product::kDepthFirstB ? i : 0;
      const bool inside = inside_b[spot] && depth + k < p.depth;
      next_b[i] = inside ? p.load_b(spots[spot], round, depth + k) : A(0);
    }
  };

  Sums sums;
  int64_t round, last_round;
  uint32_t depth = 0;
  p.rounds(round, last_round);
  if (round < last_round) fetch(round, 0);
  for (int stage = 0; round < last_round; stage ^= 1) {
#pragma unroll
    for (int i = 0; i < kLoadsA; ++i) {
      int row, k;
      place<Tile::kRows, true>(i, row, k);
      tile_a[stage][k][row] = next_a[i];
    }
#pragma unroll
    for (int i = 0; i < kLoadsB; ++i) {
      int column, k;
      place<Tile::kColumns, Product::kDepthFirstB>(i, column, k);
      tile_b[stage][k][column] = next_b[i];
    }
    // One barrier for each tile: the other stage was last read before the previous one.
    __syncthreads();
    depth += Tile::kDepth;
    if (depth >= p.depth) depth = 0, ++round;
    if (round < last_round) fetch(round, depth);  // in flight while this tile is multiplied
    sums.add(tile_a[stage], tile_b[stage]);
  }
  sums.for_each([&](int row, int column, A sum) {
    const int64_t m = first_row + row, n = first_column + column;
    if (m < p.rows && n < p.columns) p.store(group, m, n, sum);
  });
}

template <typename T, typename A>
__global__ void __launch_bounds__(kThreads)
    add_parts(const A* __restrict__ partial, T* __restrict__ total, int64_t count, int64_t parts) {
  const int64_t at = global_thread();
  if (at >= count) return;
  A sum = 0;
  for (int64_t part = 0; part < parts; ++part) sum += partial[part * count + at];
  total[at] = static_cast<T>(sum);
}

template <typename Sums, typename Product>
void launch_product(const Product& p, int64_t parts, cudaStream_t stream) {
  using Tile = typename Sums::TileType;
  const dim3 grid(static_cast<unsigned>(ceil_div(p.columns, Tile::kColumns)),
                  static_cast<unsigned>(ceil_div(p.rows, Tile::kRows)),
                  static_cast<unsigned>(p.s.groups * parts));
  auto kernel = product_kernel<Product, Tile, Sums>;
  CAFFE_COMPAT_LAUNCH(kernel, grid, kThreads, stream, p);
}

using LargeTile = Tile<128, 128>;
using LargeSplitTile =
    Tile<128, 64>;  // twice the fragments: a wider one would not fit into the registers
using SmallTile = Tile<64, 64>;

// The large tile where it is mostly full, for it needs fewer loads.
template <typename Large, typename Small, typename Product>
void launch_fitting(const Product& p, int64_t parts, cudaStream_t stream) {
  if (p.rows > 64 && p.columns > 64) return launch_product<Large>(p, parts, stream);
  launch_product<Small>(p, parts, stream);
}

template <typename Product>
void multiply(const Product& p, int64_t parts, ConvMath math, cudaStream_t stream) {
  using A = typename Product::A;
  if constexpr (std::is_same_v<A, double>) {
    launch_product<FmaSums<A, SmallTile>>(p, parts, stream);
  } else if constexpr (!std::is_same_v<typename Product::Element, float>) {
    launch_fitting<TensorSums<LargeTile, false>, TensorSums<SmallTile, false>>(p, parts, stream);
  } else if (math == ConvMath::kFma) {
    launch_fitting<FmaSums<A, LargeTile>, FmaSums<A, SmallTile>>(p, parts, stream);
  } else if (math == ConvMath::kTf32) {
    launch_fitting<TensorSums<LargeTile, false>, TensorSums<SmallTile, false>>(p, parts, stream);
  } else {
    launch_fitting<TensorSums<LargeSplitTile, true>, TensorSums<SmallTile, true>>(p, parts, stream);
  }
}

}  // namespace conv_cuda

template <typename T>
void conv_forward_cuda(const T* x, const T* weight, const T* bias, T* y, const ConvSizes& s,
                       ConvMath math, cudaStream_t stream) {
  if (s.batch == 0) return;
  conv_cuda::multiply(conv_cuda::OutputProduct<T>(x, weight, bias, y, s), 1, math, stream);
}

template <typename T>
void conv_input_grad_cuda(const T* dy, const T* weight, T* dx, const ConvSizes& s, ConvMath math,
                          cudaStream_t stream) {
  if (s.batch == 0) return;
  conv_cuda::multiply(conv_cuda::InputGradProduct<T>(dy, weight, dx, s), 1, math, stream);
}

// Into how many shares the images are split for the weight gradient: enough for two blocks on each
// of 132 SMs.  A function of the sizes only, so that the sum's order, and with it the result, is
// the same on every GPU.
inline int64_t conv_weight_grad_parts(const ConvSizes& s) {
  const int64_t tile = s.group_outputs() > 64 && s.depth() > 64 ? 128 : 64;
  const int64_t blocks = ceil_div(s.group_outputs(), tile) * ceil_div(s.depth(), tile) * s.groups;
  const int64_t wanted = ceil_div(264, blocks);
  const int64_t most = s.batch < 65535 / s.groups ? s.batch : 65535 / s.groups;
  return wanted < most ? wanted : (most > 1 ? most : 1);
}

// `partial`: workspace of conv_weight_grad_parts(s) times the weight's size, in the compute type.
template <typename T>
void conv_weight_grad_cuda(const T* dy, const T* x, T* dw, compute_t<T>* partial,
                           const ConvSizes& s, ConvMath math, cudaStream_t stream) {
  const int64_t parts = conv_weight_grad_parts(s), count = s.outputs * s.depth();
  if (count == 0) return;
  conv_cuda::multiply(conv_cuda::WeightGradProduct<T>(dy, x, partial, s, parts), parts, math,
                      stream);
  auto kernel = conv_cuda::add_parts<T, compute_t<T>>;
  CAFFE_COMPAT_LAUNCH(kernel, blocks_for(count), kThreads, stream, partial, dw, count, parts);
}

}  // namespace caffe_compat
