// Reads a Datum message field by field; later values of a field replace earlier ones, as protobuf
// has it, and unknown fields are passed over.

#include "datum_batch/datum_wire.h"

#include <cstring>

namespace caffe_compat {
namespace {

enum Field : uint64_t { kChannels = 1, kHeight, kWidth, kData, kLabel, kFloatData, kEncoded };
enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
constexpr uint8_t kFloatTag = kFloatData << 3 | kFixed32;
constexpr int64_t kTaggedFloatBytes = 5;  // a tag byte and four bytes of value

struct Reader {
  const uint8_t* position;
  const uint8_t* end;

  bool read_varint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 70 && position < end; shift += 7) {
      const uint8_t byte = *position++;
      if (shift < 64) *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
};

// Values at `values`, `stride` bytes apart: as they are where they are the first, else all are
// copied into gathered_floats.
void append_floats(const uint8_t* values, int64_t count, int64_t stride, DatumView* datum) {
  if (datum->float_count == 0) {
    datum->floats = values;
    datum->float_count = count;
    datum->float_stride = stride;
    return;
  }
  auto gather = [datum](const uint8_t* from, int64_t many, int64_t apart) {
    for (int64_t i = 0; i < many; ++i) {
      float value;
      std::memcpy(&value, from + i * apart, sizeof value);
      datum->gathered_floats.push_back(value);
    }
  };
  if (datum->gathered_floats.empty())
    gather(datum->floats, datum->float_count, datum->float_stride);
  gather(values, count, stride);
  datum->floats = reinterpret_cast<const uint8_t*>(datum->gathered_floats.data());
  datum->float_count = datum->gathered_floats.size();
  datum->float_stride = sizeof(float);
}

void set_integer(uint64_t field, uint64_t value, DatumView* datum) {
  switch (field) {
    case kChannels:
      datum->channels = static_cast<int32_t>(value);
      break;
    case kHeight:
      datum->height = static_cast<int32_t>(value);
      break;
    case kWidth:
      datum->width = static_cast<int32_t>(value);
      break;
    case kLabel:
      datum->label = static_cast<int32_t>(value);
      break;
    case kEncoded:
      datum->encoded = value != 0;
      break;
    default:
      break;
  }
}

}  // namespace

std::string parse_datum(const uint8_t* bytes, int64_t size, DatumView* datum) {
  const char* cut = "record ends inside a field; not a Datum, or cut short";
  Reader reader{bytes, bytes + size};
  while (reader.position < reader.end) {
    if (*reader.position == kFloatTag) {
      const uint8_t* first = reader.position;
      while (reader.end - reader.position >= kTaggedFloatBytes && *reader.position == kFloatTag)
        reader.position += kTaggedFloatBytes;
      if (reader.position == first) return cut;
      append_floats(first + 1, (reader.position - first) / kTaggedFloatBytes, kTaggedFloatBytes,
                    datum);
      continue;
    }
    uint64_t tag, value;
    if (!reader.read_varint(&tag)) return cut;
    const uint64_t field = tag >> 3, type = tag & 7;
    if (field == 0) return cut;
    if (type == kVarint) {
      if (!reader.read_varint(&value)) return cut;
      set_integer(field, value, datum);
    } else if (type == kBytes) {
      if (!reader.read_varint(&value)) return cut;
      const int64_t left = reader.end - reader.position;
      if (value > static_cast<uint64_t>(left)) {
        return "record ends inside field " + std::to_string(field) + ": " + std::to_string(left) +
               " of " + std::to_string(value) + " bytes";
      }
      if (field == kData) {
        datum->data = reader.position;
        datum->data_size = static_cast<int64_t>(value);
      } else if (field == kFloatData) {
        append_floats(reader.position, static_cast<int64_t>(value) / 4, 4, datum);
      }
      reader.position += value;
    } else if (type == kFixed32 || type == kFixed64) {
      const int64_t width = type == kFixed32 ? 4 : 8;
      if (reader.end - reader.position < width) return cut;
      reader.position += width;
    } else {
      return "field " + std::to_string(field) + " of wire type " + std::to_string(type) +
             "; not a Datum";
    }
  }
  return "";
}

}  // namespace caffe_compat
