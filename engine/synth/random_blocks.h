// Random weights written as the blocks of a file's type, without a quantiser: random quants, and scales that give the
// dequantised values mean 0 and the wanted standard deviation. Gigabytes a second on a core.
// Immutable; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/tensor_type.h"
#include "engine/synth/random.h"

namespace expertscope {

class RandomBlocks {
 public:
  // `type` is any but F32. `random` is this tensor's own stream.
  RandomBlocks(TensorType type, double standard_deviation, CounterRandom random);

  // Parts of a tensor begin and end at multiples of so many values: whole blocks, and whole draws of 64 bits.
  static constexpr std::int64_t kGrain = 2048;
  // The bytes of a tensor from value `first` on; both ends at multiples of kGrain.
  void fill(std::int64_t first, std::span<std::byte> out) const;

 private:
  // Scales vary from block to block, so that a kernel that takes another block's scale is found out.
  static constexpr int kScales = 8;

  void fill_plain(std::int64_t first, std::span<std::byte> out) const;
  void set_scales(std::span<std::byte> blocks) const;

  TensorType type_;
  CounterRandom random_;
  std::array<std::uint16_t, kScales> scale_{}, min_scale_{};  // float16
  std::vector<std::uint16_t> values_;                         // of the types without blocks: all that occur
};

// Bits of the nearest float16.
std::uint16_t to_float16(float);

}  // namespace expertscope
