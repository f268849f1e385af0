// Sequences that share a step, caches that grow, and the pieces a machine calls one by one.
#include "engine/model/arithmetic.h"

#include <gtest/gtest.h>

#include "tests/engine/model/demo_model.h"
#include "tests/engine/model/forward_pass.h"
#include "tests/engine/model/gguf_writer.h"

namespace expertscope {
namespace {

std::vector<float> copy(std::span<const float> values) {
  return {values.begin(), values.end()};
}

TEST(Arithmetic, KeepsSequencesOfOneStepApart) {
  ThreadPool pool(2);
  ModelSteps both(demo_model(), pool, 16, 2), alone(demo_model(), pool);
  both.step(std::vector<TokenInput>{
      {1, 0, 0, false}, {1, 1, 0, false}, {500, 0, 1, true}, {700, 1, 1, false}, {9, 1, 2, true}});
  alone.step(std::vector<std::int32_t>{1, 500});
  EXPECT_EQ(copy(both.arithmetic().logits(2)), copy(alone.logits()));
  alone.arithmetic().reset_sequence(0);
  alone.step(std::vector<std::int32_t>{1, 700, 9});
  EXPECT_EQ(copy(both.arithmetic().logits(4)), copy(alone.logits()));
  EXPECT_EQ(both.arithmetic().sequence_length(1), 3);
}

TEST(Arithmetic, ForgetsASequenceOnReset) {
  ThreadPool pool(1);
  ModelSteps forward(demo_model(), pool);
  forward.step(std::vector<std::int32_t>{1, 500});
  const std::vector<float> first = copy(forward.logits());
  forward.step(std::vector<std::int32_t>{700, 800});
  forward.arithmetic().reset_sequence(0);
  forward.step(std::vector<std::int32_t>{1, 500});
  EXPECT_EQ(copy(forward.logits()), first);
}

TEST(Arithmetic, GivesTheSameBitsWhereTheCacheGrows) {
  ThreadPool pool(2);
  std::vector<std::int32_t> ids(300);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(3 + i * 17 % 8000);
  ModelSteps whole(demo_model(), pool), pieces(demo_model(), pool);
  whole.step(ids);
  for (std::size_t i = 0; i < ids.size(); i += 50) pieces.step(std::span(ids).subspan(i, 50));
  EXPECT_EQ(copy(whole.logits()), copy(pieces.logits()));
}

TEST(Arithmetic, ReachesTheLastPositionOfTheContext) {
  const TemporaryFile file(tiny_model({.context = 64}).file());
  const Model model(file.path());
  ThreadPool pool(1);
  ModelSteps forward(model, pool, 64);
  forward.step(std::vector<std::int32_t>(63, 5));
  forward.step(std::vector<std::int32_t>{5});
  EXPECT_EQ(forward.arithmetic().sequence_length(0), 64);
  EXPECT_DEATH(forward.step(std::vector<std::int32_t>{5}), "position within the context");
}

TEST(Arithmetic, ReadsAnExpertFromAnyCopyOfItsBlob) {
  ThreadPool pool(2);
  Arithmetic arithmetic(demo_model(), pool, 4, 1);
  arithmetic.begin_step(std::vector<TokenInput>{{1, 0, 0, true}, {500, 0, 1, true}});
  arithmetic.attention(0);
  arithmetic.router(0);
  const std::span<const std::byte> blob = demo_model().expert_blob({0, 7});
  const std::vector<Arithmetic::ExpertRow> rows = {{0, 1}, {1, 0}};
  arithmetic.expert(0, blob, rows);
  const std::vector<float> from_store = copy(arithmetic.expert_output(0, 1));
  const std::vector<std::byte> slot(blob.begin(), blob.end());
  arithmetic.expert(0, slot, rows);
  EXPECT_EQ(copy(arithmetic.expert_output(0, 1)), from_store);
  // A slot that holds another expert shows.
  const auto other = demo_model().expert_blob({0, 8});
  arithmetic.expert(0, other, rows);
  EXPECT_NE(copy(arithmetic.expert_output(0, 1)), from_store);
}

TEST(Arithmetic, CombinesInRankOrderAndLeavesOutWeightZero) {
  ThreadPool pool(1);
  Arithmetic arithmetic(demo_model(), pool, 1, 1);
  arithmetic.begin_step(std::vector<TokenInput>{{500, 0, 0, true}});
  arithmetic.attention(0);
  arithmetic.router(0);
  arithmetic.expert(0, demo_model().expert_blob({0, 3}), std::vector<Arithmetic::ExpertRow>{{0, 1}});
  const std::vector<float> before = copy(arithmetic.hidden(0)), output = copy(arithmetic.expert_output(0, 1));
  arithmetic.combine(0, 0, std::vector<float>{0, 0.5f});
  for (std::size_t i = 0; i < before.size(); ++i) ASSERT_EQ(arithmetic.hidden(0)[i], before[i] + 0.5f * output[i]);
  arithmetic.combine(0, 0, std::vector<float>{0, 0});
}

TEST(Arithmetic, AppliesTheRoutersOfOtherLayersToThisInput) {
  ThreadPool pool(1);
  Arithmetic arithmetic(demo_model(), pool, 1, 1);
  arithmetic.begin_step(std::vector<TokenInput>{{500, 0, 0, true}});
  arithmetic.attention(0);
  arithmetic.router(0);
  std::vector<float> same(16), next(16);
  arithmetic.lookahead_logits(0, 0, same);
  arithmetic.lookahead_logits(1, 0, next);
  EXPECT_EQ(same, copy(arithmetic.router_logits(0)));
  EXPECT_NE(next, same);
}

TEST(Arithmetic, CountsTheBytesOfItsCache) {
  ThreadPool pool(1);
  const Arithmetic arithmetic(demo_model(), pool, 1, 2);
  EXPECT_EQ(arithmetic.kv_bytes_per_token(), 12 * 2 * 128 * 4);
  EXPECT_EQ(arithmetic.kv_bytes(), 2 * 1024 * arithmetic.kv_bytes_per_token());
}

}  // namespace
}  // namespace expertscope
