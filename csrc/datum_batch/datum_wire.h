// The wire format of Caffe's Datum, read without copies.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace caffe_compat {

struct DatumView {
  int32_t channels = 0, height = 0, width = 0, label = 0;
  bool encoded = false;
  const uint8_t* data = nullptr;
  int64_t data_size = 0;
  // float_data: values float_stride bytes apart, 5 where each has a tag of its own, 4 where the
  // field is packed.
  const uint8_t* floats = nullptr;
  int64_t float_count = 0, float_stride = 0;
  std::vector<float> gathered_floats;  // holds the values when they lie in several pieces
};

// Parses `size` bytes, which may be anything; returns an error text, empty when all is well.  The
// view points into `bytes`.
std::string parse_datum(const uint8_t* bytes, int64_t size, DatumView* datum);

}  // namespace caffe_compat
