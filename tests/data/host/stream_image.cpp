// The versions of stream_image that this machine can run against the plain formula: widths, offsets
// in a cache line, mirrors and means, under AddressSanitizer.
#include "batch_transform/stream_image.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <random>

using namespace caffe_compat;

namespace {

std::mt19937 random_source{1};
int64_t below(int64_t limit) { return random_source() % limit; }

float expected(const ImageView& image, const CropWindow& crop, const TransformParams& params,
               int64_t c, int64_t h, int64_t w) {
  const int64_t row = crop.top + h;
  const int64_t column = crop.left + (crop.mirror ? params.width - 1 - w : w);
  const int64_t offset = (c * image.height + row) * image.width + column;
  float value = image.data[offset];
  if (params.mean_kind == MeanKind::kPerChannel) value -= params.mean[c];
  if (params.mean_kind == MeanKind::kImage) value -= params.mean[offset];
  return value * params.scale;
}

// Whether a random case comes out right and nothing is written beside it.
bool check(StreamImage stream_image) {
  TransformParams params;
  params.height = 1 + below(5);
  params.width = kStreamWidth + below(40);
  params.scale = below(2) ? 1.0f : 0.017f;
  params.mean_kind = static_cast<MeanKind>(below(3));
  const int64_t channels = 1 + below(3), rows = params.height + below(3),
                columns = params.width + below(20), count = channels * rows * columns;
  const std::unique_ptr<uint8_t[]> pixels(new uint8_t[count]);  // exactly as large as read
  for (int64_t i = 0; i < count; ++i) pixels[i] = below(256);
  const int64_t means = params.mean_kind == MeanKind::kImage ? count : channels;
  const std::unique_ptr<float[]> mean(new float[means]);
  for (int64_t i = 0; i < means; ++i) mean[i] = below(25600) / 100.0f;
  params.mean = mean.get();
  const ImageView image{.data = pixels.get(),
                        .channels = channels,
                        .height = rows,
                        .width = columns,
                        .channel_stride = rows * columns,
                        .row_stride = columns,
                        .column_stride = 1};
  const CropWindow crop{below(rows - params.height + 1), below(columns - params.width + 1),
                        below(2) == 1};

  const int64_t values = channels * params.height * params.width, lead = below(32);
  const std::unique_ptr<float[]> out(new float[lead + values + 16]);
  for (int64_t i = 0; i < lead + values + 16; ++i) out[i] = -1e30f;
  stream_image(image, crop, params, out.get() + lead);
  for (int64_t i = 0; i < lead + values + 16; ++i) {
    const int64_t at = i - lead, w = at % params.width, h = at / params.width % params.height;
    const bool inside = at >= 0 && at < values;
    const float wanted =
        inside ? expected(image, crop, params, at / (params.width * params.height), h, w) : -1e30f;
    if (out[i] != wanted) {
      std::printf("value %ld of %ld, width %ld, %ld before: %g, expected %g\n", long(at),
                  long(values), long(params.width), long(lead), out[i], wanted);
      return false;
    }
  }
  return true;
}

}  // namespace

int main() {
  bool good = true;
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  for (int i = 0; i < 2000 && good && has_avx2; ++i) good = check(stream_image_avx2);
  const bool has_avx512 = __builtin_cpu_supports("avx512f");
  for (int i = 0; i < 2000 && good && has_avx512; ++i) good = check(stream_image_avx512);
  std::printf("AVX2 %s, AVX-512 %s\n", has_avx2 ? "ran" : "absent", has_avx512 ? "ran" : "absent");
  return good ? 0 : 1;
}
