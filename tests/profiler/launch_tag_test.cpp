// The 64 bits that a tracer keeps of a launch say everything that the engine said.
#include <set>

#include <gtest/gtest.h>

#include "engine/observer.h"

namespace expertscope {
namespace {

std::vector<LaunchTag> all_kinds_of_tags() {
  std::vector<LaunchTag> tags;
  for (const std::uint32_t step : {0u, 1u, 0x12345678u, 0xffffffffu}) {
    for (const std::uint16_t layer : {std::uint16_t{0}, std::uint16_t{47}, std::uint16_t{2046}, kNone16}) {
      for (const std::uint16_t expert : {std::uint16_t{0}, std::uint16_t{127}, std::uint16_t{2046}, kNone16}) {
        for (int kind = 0; kind < kWorkKinds; ++kind)
          tags.push_back({.step = step, .layer = layer, .expert = expert, .kind = static_cast<WorkKind>(kind)});
        for (int reason = 0; reason < kCopyReasons; ++reason) {
          tags.push_back({.step = step,
                          .layer = layer,
                          .expert = expert,
                          .is_copy = true,
                          .reason = static_cast<CopyReason>(reason)});
        }
      }
    }
  }
  return tags;
}

TEST(LaunchTag, ComesBackFromItsBitsForEveryKindAndReason) {
  for (const LaunchTag& tag : all_kinds_of_tags()) EXPECT_EQ(unpack_tag(pack(tag)), tag) << pack(tag);
}

TEST(LaunchTag, HasBitsOfItsOwnAndNeverZero) {
  std::set<std::uint64_t> bits;
  for (const LaunchTag& tag : all_kinds_of_tags()) {
    EXPECT_NE(pack(tag), 0u);
    EXPECT_TRUE(bits.insert(pack(tag)).second);
  }
}

}  // namespace
}  // namespace expertscope
