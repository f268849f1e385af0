#include "views/policy_choice.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace expertscope {
namespace {

std::vector<std::string> names(const std::vector<PresetGroup>& groups) {
  std::vector<std::string> all;
  for (const PresetGroup& group : groups)
    for (const PresetDecl* preset : group.presets) all.emplace_back(preset->name);
  return all;
}

TEST(PolicyChoice, GroupsBaselinesAndPublishedSystemsAndOffersEveryOneThatRunsLive) {
  const auto groups = live_presets("");
  ASSERT_EQ(groups.size(), 2u);
  for (const PresetDecl* preset : groups[0].presets) EXPECT_EQ(preset->paper, "baseline") << preset->name;
  for (const PresetDecl* preset : groups[1].presets) EXPECT_NE(preset->paper, "baseline") << preset->name;
  const auto shown = names(groups);
  for (const PresetDecl& preset : preset_decls())
    EXPECT_EQ(std::ranges::count(shown, preset.name), preset.replay_only ? 0 : 1) << preset.name;
}

TEST(PolicyChoice, FindsAPresetByItsNameItsPaperAndWhatItDoes) {
  EXPECT_EQ(names(live_presets("HOBB")), (std::vector<std::string>{"hobbit"}));
  EXPECT_EQ(names(live_presets("2501.10375")), (std::vector<std::string>{"daop"}));
  const auto skipping = names(live_presets("skips them"));
  EXPECT_TRUE(std::ranges::count(skipping, "hobbit"));
  EXPECT_TRUE(live_presets("no such policy").empty());
}

TEST(PolicyChoice, OffersNoComponentThatNeedsTheFuture) {
  for (const ComponentKind kind : {ComponentKind::predictor, ComponentKind::evictor})
    for (const ComponentDecl* decl : live_components(kind))
      EXPECT_TRUE(decl->name != "future" && decl->name != "belady") << decl->name;
  std::vector<std::string_view> gates;
  for (const ComponentDecl* decl : live_components(ComponentKind::gate)) gates.push_back(decl->name);
  EXPECT_TRUE(std::ranges::count(gates, "pruned")) << "no preset uses it, and every policy may";
}

TEST(PolicyChoice, CallsAPolicyInexactByWhatItsComponentsDo) {
  EXPECT_FALSE(is_inexact_policy("on-demand"));
  EXPECT_TRUE(is_inexact_policy("hobbit"));
  EXPECT_TRUE(is_inexact_policy("lookahead:gate=predicted"));
  EXPECT_FALSE(is_inexact_policy("hobbit:gate=router,precision=native"));
  EXPECT_FALSE(is_inexact_policy("a name of no policy"));
  for (const PresetDecl& preset : preset_decls())
    EXPECT_EQ(is_inexact_policy(preset.name), !preset.exact) << preset.name;
}

}  // namespace
}  // namespace expertscope
