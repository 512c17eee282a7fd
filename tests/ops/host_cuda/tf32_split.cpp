// The CUDA kernel of tf32_split behind a C interface, for run_cases.py.
#include "host_cuda/device_array.h"
#include "tf32_split/tf32_split_kernels.cuh"

using namespace caffe_compat;

extern "C" void tf32_split_float32(const float* input, float* out, int64_t rows, int64_t length,
                                   int64_t low_pieces, unsigned seed) {
  host_cuda::Machine::get().random.seed(seed);
  const DeviceArray<float> device_input(input, rows * length);
  const DeviceArray<float> device_out(tf32_split_cuda::kPieces * rows * length);
  tf32_split_cuda_launch(device_input.get(), device_out.get(), rows, length,
                         static_cast<tf32_split_cuda::LowPieces>(low_pieces), nullptr);
  device_out.copy_to(out);
}
