// What a run shows of its machine's costs: put on an emulated machine, whose costs are known, it must find them.
#include "engine/machines/operation_timing.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/engine/emulated_run.h"

namespace expertscope {
namespace {

MachineProfile machine_with_operations() {
  MachineProfile p = load_profile("h100-pcie5");
  GpuProfile& gpu = p.gpus[0];
  gpu.sync_s = 3e-6;
  gpu.operations = {{WorkKind::embed, 5e-6, 2e12},   {WorkKind::attention, 20e-6, 0.5e12},
                    {WorkKind::router, 9e-6, 1e12},  {WorkKind::expert, 8e-6, 0.8e12},
                    {WorkKind::combine, 3e-6, 2e12}, {WorkKind::head, 6e-6, 1.5e12}};
  p.link.start_s = 10e-6;
  p.host.policy_s = 1e-6;
  p.host.sampling_s = 7e-6;
  return p;
}

TimeNs no_clock() {
  return 0;
}

// The demo model's decode with the bytes of `shape`, as `calibrate` runs a model.
void run(OperationTimer& timer, const MachineProfile& profile, const std::string& shape, const std::string& name,
         const std::string& policy, double ratio) {
  EmulatedRun r(policy, ratio, profile, shape);
  r.generate(kTale, 24);
  r.events.info.model_name = name;
  timer.on_start(r.events.info);
  for (const StepRecord& step : r.events.steps) {
    for (const WorkRecord& w : r.events.works)
      if (w.step == step.step) timer.on_event(w);
    for (const CopyRecord& c : r.events.copies)
      if (c.step == step.step) timer.on_event(c);
    timer.on_event(step);
  }
}

TEST(OperationTimer, FindsTheCostsOfTheMachineThatItListensTo) {
  const MachineProfile truth = machine_with_operations();
  OperationTimer timer(no_clock);
  run(timer, truth, "own", "small", "resident", 1);
  run(timer, truth, "own", "small", "on-demand", 0.5);
  run(timer, truth, "mixtral-8x7b-q4", "large", "resident", 1);
  MachineProfile found = truth;
  found.gpus[0].operations.clear();
  found.gpus[0].sync_s = found.link.start_s = found.host.policy_s = found.host.sampling_s = 0;
  timer.apply_to(found);
  ASSERT_EQ(found.gpus[0].operations.size(), truth.gpus[0].operations.size());
  for (const OperationRate& wanted : truth.gpus[0].operations) {
    SCOPED_TRACE(name(wanted.kind));
    const auto& all = found.gpus[0].operations;
    const auto got = std::ranges::find(all, wanted.kind, &OperationRate::kind);
    ASSERT_NE(got, all.end());
    EXPECT_NEAR(got->fixed_s, wanted.fixed_s, 0.05e-6);
    // Embedding and combining move next to nothing: their rates do not matter and are not found.
    if (wanted.kind == WorkKind::embed || wanted.kind == WorkKind::combine) continue;
    EXPECT_NEAR(got->bytes_per_s / wanted.bytes_per_s, 1, 0.01);
  }
  EXPECT_NEAR(found.gpus[0].sync_s, 3e-6, 1e-9);
  EXPECT_NEAR(found.link.start_s, 10e-6, 0.1e-6);
  EXPECT_NEAR(found.host.policy_s, 1e-6, 1e-9);
  EXPECT_NEAR(found.host.sampling_s, 7e-6, 1e-9);
}

TEST(OperationTimer, WhatItFoundPredictsTheSpeedOfARunThatItDidNotSee) {
  const MachineProfile truth = machine_with_operations();
  OperationTimer timer(no_clock);
  run(timer, truth, "own", "small", "resident", 1);
  run(timer, truth, "own", "small", "on-demand", 0.5);
  run(timer, truth, "mixtral-8x7b-q4", "large", "resident", 1);
  MachineProfile found = truth;
  found.gpus[0].operations.clear();
  timer.apply_to(found);
  const auto end_of = [](const MachineProfile& profile) {
    EmulatedRun r("lfu", 0.25, profile, "own");
    r.generate(kTale, 24);
    return static_cast<double>(r.events.steps.back().end_ns);
  };
  EXPECT_NEAR(end_of(found) / end_of(truth), 1, 0.01);
}

TEST(OperationTimer, TimesHowLongTheHostTakesToQueueAnOperation) {
  TimeNs now = 0;
  OperationTimer timer([&] { return now; });
  run(timer, machine_with_operations(), "own", "small", "resident", 1);
  for (const TimeNs took : {4'000, 900'000, 5'000}) {
    timer.on_launch_begin({.step = 1, .layer = 0, .kind = WorkKind::attention});
    now += took;
    timer.on_launch_end();
    timer.on_launch_begin({.step = 1, .layer = 0, .is_copy = true});  // no operation
    now += 77'000;
    timer.on_launch_end();
  }
  MachineProfile found = machine_with_operations();
  timer.apply_to(found);
  for (const OperationRate& rate : found.gpus[0].operations)
    EXPECT_NEAR(rate.issue_s, rate.kind == WorkKind::attention ? 5e-6 : 0, 1e-12) << name(rate.kind);
}

// Where the host is slower than the device, its queueing is what a token takes.
TEST(EmulatedMachine, WithMeasuredQueueingATokenTakesAtLeastWhatTheHostTakes) {
  MachineProfile profile = machine_with_operations();
  for (OperationRate& rate : profile.gpus[0].operations) rate.issue_s = 50e-6;
  EmulatedRun r("resident", 1, profile, "own");
  r.generate(kTale, 8);
  const StepRecord& last = r.events.steps.back();
  const int operations = 2 + 4 * demo_model().description().layers;
  EXPECT_GE(last.end_ns - last.start_ns, operations * 50'000);
  EXPECT_LE(last.end_ns - last.start_ns, operations * 52'000);
}

TEST(OperationTimer, LeavesAProfileAloneWhereNothingWasSeen) {
  MachineProfile profile = load_profile("h100-pcie5");
  const std::string before = to_json(profile);
  OperationTimer(no_clock).apply_to(profile);
  EXPECT_EQ(to_json(profile), before);
}

TEST(MachineProfile, WithMeasuredOperationsSurvivesARoundTrip) {
  MachineProfile profile = machine_with_operations();
  profile.host.sampling_logit_s = 1e-9;
  EXPECT_EQ(to_json(parse_profile(to_json(profile), "copy")), to_json(profile));
}

// A real machine launches the experts that are there at once.
TEST(EmulatedMachine, WithMeasuredOperationsExpertsThatStartTogetherTakeTheFixedPartOnce) {
  MachineProfile profile = machine_with_operations();
  const auto fixed_parts = [](const MachineProfile& p) {
    EmulatedRun r("resident", 1, p, "own");
    r.generate(kTale, 8);
    const auto expert = std::ranges::find_if(r.events.works, [&](const WorkRecord& w) {
      return w.kind == WorkKind::expert && w.step == r.events.steps.back().step;
    });
    return expert[1].end_ns - expert[1].start_ns < expert[0].end_ns - expert[0].start_ns - 5'000;
  };
  EXPECT_TRUE(fixed_parts(profile));
  profile.gpus[0].operations.clear();
  EXPECT_FALSE(fixed_parts(profile));
}

}  // namespace
}  // namespace expertscope
