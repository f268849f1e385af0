#include "engine/run/recorded_tokens.h"

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

Ids ids_of(const std::vector<TokenInput>& tokens) {
  Ids ids;
  for (const TokenInput& t : tokens) ids.push_back(t.id);
  return ids;
}

TEST(RecordedTokens, FollowAPromptAndWhatWasGeneratedAfterIt) {
  RecordedTokens tokens(tokens_of(0, 10, 6), {}, 100);
  EXPECT_EQ(ids_of(tokens.of(step(0, 0, 3))), (Ids{10, 11, 12}));
  EXPECT_EQ(ids_of(tokens.of(step(0, 3, 1))), (Ids{13}));
  EXPECT_EQ(ids_of(tokens.of(step(0, 4, 1))), (Ids{14}));
}

TEST(RecordedTokens, OfAContextRebuiltFromItsLastHalf) {
  RecordedTokens tokens(tokens_of(0, 10, 12), {}, 8);
  tokens.of(step(0, 0, 6));
  tokens.of(step(0, 6, 1));
  EXPECT_EQ(ids_of(tokens.of(step(0, 7, 1))), (Ids{17}));
  EXPECT_EQ(ids_of(tokens.of(step(0, 0, 3))), (Ids{14, 15, 16})) << "the last half, in chunks";
  EXPECT_EQ(ids_of(tokens.of(step(0, 3, 1))), (Ids{17}));
  EXPECT_EQ(ids_of(tokens.of(step(0, 4, 1))), (Ids{18})) << "and on";
}

TEST(RecordedTokens, OfEachPromptOnItsOwnAndZeroWhereNothingWasRecorded) {
  std::vector<TokenRecord> tokens = tokens_of(0, 10, 2);
  for (const TokenRecord& t : tokens_of(2, 50, 3)) tokens.push_back(t);
  RecordedTokens recorded(tokens, {}, 8);
  EXPECT_EQ(ids_of(recorded.of(step(2, 0, 2))), (Ids{50, 51}));
  EXPECT_EQ(ids_of(recorded.of(step(0, 0, 3))), (Ids{10, 11, 0}));
  EXPECT_EQ(ids_of(recorded.of(step(1, 0, 1))), (Ids{0}));
}

TEST(RecordedTokens, OfSeveralPromptsInOneStepAreOneEachOfThoseThatItSampledFor) {
  std::vector<TokenRecord> tokens = tokens_of(0, 10, 3);
  for (const TokenRecord& t : tokens_of(1, 50, 2)) tokens.push_back(t);
  const auto generated = [&](std::uint32_t at_step, std::uint32_t prompt, std::int32_t id) {
    tokens.push_back({.step = at_step, .prompt = prompt, .id = id, .generated = true});
  };
  generated(0, 0, 13);
  generated(1, 1, 52);
  generated(2, 0, 14);
  generated(2, 1, 53);
  generated(3, 1, 54);
  const std::vector<PromptRecord> prompts = {{.prompt = 0, .workload = "", .text = "", .sequence = 0},
                                             {.prompt = 1, .workload = "", .text = "", .sequence = 1}};
  RecordedTokens recorded(tokens, prompts, 100);
  recorded.of({.step = 0, .prompt = 0, .tokens = 3});
  recorded.of({.step = 1, .prompt = 1, .tokens = 2});
  const std::vector<TokenInput> both = recorded.of({.step = 2, .prompt = kSeveralPrompts, .tokens = 2, .logits = 2});
  EXPECT_EQ(ids_of(both), (Ids{13, 52}));
  EXPECT_EQ(both[0].position, 3);
  EXPECT_EQ(both[1].position, 2);
  EXPECT_EQ(both[0].sequence, 0);
  EXPECT_EQ(both[1].sequence, 1);
  EXPECT_TRUE(both[0].wants_logits && both[1].wants_logits);
  const std::vector<TokenInput> one = recorded.of({.step = 3, .prompt = 1, .first_position = 3, .tokens = 1});
  EXPECT_EQ(ids_of(one), Ids{53}) << "the other has left";
}

}  // namespace
}  // namespace expertscope
