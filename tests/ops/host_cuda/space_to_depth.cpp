// The CUDA kernel of space_to_depth behind a C interface, for run_cases.py.
#include "host_cuda/device_array.h"
#include "space_to_depth/space_to_depth_kernels.cuh"

namespace {

using namespace caffe_compat;

// n: N, C, H, W of the input, its four strides and its elements, then height and width of the
// output, its channels, block, and padding.
template <typename In, typename Out>
void run(const In* input, Out* out, const int64_t* n, unsigned seed) {
  host_cuda::Machine::get().random.seed(seed);
  const SpaceToDepthSizes sizes{.batch = n[0],
                                .channels = n[1],
                                .height = n[2],
                                .width = n[3],
                                .stride_n = n[4],
                                .stride_c = n[5],
                                .stride_h = n[6],
                                .stride_w = n[7],
                                .out_height = n[9],
                                .out_width = n[10],
                                .out_channels = n[11],
                                .block = n[12],
                                .pad_h = n[13],
                                .pad_w = n[14]};
  const DeviceArray<In> device_input(input, n[8]);
  const DeviceArray<Out> device_out(sizes.batch * sizes.out_channels * sizes.out_height *
                                    sizes.out_width);
  space_to_depth_cuda_launch(device_input.get(), device_out.get(), sizes, nullptr);
  device_out.copy_to(out);
}

}  // namespace

#define EXPORT(name, In, Out)                                                            \
  extern "C" void name(const In* input, Out* out, const int64_t* sizes, unsigned seed) { \
    run<In, Out>(input, out, sizes, seed);                                               \
  }
EXPORT(from_float32_float32, float, float)
EXPORT(from_float32_bfloat16, float, c10::BFloat16)
EXPORT(from_float16_float16, c10::Half, c10::Half)
EXPORT(from_bfloat16_float32, c10::BFloat16, float)
