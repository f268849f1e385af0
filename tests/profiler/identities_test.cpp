#include "profiler/identities.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "profiler/health.h"
#include "tests/profiler/sample_run.h"

namespace expertscope {
namespace {

std::vector<std::string> violated(const Batch& batch) {
  Trace trace;
  trace.append(batch);
  std::vector<std::string> names;
  for (const Violation& v : check_identities(trace)) names.push_back(v.identity);
  return names;
}

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

TEST(Identities, HoldForAProperRun) {
  EXPECT_THAT(violated(test::sample_batch(50)), IsEmpty());
}

TEST(Identities, HoldForARunThatWasKilledInTheMiddleOfAStep) {
  Batch batch = test::sample_batch();
  batch.steps.pop_back();
  batch.ended = false;
  EXPECT_THAT(violated(batch), IsEmpty());
}

TEST(Identities, CatchAPickThatNoDemandServes) {
  Batch batch = test::sample_batch();
  batch.demands.pop_back();
  EXPECT_THAT(violated(batch), ElementsAre("picks_per_token"));
}

TEST(Identities, CatchAnExpertThatWasDemandedTwiceInOneLayer) {
  Batch batch = test::sample_batch();
  for (std::size_t i = 1; i < batch.demands.size(); ++i) {
    if (batch.demands[i].step == batch.demands[i - 1].step && batch.demands[i].layer == batch.demands[i - 1].layer) {
      batch.demands[i].expert = batch.demands[i - 1].expert;
      break;
    }
  }
  EXPECT_THAT(violated(batch), ElementsAre("demands_distinct"));
}

TEST(Identities, CatchALaneThatDoesTwoThingsAtOnce) {
  Batch batch = test::sample_batch();
  batch.works[3].end_ns = batch.works[20].end_ns;
  EXPECT_THAT(violated(batch), Contains("lanes_do_not_overlap"));
}

TEST(Identities, CatchASlotThatWasOverwritten) {
  Batch batch = test::sample_batch();
  std::erase_if(batch.residency, [](const ResidencyRecord& r) { return r.change == ResidencyChange::evicted; });
  EXPECT_THAT(violated(batch), Contains("slots_hold_one"));
}

TEST(Identities, ThatDoNotHoldAreInHealth) {
  Batch batch = test::sample_batch();
  batch.demands.pop_back();
  Trace trace;
  trace.append(batch);
  const auto health = health_of(trace);
  ASSERT_FALSE(health.empty());
  EXPECT_EQ(health.front().code, "identity.picks_per_token");  // worst first
  EXPECT_EQ(health.front().severity, Severity::warning);
}

}  // namespace
}  // namespace expertscope
