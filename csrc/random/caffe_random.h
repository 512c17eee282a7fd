// Caffe's CPU random stream: MT19937 read through the distributions of Boost 1.74, number for
// number.
//
// Caffe builds each distribution anew around one engine, so the engine is all the state there is.
// `Real` is the type that the numbers are made in (float for a float net): it decides how many
// draws a number takes and how it is rounded.
#pragma once

#include <cstdint>
#include <string>

#include "random/mt19937.h"

namespace caffe_compat {

class CaffeRandom {
 public:
  explicit CaffeRandom(uint32_t seed) : engine_(seed) {}

  uint32_t raw() { return engine_(); }

  // low <= value <= high
  template <class Real>
  void fill_uniform(Real* out, int64_t count, Real low, Real high);

  template <class Real>
  void fill_gaussian(Real* out, int64_t count, Real mean, Real std);

  // 1 with `probability`, else 0.  No draw is made when the probability is 0.
  template <class Real>
  void fill_bernoulli(int32_t* out, int64_t count, Real probability);

  // Reorders `items` as Caffe's shuffle does; count < 2^32.
  void shuffle(int64_t* items, int64_t count);

  // 2500 bytes: the engine's words and its position, little-endian.
  std::string state() const;
  // False, and no change, when `bytes` is no such state.
  bool restore(const std::string& bytes);

 private:
  Mt19937 engine_;
};

}  // namespace caffe_compat
