// setup.py turns off fused multiply-adds, which would round differently from Caffe's builds.
#include "random/caffe_random.h"

#include <cmath>
#include <limits>
#include <utility>

#include "random/ziggurat_tables.h"

namespace caffe_compat {
namespace {

constexpr uint32_t kLargestDraw = std::numeric_limits<uint32_t>::max();

// One draw as a fraction of 2^32, which a float may round up to 1.
template <class Real>
Real draw_fraction(Mt19937& engine) {
  return static_cast<Real>(engine()) * Real(0x1p-32);
}

// Uniform in [0, 1).
template <class Real>
Real draw_unit(Mt19937& engine) {
  for (;;) {
    const Real value = draw_fraction<Real>(engine);
    if (value < 1) return value;
  }
}

// Uniform in [low, end); a value that rounds to the end is drawn again.
template <class Real>
Real draw_between(Mt19937& engine, Real low, Real end) {
  // Halves where end - low would overflow.
  if (end / 2 - low / 2 > std::numeric_limits<Real>::max() / 2) {
    return 2 * draw_between<Real>(engine, low / 2, end / 2);
  }
  for (;;) {
    const Real value = draw_fraction<Real>(engine) * (end - low) + low;
    if (value < end) return value;
  }
}

// Uniform in 0..last, last < 2^32 - 1, from equal buckets of the engine's range.
uint32_t draw_index(Mt19937& engine, uint32_t last) {
  const auto bucket = static_cast<uint32_t>((uint64_t{1} << 32) / (uint64_t{last} + 1));
  for (;;) {
    const uint32_t index = engine() / bucket;
    if (index <= last) return index;
  }
}

// A fraction with a full mantissa, and 8 bits that are independent of it.
inline std::pair<float, uint32_t> draw_fraction_and_byte(Mt19937& engine, float) {
  const uint32_t bits = engine();
  return {static_cast<float>(bits >> 8) * 0x1p-24f, bits & 0xff};
}

inline std::pair<double, uint32_t> draw_fraction_and_byte(Mt19937& engine, double) {
  const uint32_t bits = engine();
  const uint32_t more = engine() & 0x1fffffff;
  return {(static_cast<double>(bits >> 8) * 0x1p-24 + more) * 0x1p-29, bits & 0xff};
}

// Whether a point of strip i, right of the strip above, lies under the density.  `x` is its
// abscissa and `part` its height as a fraction of the strip's.  A chord and a tangent decide most
// points; which of them is the upper bound depends on how the curve bends there.
template <class Real>
bool is_below_curve(Real above_chord, Real above_tangent, bool convex_above, Real y,
                    Real (*density)(Real), Real x) {
  const Real above_upper = convex_above ? above_chord : above_tangent;
  const Real above_lower = convex_above ? above_tangent : above_chord;
  return above_upper < 0 && (above_lower < 0 || y < density(x));
}

template <class Real>
Real normal_density(Real x) {
  return std::exp(-(x * x / 2));
}

template <class Real>
Real exponential_density(Real x) {
  return std::exp(-x);
}

template <class Real>
Real draw_exponential(Mt19937& engine) {
  const auto& xs = kExponentialX;
  const auto& ys = kExponentialY;
  Real shift = 0;
  for (;;) {
    const auto [fraction, i] = draw_fraction_and_byte(engine, Real());
    const Real x = fraction * Real(xs[i]);
    if (x < Real(xs[i + 1])) return shift + x;
    if (i == 0) {
      // The tail has the shape of the whole.
      shift += Real(xs[1]);
      continue;
    }
    const Real part = draw_unit<Real>(engine);
    const Real y = Real(ys[i]) + part * Real(ys[i + 1] - ys[i]);
    const Real above_chord = Real(xs[i] - xs[i + 1]) * part - (Real(xs[i]) - x);
    const Real above_tangent = y - (Real(ys[i + 1]) + (Real(xs[i + 1]) - x) * Real(ys[i + 1]));
    if (is_below_curve<Real>(above_chord, above_tangent, true, y, exponential_density, x))
      return x + shift;
  }
}

template <class Real>
Real draw_normal_tail(Mt19937& engine) {
  const Real start = Real(kNormalX[1]);
  for (;;) {
    const Real x = draw_exponential<Real>(engine) / start;
    const Real y = draw_exponential<Real>(engine);
    if (2 * y > x * x) return x + start;
  }
}

template <class Real>
Real draw_normal(Mt19937& engine) {
  const auto& xs = kNormalX;
  const auto& ys = kNormalY;
  for (;;) {
    const auto [fraction, byte] = draw_fraction_and_byte(engine, Real());
    const Real sign = (byte & 1) ? 1 : -1;
    const uint32_t i = byte >> 1;
    const Real x = fraction * Real(xs[i]);
    if (x < xs[i + 1]) return x * sign;  // compared in double, unlike the exponential
    if (i == 0) return draw_normal_tail<Real>(engine) * sign;
    const Real part = draw_unit<Real>(engine);
    const Real y = Real(ys[i]) + part * Real(ys[i + 1] - ys[i]);
    const Real above_chord = Real(xs[i] - xs[i + 1]) * part - (Real(xs[i]) - x);
    const Real above_tangent = y - (Real(ys[i]) + (Real(xs[i]) - x) * Real(ys[i]) * Real(xs[i]));
    if (is_below_curve<Real>(above_chord, above_tangent, xs[i] >= 1, y, normal_density, x))
      return x * sign;
  }
}

}  // namespace

template <class Real>
void CaffeRandom::fill_uniform(Real* out, int64_t count, Real low, Real high) {
  const Real end = std::nextafter(high, std::numeric_limits<Real>::max());
  for (int64_t i = 0; i < count; ++i) out[i] = draw_between<Real>(engine_, low, end);
}

template <class Real>
void CaffeRandom::fill_gaussian(Real* out, int64_t count, Real mean, Real std) {
  for (int64_t i = 0; i < count; ++i) out[i] = draw_normal<Real>(engine_) * std + mean;
}

template <class Real>
void CaffeRandom::fill_bernoulli(int32_t* out, int64_t count, Real probability) {
  const Real limit = probability * static_cast<Real>(kLargestDraw);
  for (int64_t i = 0; i < count; ++i) {
    out[i] = probability != 0 && static_cast<Real>(engine_()) <= limit;
  }
}

void CaffeRandom::shuffle(int64_t* items, int64_t count) {
  for (int64_t i = count - 1; i > 0; --i) {
    std::swap(items[i], items[draw_index(engine_, static_cast<uint32_t>(i))]);
  }
}

std::string CaffeRandom::state() const {
  std::string bytes;
  auto append = [&](uint32_t word) {
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(word >> shift));
  };
  for (uint32_t word : engine_.words()) append(word);
  append(engine_.position());
  return bytes;
}

bool CaffeRandom::restore(const std::string& bytes) {
  if (bytes.size() != 4 * (Mt19937::kWords + 1)) return false;
  auto word_at = [&](uint32_t index) {
    uint32_t word = 0;
    for (int k = 3; k >= 0; --k) word = word << 8 | static_cast<uint8_t>(bytes[4 * index + k]);
    return word;
  };
  const uint32_t position = word_at(Mt19937::kWords);
  if (position > Mt19937::kWords) return false;
  std::array<uint32_t, Mt19937::kWords> words;
  for (uint32_t i = 0; i < Mt19937::kWords; ++i) words[i] = word_at(i);
  engine_.restore(words, position);
  return true;
}

template void CaffeRandom::fill_uniform(float*, int64_t, float, float);
template void CaffeRandom::fill_uniform(double*, int64_t, double, double);
template void CaffeRandom::fill_gaussian(float*, int64_t, float, float);
template void CaffeRandom::fill_gaussian(double*, int64_t, double, double);
template void CaffeRandom::fill_bernoulli(int32_t*, int64_t, float);
template void CaffeRandom::fill_bernoulli(int32_t*, int64_t, double);

}  // namespace caffe_compat
