// Several sequences decoded together.
#include <random>

#include <gtest/gtest.h>

#include "engine/error.h"
#include "tests/engine/emulated_run.h"
#include "tests/engine/live_presets.h"

namespace expertscope {
namespace {

const std::vector<std::string> kPrompts = {"Once upon a time there was", "The river runs",
                                           "for (int i = 0; i < n; ++i) {", "Der König hatte", "def sum(values):"};

using Texts = std::vector<std::vector<std::int32_t>>;

std::unique_ptr<EmulatedRun> run_of(const std::string& policy, double ratio, int sequences) {
  auto run = std::make_unique<EmulatedRun>(policy, ratio, "a6000-pcie4");
  run->options.sequences = sequences;
  return run;
}

std::vector<BatchPrompt> batch_of(std::size_t prompts, const std::vector<int>& tokens) {
  std::vector<BatchPrompt> batch;
  for (std::size_t i = 0; i < prompts; ++i)
    batch.push_back({.item = {.workload = "", .text = kPrompts[i], .ids = {}}, .tokens = tokens[i % tokens.size()]});
  return batch;
}

Texts alone(std::size_t prompts, const std::vector<int>& tokens) {
  EmulatedRun run("on-demand", 0.25);
  Texts texts;
  for (std::size_t i = 0; i < prompts; ++i) texts.push_back(run.generate(kPrompts[i], tokens[i % tokens.size()]));
  return texts;
}

TEST(Sequences, DecodedTogetherSayWhatEachSaysAlone) {
  const std::vector<int> tokens = {12, 5, 9};
  const auto run = run_of("on-demand", 0.25, 3);
  EXPECT_EQ(run->runner().batch_prompts(), 3);
  EXPECT_EQ(run->runner().run_batch(batch_of(3, tokens)), alone(3, tokens));
}

TEST(Sequences, TakeOneStepForOneTokenOfEachAndLeaveWhenTheyAreDone) {
  const auto run = run_of("on-demand", 0.25, 3);
  run->runner().run_batch(batch_of(3, {6, 3, 4}));
  std::vector<int> in_step;
  for (const StepRecord& s : run->events.steps) {
    if (s.phase == Phase::decode) in_step.push_back(s.tokens);
    EXPECT_EQ(s.prompt == kSeveralPrompts, s.phase == Phase::decode && s.tokens > 1) << s.step;
  }
  EXPECT_EQ(in_step, (std::vector<int>{3, 3, 2, 1, 1}));
  EXPECT_EQ(run->runner().generated(), 13U);
  std::vector<std::uint32_t> sequences;
  for (const PromptRecord& p : run->events.prompts) sequences.push_back(p.sequence);
  EXPECT_EQ(sequences, (std::vector<std::uint32_t>{0, 1, 2}));
}

TEST(Sequences, KeepTheAccountsOfEveryPick) {
  const auto run = run_of("on-demand", 0.25, 4);
  run->runner().run_batch(batch_of(4, {7}));
  std::int64_t tokens = 0, picks = 0;
  for (const StepRecord& s : run->events.steps) tokens += s.tokens;
  for (const DemandRecord& d : run->events.demands) picks += d.picks;
  EXPECT_EQ(picks, tokens * run->events.info.layers * run->events.info.top_k);
  EXPECT_LT(static_cast<std::int64_t>(run->events.demands.size()), picks) << "tokens share experts";
  std::size_t generated = 0;
  for (const TokenRecord& t : run->events.tokens) generated += t.generated ? 1 : 0;
  EXPECT_EQ(generated, 28U);
}

TEST(Sequences, EachHaveTheirOwnKvMemory) {
  const auto one = run_of("on-demand", 0.25, 1), eight = run_of("on-demand", 0.25, 8);
  one->runner(), eight->runner();
  EXPECT_EQ(eight->machine->memory().kv_bytes, 8 * one->machine->memory().kv_bytes);
  EXPECT_EQ(eight->machine->memory().gpu_peak_bytes - one->machine->memory().gpu_peak_bytes,
            7 * one->machine->memory().kv_bytes);
  EmulatedRun small("on-demand", 0.25, "rtx3060-pcie4");
  small.options.sequences = 512;
  EXPECT_THROW(small.runner(), InputError) << "512 contexts do not fit";
}

TEST(Sequences, AreReplayedExactly) {
  for (const char* policy : {"on-demand", "lookahead", "moe-infinity", "expertflow"}) {
    SCOPED_TRACE(policy);
    const auto run = run_of(policy, 0.25, 2);
    run->runner().run_batch(batch_of(2, {9, 6}));
    run->runner().run_batch(batch_of(2, {1}));
    run->runner().run_batch(batch_of(1, {4}));
    RecordedEvents again;
    replay(run->events.recorded(), {}, again);
    EXPECT_EQ(events_of(again), events_of(run->events));
  }
}

TEST(Sequences, TakeTurnsInTwoBatchesWhereTheSchedulerDividesThem) {
  const std::vector<int> tokens = {8, 5, 6, 8};
  const auto run = run_of("expertflow", 0.25, 2);
  EXPECT_EQ(run->runner().batch_prompts(), 4);
  EXPECT_EQ(run->runner().run_batch(batch_of(4, tokens)), alone(4, tokens));
  for (const StepRecord& s : run->events.steps) EXPECT_LE(s.tokens, s.phase == Phase::decode ? 2 : 512) << s.step;
  EXPECT_EQ(run->machine->memory().kv_bytes, 2 * run_of("on-demand", 0.25, 2)->runner().info().memory.kv_bytes);
  RecordedEvents again;
  replay(run->events.recorded(), {}, again);
  EXPECT_EQ(events_of(again), events_of(run->events));
}

TEST(Sequences, WithASingleOneTheSchedulerDoesNothing) {
  EmulatedRun with("expertflow", 0.25), without("expertflow:scheduler=resident-first", 0.25);
  EXPECT_EQ(with.runner().batch_prompts(), 1);
  EXPECT_EQ(with.generate(kPrompts[0], 12), without.generate(kPrompts[0], 12));
  EXPECT_EQ(events_of(with.events), events_of(without.events));
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr unsigned kSchedules = 16;
#else
constexpr unsigned kSchedules = 200;
#endif

class SequenceSchedules : public testing::TestWithParam<unsigned> {};  // a share of the schedules
constexpr unsigned kShares = 8;

// Whatever exact policy and cache size come and go, what is generated is what `resident` generates.
TEST_P(SequenceSchedules, GenerateTheSameUnderAnyOfExactPoliciesAndCacheSizes) {
  const std::vector<int> tokens = {6, 9, 7};
  const auto resident = run_of("resident", 1, 3);
  const Texts expected = resident->runner().run_batch(batch_of(3, tokens));
  EXPECT_EQ(expected, alone(3, tokens));
  const std::vector<std::string> presets = live_presets(true);
  for (unsigned seed = GetParam(); seed < kSchedules; seed += kShares) {
    std::mt19937 random(seed);
    const auto ratio = [&] { return static_cast<double>(random() % 17) / 16; };
    const std::string first = presets[seed % presets.size()];
    const auto run = run_of(first, ratio(), 1 + static_cast<int>(random() % 3));
    std::string schedule = first;
    run->runner().set_boundary_hook([&](std::uint32_t, TimeNs) {
      if (random() % 4 != 0) return true;
      if (random() % 2 == 0) {
        const std::string& next = presets[random() % presets.size()];
        schedule += " " + next;
        run->runner().apply({.kind = CommandKind::set_policy, .text = next});
      } else {
        const double r = ratio();
        schedule += " " + std::to_string(r);
        run->runner().apply({.kind = CommandKind::set_cache_ratio, .text = "", .value = r});
      }
      return true;
    });
    Texts texts;
    for (std::size_t at = 0; at < 3;) {
      const std::vector<BatchPrompt> all = batch_of(3, tokens);
      const std::size_t n = std::min(3 - at, static_cast<std::size_t>(run->runner().batch_prompts()));
      for (std::vector<std::int32_t>& text : run->runner().run_batch(std::span(all).subspan(at, n)))
        texts.push_back(std::move(text));
      at += n;
    }
    EXPECT_EQ(texts, expected) << "seed " << seed << ": " << schedule;
  }
}
INSTANTIATE_TEST_SUITE_P(Share, SequenceSchedules, testing::Range(0U, kShares));

}  // namespace
}  // namespace expertscope
