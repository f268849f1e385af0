#include "app/engine_thread.h"

#include <chrono>
#include <filesystem>
#include <functional>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "app/demo_model.h"
#include "engine/error.h"
#include "profiler/trace.h"
#include "storage/reader.h"

namespace expertscope {
namespace {

using namespace std::chrono_literals;
using Clock = Pacer::Clock;
using ::testing::HasSubstr;

// --- Pacer

constexpr TimeNs kMs = 1'000'000;

TEST(Pacer, LetsModelledTimePassAtTheSpeedOfTheWall) {
  Pacer pacer(1);
  const auto start = Clock::time_point(1h);
  EXPECT_EQ(pacer.due(50 * kMs, start), start) << "the first token sets the start";
  EXPECT_EQ(pacer.due(90 * kMs, start + 1ms), start + 40ms);
}

TEST(Pacer, SlowsDownAndSpeedsUp) {
  Pacer pacer(0.1);
  const auto start = Clock::time_point(1h);
  pacer.due(0, start);
  EXPECT_EQ(pacer.due(10 * kMs, start), start + 100ms);
  pacer.set_speed(2);
  pacer.due(10 * kMs, start);
  EXPECT_EQ(pacer.due(30 * kMs, start), start + 10ms);
}

TEST(Pacer, AtSpeedZeroNothingWaits) {
  Pacer pacer(0);
  const auto start = Clock::time_point(1h);
  EXPECT_EQ(pacer.due(0, start), start);
  EXPECT_EQ(pacer.due(3600'000 * kMs, start), start);
}

TEST(Pacer, DoesNotRunAfterLostTime) {
  Pacer pacer(1);
  const auto start = Clock::time_point(1h);
  pacer.due(0, start);
  const auto late = start + 10s;
  EXPECT_EQ(pacer.due(50 * kMs, late), late);
  EXPECT_EQ(pacer.due(100 * kMs, late), late + 50ms) << "paced from where it was late, not from the beginning";
}

// --- EngineThread

class LiveEngine : public ::testing::Test {
 protected:
  // One file a process: the tests of this fixture may run beside each other.
  LiveEngine()
      : path_((std::filesystem::path(::testing::TempDir()) / ("live-test-" + std::to_string(getpid()) + ".expertscope"))
                  .string()) {
    std::filesystem::remove(path_);
  }
  ~LiveEngine() override {
    engine_.reset();
    std::filesystem::remove(path_);
  }

  void start(double speed, RunRequest request = {}, LiveOptions live = {}) {
    request.threads = 2;
    live.session_path = path_;
    live.speed = speed;
    engine_ = std::make_unique<EngineThread>(make_plan(request), live);
  }

  static LiveOptions endless() {
    LiveOptions live;
    const Model model(demo_model_path());
    live.endless = {{"tale", "The king had three sons", {}}};
    fill_ids(live.endless.front(), model);
    return live;
  }

  // The status once it is as wanted; a failure after some seconds.
  LiveStatus wait_for(const std::function<bool(const LiveStatus&)>& wanted, const char* what) {
    const auto deadline = Clock::now() + 20s;
    while (Clock::now() < deadline) {
      const LiveStatus status = engine_->status();
      if (wanted(status)) return status;
      std::this_thread::sleep_for(2ms);
    }
    ADD_FAILURE() << "waited in vain until " << what << "; error: " << engine_->status().error;
    return engine_->status();
  }

  // Sends a command and waits until it has been dealt with.
  LiveStatus command(CommandKind kind, const std::string& text = "", double value = 0) {
    engine_->send({kind, text, value, "user"});
    const std::uint64_t number = ++sent_;
    return wait_for([&](const LiveStatus& s) { return s.commands_applied >= number; }, "the command is applied");
  }

  // Ends the run and returns what its file holds.
  Trace recorded() {
    engine_.reset();
    Trace trace;
    trace.append(SessionReader(path_).read_all());
    return trace;
  }

  const std::string path_;
  std::unique_ptr<EngineThread> engine_;
  std::uint64_t sent_ = 0;
};

TEST_F(LiveEngine, WritesTextAtOnceAndGoesOn) {
  RunRequest request;
  request.tokens = 8;
  start(0, request, endless());
  wait_for([](const LiveStatus& s) { return s.generated > 20; }, "it has gone on with the demo prompts");
  const Trace trace = recorded();
  EXPECT_TRUE(trace.ended) << "closed in order";
  EXPECT_GE(trace.prompts.size(), 3u);
  EXPECT_EQ(trace.prompts[1].text, "The king had three sons");
}

TEST_F(LiveEngine, WaitsForAPromptWhenAllAreDone) {
  RunRequest request;
  request.tokens = 4;
  start(0, request);
  wait_for([](const LiveStatus& s) { return s.generated == 4 && !s.running; }, "the prompt is done");
  command(CommandKind::submit_prompt, "The harbour", 6);
  wait_for([](const LiveStatus& s) { return s.generated == 10 && !s.running; }, "the second prompt is done");
  const Trace trace = recorded();
  ASSERT_EQ(trace.prompts.size(), 2u);
  EXPECT_EQ(trace.prompts[1].text, "The harbour");
}

TEST_F(LiveEngine, AUsersPromptComesBeforeTheEndlessOnes) {
  start(0, {}, endless());
  command(CommandKind::submit_prompt, "int main(void)", 5);
  wait_for([](const LiveStatus& s) { return s.generated > 150; }, "the user's prompt has been run");
  const Trace trace = recorded();
  ASSERT_GE(trace.prompts.size(), 2u);
  EXPECT_EQ(trace.prompts[1].text, "int main(void)");
}

TEST_F(LiveEngine, ChangesTakeEffectAtATokenBoundaryAndBecomeEpochs) {
  start(1, {}, endless());
  wait_for([](const LiveStatus& s) { return s.generated >= 2; }, "tokens flow");
  EXPECT_EQ(command(CommandKind::set_cache_ratio, "", 0.5).slots, 96u);
  EXPECT_EQ(command(CommandKind::set_policy, "lfu").policy_spec, "lfu");
  const LiveStatus status = command(CommandKind::set_component, "capacity=global");
  EXPECT_EQ(status.policy_spec, "lfu:capacity=global");
  EXPECT_THAT(status.last_change, HasSubstr("from token"));
  EXPECT_EQ(status.error, "");
  const Trace trace = recorded();
  ASSERT_EQ(trace.epochs.size(), 4u);
  EXPECT_EQ(trace.epochs[1].source, "user");
  EXPECT_EQ(trace.epochs[1].cache_ratio, 0.5);
  EXPECT_EQ(trace.epochs[3].policy_spec, "lfu:capacity=global");
}

TEST_F(LiveEngine, ARefusedChangeIsAnErrorAndChangesNothing) {
  start(1, {}, endless());
  const LiveStatus refused = command(CommandKind::set_policy, "resident");
  EXPECT_THAT(refused.error, HasSubstr("resident"));
  EXPECT_EQ(refused.policy_spec, "on-demand");
  EXPECT_NE(command(CommandKind::set_policy, "nonesuch").error, "");
  EXPECT_NE(command(CommandKind::set_speed, "", -1).error, "");
  EXPECT_NE(command(CommandKind::submit_prompt, "\xff").error, "");
  EXPECT_EQ(command(CommandKind::set_policy, "lfu").error, "") << "an accepted one clears it";
  EXPECT_EQ(recorded().epochs.size(), 2u);
}

TEST_F(LiveEngine, PausesAndTakesSingleSteps) {
  start(0, {}, endless());
  command(CommandKind::pause);
  const LiveStatus paused = engine_->status();
  EXPECT_TRUE(paused.paused);
  EXPECT_FALSE(paused.running);
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(engine_->status().generated, paused.generated);
  for (std::uint32_t step = 1; step <= 3; ++step) {
    command(CommandKind::step_token);
    wait_for([&](const LiveStatus& s) { return s.generated == paused.generated + step; }, "one token more");
  }
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(engine_->status().generated, paused.generated + 3);
  command(CommandKind::resume);
  wait_for([&](const LiveStatus& s) { return s.generated > paused.generated + 3 && s.running; }, "it goes on");
}

TEST_F(LiveEngine, PacingNeverDelaysAChange) {
  start(0.001, {}, endless());  // a token takes about a minute
  wait_for([](const LiveStatus& s) { return s.running; }, "it runs");
  const auto sent_at = Clock::now();
  EXPECT_EQ(command(CommandKind::set_cache_ratio, "", 1).slots, 192u);
  EXPECT_LT(Clock::now() - sent_at, 5s);
  command(CommandKind::set_speed, "", 0);
  const std::uint32_t generated = engine_->status().generated;
  wait_for([&](const LiveStatus& s) { return s.generated > generated + 10; }, "it runs at full speed");
}

TEST_F(LiveEngine, RunsAtTheModelledSpeed) {
  start(0.25, {}, endless());  // about 20 modelled tokens a second at speed 1, so 5 at this
  wait_for([](const LiveStatus& s) { return s.generated >= 2; }, "tokens flow");
  const std::uint32_t before = engine_->status().generated;
  std::this_thread::sleep_for(2s);
  const std::uint32_t tokens = engine_->status().generated - before;
  EXPECT_GE(tokens, 5u);
  EXPECT_LE(tokens, 16u) << "it computes far faster than that";
}

TEST_F(LiveEngine, HoldsAtAToken) {
  LiveOptions live = endless();
  live.hold_at_token = 12;
  start(1, {}, live);
  wait_for([](const LiveStatus& s) { return s.generated == 12; }, "it has come to the token");
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(engine_->status().generated, 12u);
}

TEST_F(LiveEngine, PartsThatDoNotFitAreRefusedAtOnce) {
  RunRequest request;
  request.policy = "resident";
  EXPECT_THROW(start(1, request), InputError);
  LiveOptions nowhere;
  nowhere.session_path = "/nonexistent/a.expertscope";
  EXPECT_THROW(EngineThread(make_plan(RunRequest{}), nowhere), InputError);
}

TEST_F(LiveEngine, StopEndsTheRunAndClosesTheSession) {
  start(1, {}, endless());
  wait_for([](const LiveStatus& s) { return s.generated >= 2; }, "tokens flow");
  engine_->send({CommandKind::stop, "", 0, "user"});
  wait_for([](const LiveStatus& s) { return s.ended; }, "it has ended");
  EXPECT_TRUE(recorded().ended);
}

}  // namespace
}  // namespace expertscope
