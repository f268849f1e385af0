#include "app/replay_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error.h"

namespace expertscope {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> names(const std::string& list) {
  std::vector<std::string> out;
  for (const ReplayPolicy& policy : parse_policies(list))
    out.push_back(policy.spec ? to_string(*policy.spec) : "recorded");
  return out;
}

TEST(ReplayList, AKeyValueItemBelongsToThePresetBeforeIt) {
  EXPECT_THAT(names("lfu,on-demand:evictor=lfu,capacity=global,recorded,static"),
              ElementsAre("lfu", "on-demand:evictor=lfu,capacity=global", "recorded", "static"));
  EXPECT_THAT(names("on-demand,capacity=global"), ElementsAre("on-demand:capacity=global"));
}

TEST(ReplayList, AllIsEveryPresetAndTheOracle) {
  EXPECT_EQ(names("all").size(), preset_decls().size());
  for (const ReplayPolicy& policy : parse_policies("all")) EXPECT_TRUE(policy.from_all);
  EXPECT_FALSE(parse_policies("lfu").front().from_all);
}

TEST(ReplayList, RefusesWhatIsUnknownOrEmpty) {
  for (const char* list :
       {"", "nonesuch", "lfu,,on-demand", "evictor=lfu", "recorded,evictor=lfu", "lfu:evictor=nonesuch"})
    EXPECT_THROW(parse_policies(list), InputError) << list;
  for (const char* list : {"", "2", "-0.1", "nan", "0.5x", "0.5,", "half"})
    EXPECT_THROW(parse_cache_ratios(list), InputError) << list;
}

TEST(ReplayList, RatiosAreNumbersOrTheSessionsOwn) {
  EXPECT_THAT(parse_cache_ratios("0.125,1,recorded"), ElementsAre(0.125, 1.0, std::nullopt));
}

}  // namespace
}  // namespace expertscope
