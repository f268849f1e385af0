// Random numbers that are a function of a key and a counter, so that any part of a file can be made on any thread.
#pragma once

#include <cstdint>

namespace expertscope {

// A bijection of 64 bits whose outputs for neighbours have nothing in common (the finaliser of splitmix64).
constexpr std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

class CounterRandom {
 public:
  // Keys of different parts are independent streams.
  CounterRandom(std::uint64_t seed, std::uint64_t part, std::uint64_t item = 0)
      : key_(mix64(mix64(mix64(seed) + part) + item)) {}

  std::uint64_t at(std::uint64_t counter) const { return mix64(key_ + (counter + 1) * 0x9E3779B97F4A7C15u); }
  // Below n, for n far below 2^32.
  std::uint32_t below(std::uint32_t n, std::uint64_t counter) const {
    return static_cast<std::uint32_t>(((at(counter) >> 32) * n) >> 32);
  }

 private:
  std::uint64_t key_;
};

}  // namespace expertscope
