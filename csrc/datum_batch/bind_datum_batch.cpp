// caffe_compat._C.ImageBatch: turns many serialized Datums, or decoded images, into one array.  The
// work runs without the interpreter's lock, in threads of its own.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "batch_transform/image_transform.h"
#include "datum_batch/datum_wire.h"

namespace py = pybind11;

namespace caffe_compat {
namespace {

// What an item of a batch holds; the numbers are those of headers().
enum Kind : int32_t { kEmpty, kBytes, kFloats, kEncoded, kBad };

using FloatArray = py::array_t<float, py::array::c_style>;
using ByteArray = py::array_t<uint8_t, py::array::c_style>;
using IntArray = py::array_t<int32_t, py::array::c_style>;

class ImageBatch {
 public:
  // Parses records, each an object with the buffer protocol (kept alive as long as this batch).
  ImageBatch(const py::list& records, int64_t threads)
      : ImageBatch(static_cast<int64_t>(records.size())) {
    buffers_.resize(records.size());
    for (size_t i = 0; i < records.size(); ++i) {
      if (PyObject_GetBuffer(records[i].ptr(), &buffers_[i], PyBUF_SIMPLE) != 0) {
        buffers_.resize(i);
        release_buffers();  // a constructor that throws has no destructor
        throw py::error_already_set();
      }
    }
    const py::gil_scoped_release released;
    run_parallel(size(), parser_threads(threads), [this](int64_t i) { parse(i); });
  }

  // Places for `count` images, to be filled with set_image.
  explicit ImageBatch(int64_t count) : items_(count) {}

  ImageBatch(const ImageBatch&) = delete;
  ImageBatch& operator=(const ImageBatch&) = delete;
  ~ImageBatch() { release_buffers(); }

  int64_t size() const { return static_cast<int64_t>(items_.size()); }

  // int32 [count][5]: kind, channels, height, width, label.
  IntArray headers() const {
    IntArray result({size(), int64_t{5}});
    auto out = result.mutable_unchecked<2>();
    for (int64_t i = 0; i < size(); ++i) {
      const Item& item = items_[i];
      const int32_t row[] = {item.kind, static_cast<int32_t>(item.image.channels),
                             static_cast<int32_t>(item.image.height),
                             static_cast<int32_t>(item.image.width), item.label};
      for (int k = 0; k < 5; ++k) out(i, k) = row[k];
    }
    return result;
  }

  // int64 [count]: how many values each raw record holds; whether they are those of its sizes is
  // asked in datum.py.
  py::array_t<int64_t> value_counts() const {
    py::array_t<int64_t> result(size());
    auto out = result.mutable_unchecked<1>();
    for (int64_t i = 0; i < size(); ++i) out(i) = items_[i].values;
    return result;
  }

  std::string error(int64_t i) const { return items_.at(i).error; }

  py::memoryview encoded(int64_t i) const {
    const DatumView& datum = items_.at(i).datum;
    return py::memoryview::from_memory(datum.data, datum.data_size);
  }

  // Puts a decoded image, uint8 [channels][height][width] with any strides, in place i.
  void set_image(int64_t i, const py::array_t<uint8_t>& image) {
    if (image.ndim() != 3) throw py::value_error("set_image: expected (channels, height, width)");
    Item& item = items_.at(i);
    item.owner = image;
    item.kind = kBytes;
    item.image = {.data = image.data(),
                  .channels = image.shape(0),
                  .height = image.shape(1),
                  .width = image.shape(2),
                  .channel_stride = image.strides(0),
                  .row_stride = image.strides(1),
                  .column_stride = image.strides(2),
                  .is_float = false};
  }

  // out: float32 [count][channels][height][width]; windows: int32 [count][3] of top, left, mirror;
  // mean: none, [channels] or [channels][image height][image width].
  void transform(FloatArray out, const IntArray& windows, const py::object& mean, float scale,
                 int64_t threads) {
    if (out.ndim() != 4 || out.shape(0) != size())
      throw py::value_error("transform: out has the wrong shape");
    if (windows.ndim() != 2 || windows.shape(0) != size() || windows.shape(1) != 3) {
      throw py::value_error("transform: expected windows of int32 [count, 3]");
    }
    TransformParams params;
    params.scale = scale;
    params.height = out.shape(2);
    params.width = out.shape(3);
    params.stream = out.nbytes() > kStreamThreshold;
    FloatArray mean_values;
    if (!mean.is_none()) {
      mean_values = py::cast<FloatArray>(mean);
      params.mean = mean_values.data();
      params.mean_kind = mean_values.ndim() == 1 ? MeanKind::kPerChannel : MeanKind::kImage;
    }
    const int64_t channels = out.shape(1), one = channels * params.height * params.width;
    const int32_t* crop = windows.data();  // top, left, mirror of each image
    for (int64_t i = 0; i < size(); ++i) check(i, crop + 3 * i, channels, mean_values, params);
    float* result = out.mutable_data();
    const py::gil_scoped_release released;
    run_parallel(size(), threads, [&](int64_t i) {
      transform_image(items_[i].image, {crop[3 * i], crop[3 * i + 1], crop[3 * i + 2] != 0}, params,
                      result + i * one);
    });
  }

  // out: uint8 [count][channels][height][width], the size of every image.
  void copy_bytes(ByteArray out, int64_t threads) {
    if (out.ndim() != 4 || out.shape(0) != size())
      throw py::value_error("copy_bytes: out has the wrong shape");
    for (const Item& item : items_) {
      if (item.image.data == nullptr || item.kind != kBytes ||
          item.image.channels != out.shape(1) || item.image.height != out.shape(2) ||
          item.image.width != out.shape(3)) {
        throw py::value_error("copy_bytes: an image is of another size than out, or not of bytes");
      }
    }
    const int64_t one = out.shape(1) * out.shape(2) * out.shape(3);
    uint8_t* result = out.mutable_data();
    const py::gil_scoped_release released;
    run_parallel(size(), threads,
                 [&](int64_t i) { copy_image(items_[i].image, result + i * one); });
  }

  // total (float32 [channels][height][width]) += every image, in order.
  void add_to(FloatArray total, int64_t threads) {
    if (total.ndim() != 3) throw py::value_error("add_to: expected (channels, height, width)");
    for (const Item& item : items_) {
      if (item.image.data == nullptr || item.image.channels != total.shape(0) ||
          item.image.height != total.shape(1) || item.image.width != total.shape(2)) {
        throw py::value_error("add_to: an image is of another size than the total");
      }
    }
    float* sums = total.mutable_data();
    // A slice of the sums stays in the L1 or L2 cache while all images are added to it.
    const int64_t values = total.size(), slice = 16384;
    const py::gil_scoped_release released;
    run_parallel((values + slice - 1) / slice, threads, [&](int64_t s) {
      const int64_t begin = s * slice, end = std::min(values, begin + slice);
      for (const Item& item : items_) add_image(item.image, begin, end, sums);
    });
  }

 private:
  struct Item {
    Kind kind = kEmpty;
    int32_t label = 0;
    int64_t values = 0;
    DatumView datum;
    ImageView image;
    std::string error;
    py::object owner;
  };

  // Parsing a record takes so little time that a thread is worth starting for some hundred only.
  int64_t parser_threads(int64_t threads) const { return std::min(threads, size() / 256 + 1); }

  void parse(int64_t i) {
    Item& item = items_[i];
    DatumView& datum = item.datum;
    item.error = parse_datum(static_cast<const uint8_t*>(buffers_[i].buf), buffers_[i].len, &datum);
    item.label = datum.label;
    const bool is_float = datum.data_size == 0;
    item.kind = !item.error.empty() ? kBad : datum.encoded ? kEncoded : is_float ? kFloats : kBytes;
    if (item.kind == kBad || item.kind == kEncoded) return;

    const int64_t channels = datum.channels, height = datum.height, width = datum.width;
    item.values = is_float ? datum.float_count : datum.data_size;
    item.image.channels = channels;
    item.image.height = height;
    item.image.width = width;
    item.image.is_float = is_float;
    // No read may leave the record: without values for every place the image stays without data.
    // The products cannot overflow: each is compared before the next.
    const int64_t values = item.values;
    const bool has_sizes =
        channels > 0 && height > 0 && width > 0 && channels <= values && height <= values;
    if (!has_sizes || channels * height > values || width > values / (channels * height)) return;
    const int64_t step = is_float ? datum.float_stride : 1;
    item.image.data = is_float ? datum.floats : datum.data;
    item.image.channel_stride = height * width * step;
    item.image.row_stride = width * step;
    item.image.column_stride = step;
  }

  void check(int64_t i, const int32_t* place, int64_t channels, const FloatArray& mean,
             const TransformParams& params) const {
    const ImageView& image = items_[i].image;
    if (image.data == nullptr) {
      throw py::value_error("transform: place " + std::to_string(i) + " has no image");
    }
    if (image.channels != channels || place[0] < 0 || place[1] < 0 ||
        place[0] + params.height > image.height || place[1] + params.width > image.width) {
      throw py::value_error("transform: window " + std::to_string(i) +
                            " leaves its image, or the channels differ");
    }
    const bool fits = params.mean_kind == MeanKind::kNone ||
                      (mean.ndim() == 1 && mean.shape(0) == channels) ||
                      (mean.ndim() == 3 && mean.shape(0) == channels &&
                       mean.shape(1) == image.height && mean.shape(2) == image.width);
    if (!fits)
      throw py::value_error("transform: the mean is of another size than image " +
                            std::to_string(i));
  }

  void release_buffers() {
    for (Py_buffer& buffer : buffers_) PyBuffer_Release(&buffer);
    buffers_.clear();
  }

  std::vector<Item> items_;
  std::vector<Py_buffer> buffers_;
};

}  // namespace
}  // namespace caffe_compat

void bind_datum_batch(py::module_& m) {
  using caffe_compat::ImageBatch;
  py::class_<ImageBatch>(m, "ImageBatch",
                         "Serialized Datums or decoded images on their way into one array.")
      .def(py::init<const py::list&, int64_t>(), py::arg("records"), py::arg("threads"))
      .def(py::init<int64_t>(), py::arg("count"))
      .def("__len__", &ImageBatch::size)
      .def("headers", &ImageBatch::headers,
           "int32 [count, 5]: kind, channels, height, width, label")
      .def("value_counts", &ImageBatch::value_counts,
           "int64 [count]: how many values each raw record holds")
      .def("error", &ImageBatch::error, py::arg("index"))
      .def("encoded", &ImageBatch::encoded, py::arg("index"), py::keep_alive<0, 1>())
      .def("set_image", &ImageBatch::set_image, py::arg("index"), py::arg("image"))
      .def("transform", &ImageBatch::transform, py::arg("out").noconvert(), py::arg("windows"),
           py::arg("mean"), py::arg("scale"), py::arg("threads"))
      .def("copy_bytes", &ImageBatch::copy_bytes, py::arg("out").noconvert(), py::arg("threads"))
      .def("add_to", &ImageBatch::add_to, py::arg("total").noconvert(), py::arg("threads"));
}
