#include <gtest/gtest.h>

#include "engine/error.h"
#include "engine/policy/policy.h"

namespace expertscope {
namespace {

std::string refusal(const std::string& text) {
  try {
    parse_policy_spec(text);
  } catch (const InputError& e) {
    return e.what();
  }
  return "accepted";
}

TEST(PolicySpec, EveryPresetParsesBuildsAndPrintsItsName) {
  for (const PresetDecl& preset : preset_decls()) {
    const PolicySpec spec = parse_policy_spec(preset.name);
    EXPECT_EQ(to_string(spec), preset.name);
    const Policy policy(spec);
    EXPECT_EQ(policy.spec, spec);
  }
}

TEST(PolicySpec, EveryComponentCanBeSwappedIntoAPreset) {
  for (const ComponentDecl& c : component_decls()) {
    PolicySpec spec = parse_policy_spec("on-demand");
    apply_setting(spec, std::string(name(c.kind)) + "=" + std::string(c.name));
    const Policy policy(spec);
    EXPECT_EQ(parse_policy_spec(to_string(spec)), spec);
  }
}

TEST(PolicySpec, SwapsComponentsAndSetsParametersInAnyOrder) {
  const PolicySpec spec = parse_policy_spec("lookahead:prefetcher.depth=2,evictor.history=session,evictor=lfu");
  EXPECT_EQ(spec.parameter(ComponentKind::prefetcher, "depth"), 2);
  EXPECT_EQ(spec.parameter(ComponentKind::evictor, "history"), 1);
  EXPECT_EQ(to_string(spec), "lookahead:evictor=lfu,evictor.history=session,prefetcher.depth=2");
  EXPECT_EQ(parse_policy_spec(to_string(spec)), spec);
}

TEST(PolicySpec, AParameterAtItsDefaultIsNotWritten) {
  EXPECT_EQ(to_string(parse_policy_spec("lookahead:prefetcher.depth=1,evictor=lru")), "lookahead");
}

TEST(PolicySpec, SwappingAComponentForgetsTheParametersOfTheOldOne) {
  PolicySpec spec = parse_policy_spec("lookahead:prefetcher.depth=3");
  apply_setting(spec, "prefetcher=none");
  EXPECT_EQ(to_string(spec), "lookahead:prefetcher=none");
}

TEST(PolicySpec, APresetsOwnParametersAreNotWrittenAndThoseSetBackAre) {
  const PolicySpec preset = parse_policy_spec("mixtral-offloading");
  EXPECT_EQ(preset.parameter(ComponentKind::evictor, "order"), 1);
  EXPECT_EQ(to_string(preset), "mixtral-offloading");
  const PolicySpec back = parse_policy_spec("mixtral-offloading:evictor.order=request");
  EXPECT_EQ(back.parameter(ComponentKind::evictor, "order"), 0);
  EXPECT_EQ(to_string(back), "mixtral-offloading:evictor.order=request");
  EXPECT_EQ(parse_policy_spec(to_string(back)), back);
}

TEST(PolicySpec, SwappingAPresetsComponentOutAndInBringsItsParametersBack) {
  PolicySpec spec = parse_policy_spec("mixtral-offloading");
  apply_setting(spec, "evictor=lfu");
  EXPECT_EQ(to_string(spec), "mixtral-offloading:evictor=lfu");
  EXPECT_EQ(parse_policy_spec(to_string(spec)), spec);
  apply_setting(spec, "evictor=lru");
  EXPECT_EQ(spec, parse_policy_spec("mixtral-offloading"));
}

TEST(PolicySpec, RefusesWhatItDoesNotKnowAndSaysWhatThereIs) {
  std::string presets, evictors;
  for (const PresetDecl& p : preset_decls()) presets += (presets.empty() ? "" : ", ") + std::string(p.name);
  for (const ComponentDecl& c : component_decls()) {
    if (c.kind == ComponentKind::evictor) evictors += (evictors.empty() ? "" : ", ") + std::string(c.name);
  }
  EXPECT_EQ(refusal("lru"), "policy 'lru' is not known: choose one of " + presets);
  EXPECT_EQ(refusal("on-demand:evictor=mru"), "policy: 'mru' is not a known evictor: choose one of " + evictors);
  EXPECT_EQ(refusal("on-demand:engine=lru").substr(0, 51), "policy: 'engine' is not a kind of component: use on");
  EXPECT_EQ(refusal("lookahead:prefetcher.width=2"),
            "policy: prefetcher 'predicted' has no parameter 'width': it has depth, prefill, cancel, most");
  EXPECT_EQ(refusal("on-demand:evictor.age=2"), "policy: evictor 'lru' has no parameter 'age': it has order");
  EXPECT_EQ(refusal("on-demand:placer.age=2"), "policy: placer 'fetch' has no parameter 'age': it has none");
  EXPECT_EQ(refusal("lookahead:prefetcher.depth=9"), "policy: prefetcher.depth=9 is not allowed: give 1 to 3 layers");
  EXPECT_NE(refusal("lookahead:prefetcher.depth=1.5"), "accepted");
  EXPECT_NE(refusal("lookahead:prefetcher.depth=nan"), "accepted");
  EXPECT_EQ(refusal("lfu:evictor.history=weekly"),
            "policy: evictor.history=weekly is not allowed: give one of sequence, session");
  for (const char* malformed :
       {"", ":", "on-demand:", "on-demand:,", "on-demand:evictor", "on-demand:evictor=", "on-demand:=lru"}) {
    EXPECT_NE(refusal(malformed), "accepted") << malformed;
  }
}

TEST(PolicySpec, ResidentNeedsEveryExpertInTheCache) {
  EXPECT_NO_THROW(check_fits(parse_policy_spec("resident"), 192, 192));
  EXPECT_THROW(check_fits(parse_policy_spec("resident"), 96, 192), InputError);
}

}  // namespace
}  // namespace expertscope
