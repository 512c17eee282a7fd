// Python's face of CaffeRandom; caffe_compat/random.py checks the arguments and wraps it.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <mutex>

#include "random/caffe_random.h"

namespace py = pybind11;

namespace caffe_compat {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// A CaffeRandom that several Python threads may use; long fills let the others run.
class SharedRandom {
 public:
  explicit SharedRandom(uint32_t seed) : random_(seed) {}

  template <class T, class Draw>
  void fill(Array<T>& out, Draw draw) {
    T* data = out.mutable_data();  // raises on a read-only array
    const int64_t count = out.size();
    use([&](CaffeRandom& random) { draw(random, data, count); });
  }

  template <class Action>
  auto use(Action action) {
    py::gil_scoped_release release;
    const std::lock_guard<std::mutex> lock(mutex_);
    return action(random_);
  }

 private:
  std::mutex mutex_;
  CaffeRandom random_;
};

template <class Real>
void bind_fills(py::class_<SharedRandom>& type) {
  type.def(
      "fill_uniform",
      [](SharedRandom& self, Array<Real> out, Real low, Real high) {
        self.fill(out, [=](CaffeRandom& random, Real* data, int64_t count) {
          random.fill_uniform(data, count, low, high);
        });
      },
      py::arg("out").noconvert(), py::arg("low"), py::arg("high"));
  type.def(
      "fill_gaussian",
      [](SharedRandom& self, Array<Real> out, Real mean, Real std) {
        self.fill(out, [=](CaffeRandom& random, Real* data, int64_t count) {
          random.fill_gaussian(data, count, mean, std);
        });
      },
      py::arg("out").noconvert(), py::arg("mean"), py::arg("std"));
}

template <class Real>
void fill_bernoulli(SharedRandom& self, Array<int32_t> out, Real probability) {
  self.fill(out, [=](CaffeRandom& random, int32_t* data, int64_t count) {
    random.fill_bernoulli(data, count, probability);
  });
}

}  // namespace
}  // namespace caffe_compat

void bind_random(py::module_& module) {
  using namespace caffe_compat;
  py::class_<SharedRandom> type(module, "CaffeRandom");
  type.def(py::init<uint32_t>(), py::arg("seed"));
  type.def("raw", [](SharedRandom& self) {
    return self.use([](CaffeRandom& random) { return random.raw(); });
  });
  type.def(
      "fill_raw",
      [](SharedRandom& self, Array<uint32_t> out) {
        self.fill(out, [](CaffeRandom& random, uint32_t* data, int64_t count) {
          std::generate_n(data, count, [&] { return random.raw(); });
        });
      },
      py::arg("out").noconvert());
  bind_fills<float>(type);
  bind_fills<double>(type);
  type.def("fill_bernoulli_float", &fill_bernoulli<float>, py::arg("out").noconvert(),
           py::arg("probability"));
  type.def("fill_bernoulli_double", &fill_bernoulli<double>, py::arg("out").noconvert(),
           py::arg("probability"));
  type.def(
      "shuffle",
      [](SharedRandom& self, Array<int64_t> items) {
        self.fill(items, [](CaffeRandom& random, int64_t* data, int64_t count) {
          random.shuffle(data, count);
        });
      },
      py::arg("items").noconvert());
  type.def("state", [](SharedRandom& self) {
    return py::bytes(self.use([](CaffeRandom& random) { return random.state(); }));
  });
  type.def("restore", [](SharedRandom& self, const py::bytes& state) {
    const std::string bytes = state;
    return self.use([&](CaffeRandom& random) { return random.restore(bytes); });
  });
}
