// The Mersenne Twister MT19937 of Matsumoto and Nishimura (1998), the engine behind Caffe's CPU
// stream.
#pragma once

#include <array>
#include <cstdint>

namespace caffe_compat {

class Mt19937 {
 public:
  static constexpr uint32_t kWords = 624;

  explicit Mt19937(uint32_t seed) {
    words_[0] = seed;
    for (uint32_t i = 1; i < kWords; ++i) {
      words_[i] = 1812433253u * (words_[i - 1] ^ (words_[i - 1] >> 30)) + i;
    }
  }

  // The next 32 random bits.
  uint32_t operator()() {
    if (position_ == kWords) twist();
    uint32_t bits = words_[position_++];
    bits ^= bits >> 11;
    bits ^= (bits << 7) & 0x9d2c5680u;
    bits ^= (bits << 15) & 0xefc60000u;
    return bits ^ (bits >> 18);
  }

  const std::array<uint32_t, kWords>& words() const { return words_; }
  uint32_t position() const { return position_; }

  // Continue from the words() and position() (at most kWords) of another engine.
  void restore(const std::array<uint32_t, kWords>& words, uint32_t position) {
    words_ = words;
    position_ = position;
  }

 private:
  void twist() {
    constexpr uint32_t kShift = 397;
    auto mix = [](uint32_t high, uint32_t low) {
      const uint32_t joined = (high & 0x80000000u) | (low & 0x7fffffffu);
      return (joined >> 1) ^ ((low & 1u) ? 0x9908b0dfu : 0u);
    };
    uint32_t i = 0;
    for (; i < kWords - kShift; ++i) words_[i] = words_[i + kShift] ^ mix(words_[i], words_[i + 1]);
    for (; i < kWords - 1; ++i)
      words_[i] = words_[i + kShift - kWords] ^ mix(words_[i], words_[i + 1]);
    words_[i] = words_[kShift - 1] ^ mix(words_[i], words_[0]);
    position_ = 0;
  }

  std::array<uint32_t, kWords> words_;
  uint32_t position_ = kWords;
};

}  // namespace caffe_compat
