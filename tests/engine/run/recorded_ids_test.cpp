#include "engine/run/recorded_ids.h"

#include <gtest/gtest.h>

namespace expertscope {
namespace {

using Ids = std::vector<std::int32_t>;

StepRecord step(std::uint32_t prompt, std::uint32_t first_position, std::uint16_t tokens) {
  return {.prompt = prompt, .first_position = first_position, .tokens = tokens};
}

std::vector<TokenRecord> tokens_of(std::uint32_t prompt, std::int32_t first, int count) {
  std::vector<TokenRecord> out;
  for (int i = 0; i < count; ++i) out.push_back({.prompt = prompt, .id = first + i});
  return out;
}

TEST(RecordedIds, FollowAPromptAndWhatWasGeneratedAfterIt) {
  RecordedIds ids(tokens_of(0, 10, 6), 100);
  EXPECT_EQ(ids.of(step(0, 0, 3)), (Ids{10, 11, 12}));
  EXPECT_EQ(ids.of(step(0, 3, 1)), (Ids{13}));
  EXPECT_EQ(ids.of(step(0, 4, 1)), (Ids{14}));
}

TEST(RecordedIds, OfAContextRebuiltFromItsLastHalf) {
  RecordedIds ids(tokens_of(0, 10, 12), 8);
  ids.of(step(0, 0, 6));
  ids.of(step(0, 6, 1));
  EXPECT_EQ(ids.of(step(0, 7, 1)), (Ids{17}));
  EXPECT_EQ(ids.of(step(0, 0, 3)), (Ids{14, 15, 16})) << "the last half, in chunks";
  EXPECT_EQ(ids.of(step(0, 3, 1)), (Ids{17}));
  EXPECT_EQ(ids.of(step(0, 4, 1)), (Ids{18})) << "and on";
}

TEST(RecordedIds, OfEachPromptOnItsOwnAndZeroWhereNothingWasRecorded) {
  std::vector<TokenRecord> tokens = tokens_of(0, 10, 2);
  for (const TokenRecord& t : tokens_of(2, 50, 3)) tokens.push_back(t);
  RecordedIds ids(tokens, 8);
  EXPECT_EQ(ids.of(step(2, 0, 2)), (Ids{50, 51}));
  EXPECT_EQ(ids.of(step(0, 0, 3)), (Ids{10, 11, 0}));
  EXPECT_EQ(ids.of(step(1, 0, 1)), (Ids{0}));
}

}  // namespace
}  // namespace expertscope
