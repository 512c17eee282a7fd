// The host's twin of the instructions in common/mma.cuh, which includes it after the types: the
// same arithmetic across a warp of fibers.
#pragma once

#include <host_cuda/machine.h>

#include <cstring>
#include <type_traits>

namespace caffe_compat {

inline float round_to_tf32(float value) {
  uint32_t bits = float_bits(value);
  if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x1000u) & ~0x1fffu;
  return bits_float(bits);
}

template <typename Number>
float number_in(uint32_t word, unsigned element) {
  if constexpr (std::is_same_v<Number, Tf32>) {
    return bits_float(word & 0xffffe000u);
  } else {
    Number pair[2];
    std::memcpy(pair, &word, sizeof word);
    return static_cast<float>(pair[element]);
  }
}

template <typename Number>
FragmentC multiply_add(const FragmentA& a, const FragmentB& b, FragmentC c) {
  struct Lane {
    FragmentA a;
    FragmentB b;
  };
  host_cuda::Machine& machine = host_cuda::Machine::get();
  const auto lanes = machine.gather(Lane{a, b});
  const unsigned lane = machine.lane(), per_word = std::is_same_v<Number, Tf32> ? 1 : 2;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
    for (unsigned k = 0; k < 8 * per_word; ++k) {
      const unsigned word = k / per_word, element = k % per_word;
      c.values[i] +=
          number_in<Number>(lanes[row % 8 * 4 + word % 4]->a.words[row / 8 + 2 * (word / 4)],
                            element) *
          number_in<Number>(lanes[column * 4 + word % 4]->b.words[word / 4], element);
    }
  }
  return c;
}

// Fails where eight neighbouring lanes share banks: a right result, but a slow one.
inline void check_banks(const std::array<const char* const*, host_cuda::kWarpSize>& lanes,
                        unsigned first, const char* what) {
  unsigned banks = 0;
  for (unsigned i = 0; i < 8; ++i) {
    banks |= 1u << (reinterpret_cast<uintptr_t>(*lanes[first + i]) / 16 % 8);
  }
  if (banks != 0xff) host_cuda::fail(what);
}

inline void load_16_bytes(const char* from, uint32_t (&words)[4]) {
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0) host_cuda::fail("a misaligned 16-byte load");
  const auto lanes = host_cuda::Machine::get().gather(from);
  for (unsigned first = 0; first < 32; first += 8) {
    check_banks(lanes, first, "a 16-byte load with bank conflicts");
  }
  std::memcpy(words, from, 16);
}

inline void load_8_bytes(const char* from, uint32_t (&words)[2]) {
  if (reinterpret_cast<uintptr_t>(from) % 8 != 0) host_cuda::fail("a misaligned 8-byte load");
  const auto lanes = host_cuda::Machine::get().gather(from);
  for (unsigned first = 0; first < 32; first += 16) {
    unsigned banks = 0;
    for (unsigned i = 0; i < 16; ++i) {
      banks |= 1u << (reinterpret_cast<uintptr_t>(*lanes[first + i]) / 8 % 16);
    }
    if (banks != 0xffff) host_cuda::fail("an 8-byte load with bank conflicts");
  }
  std::memcpy(words, from, 8);
}

template <bool transposed>
void load_matrices(const char* row, uint32_t (&words)[4]) {
  host_cuda::Machine& machine = host_cuda::Machine::get();
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) host_cuda::fail("a misaligned ldmatrix");
  const auto rows = machine.gather(row);
  const unsigned lane = machine.lane();
  for (unsigned w = 0; w < 4; ++w) {
    check_banks(rows, w * 8, "an ldmatrix with bank conflicts");
    if constexpr (transposed) {
      for (unsigned half = 0; half < 2; ++half) {
        std::memcpy(reinterpret_cast<char*>(&words[w]) + 2 * half,
                    *rows[w * 8 + lane % 4 * 2 + half] + lane / 4 * 2, 2);
      }
    } else {
      std::memcpy(&words[w], *rows[w * 8 + lane / 4] + lane % 4 * 4, 4);
    }
  }
}

}  // namespace caffe_compat
