// Prints boost_1_74.txt: what Boost 1.74 draws the way Caffe uses it, as CRC-32 of the raw bytes.
//   apt-get install libboost-dev && g++ -O2 make_boost.cpp -o /tmp/make_boost && /tmp/make_boost >
//   boost_1_74.txt
#include <algorithm>
#include <boost/math/special_functions/next.hpp>
#include <boost/random.hpp>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

const int kCount = 200000;  // enough for about 100 draws from the normal's tail

template <class T>
void print(const char* name, const std::vector<T>& values) {
  uint32_t crc = 0xffffffffu;
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (size_t i = 0; i < values.size() * sizeof(T); ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  printf("%s %08x\n", name, ~crc);
}

template <class T, class Distribution>
void draw(const char* name, unsigned seed, Distribution distribution) {
  boost::mt19937 engine(seed);
  boost::variate_generator<boost::mt19937*, Distribution> generator(&engine, distribution);
  std::vector<T> values(kCount);
  for (T& value : values) value = generator();
  print(name, values);
}

template <class Real>
Real next(Real value) {
  return boost::math::nextafter(value, std::numeric_limits<Real>::max());
}

int main() {
  draw<uint32_t>("raw", 5489, boost::uniform_int<uint32_t>(0, 0xffffffffu));
  draw<float>("uniform_float", 1, boost::uniform_real<float>(-0.3f, next(0.7f)));
  draw<double>("uniform_double", 1, boost::uniform_real<double>(-0.3, next(0.7)));
  draw<float>("gaussian_float", 2, boost::normal_distribution<float>(0.5f, 0.01f));
  draw<double>("gaussian_double", 2, boost::normal_distribution<double>(0.5, 0.01));
  draw<int>("bernoulli_float", 3, boost::bernoulli_distribution<float>(0.3f));
  draw<int>("bernoulli_double", 3, boost::bernoulli_distribution<double>(0.3));

  boost::mt19937 engine(4);
  std::vector<int64_t> order(kCount);
  for (int64_t i = 0; i < kCount; ++i) order[i] = i;
  for (int64_t i = kCount - 1; i > 0; --i) {
    std::swap(order[i], order[boost::uniform_int<int64_t>(0, i)(engine)]);
  }
  print("shuffle", order);
}
