#include "app/inputs.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error.h"

namespace expertscope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<ScriptChange> script(const std::string& text, const std::string& policy = "on-demand") {
  return parse_script(text, "script.json", parse_policy_spec(policy), 0.25);
}

void expect_refused(const std::string& text, const std::string& mention, const std::string& policy = "on-demand") {
  try {
    script(text, policy);
    ADD_FAILURE() << "accepted: " << text;
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("script.json"));
    EXPECT_THAT(error.what(), HasSubstr(mention));
  }
}

class TextFile {
 public:
  TextFile(const std::string& name, const std::string& content)
      : path_(std::filesystem::path(::testing::TempDir()) / name) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~TextFile() { std::filesystem::remove(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(Script, NamesChangesOfPolicyRatioAndParameter) {
  const auto changes = script(R"([{"at_token": 12, "policy": "lookahead"}, {"at_token": 24, "cache_ratio": 0.5},
                                  {"at_token": 36, "set": {"evictor": "lfu"}}])");
  ASSERT_EQ(changes.size(), 3u);
  EXPECT_EQ(changes[0].at_token, 12u);
  EXPECT_EQ(changes[0].command.kind, CommandKind::set_policy);
  EXPECT_EQ(changes[0].command.text, "lookahead");
  EXPECT_EQ(changes[0].command.source, "script");
  EXPECT_EQ(changes[1].command.kind, CommandKind::set_cache_ratio);
  EXPECT_EQ(changes[1].command.value, 0.5);
  EXPECT_EQ(changes[2].command.kind, CommandKind::set_component);
  EXPECT_EQ(changes[2].command.text, "evictor=lfu");
}

TEST(Script, GivesTheValueOfAParameter) {
  const PolicySpec lookahead = parse_policy_spec("lookahead");
  for (const ComponentDecl& component : component_decls()) {
    if (lookahead.components[static_cast<std::size_t>(component.kind)] != component.name ||
        component.parameters.empty())
      continue;
    const ParameterDecl& parameter = component.parameters.front();
    const std::string key = std::string(name(component.kind)) + "." + std::string(parameter.name);
    const auto changes =
        script(R"([{"at_token": 1, "set": {")" + key + "\": " + std::to_string(static_cast<int>(parameter.max)) + "}}]",
               "lookahead");
    ASSERT_EQ(changes.size(), 1u);
    EXPECT_EQ(changes[0].command.kind, CommandKind::set_parameter);
    EXPECT_EQ(changes[0].command.text, key);
    EXPECT_EQ(changes[0].command.value, parameter.max);
    return;
  }
  FAIL() << "lookahead declares no parameter";
}

TEST(Script, MakesRoomBeforeThePolicyThatNeedsItAndGivesItBackAfter) {
  const auto up = script(R"([{"at_token": 3, "policy": "resident", "cache_ratio": 1}])");
  ASSERT_EQ(up.size(), 2u);
  EXPECT_EQ(up[0].command.kind, CommandKind::set_cache_ratio);
  const auto down = script(
      R"([{"at_token": 3, "policy": "resident", "cache_ratio": 1}, {"at_token": 4, "policy": "lfu", "cache_ratio": 0.1}])");
  ASSERT_EQ(down.size(), 4u);
  EXPECT_EQ(down[2].command.kind, CommandKind::set_policy);
}

TEST(Script, RefusesWhatIsNotDeclared) {
  expect_refused(R"([{"at_token": 1, "polici": "lfu"}])", "unknown key \"polici\"");
  expect_refused(R"([{"at_token": 1, "policy": "nonesuch"}])", "nonesuch");
  expect_refused(R"([{"at_token": 1, "policy": "belady"}])", "replay");
  expect_refused(R"([{"at_token": 1, "set": {"evictor": "nonesuch"}}])", "nonesuch");
  expect_refused(R"([{"at_token": 1, "set": {"evictor.nonesuch": 1}}])", "nonesuch");
  expect_refused(R"([{"at_token": 1, "set": {"nonesuch.depth": 1}}])", "nonesuch");
}

TEST(Script, RefusesSenselessValues) {
  expect_refused(R"({"at_token": 1})", "not a list");
  expect_refused(R"([{"policy": "lfu"}])", "at_token is missing");
  expect_refused(R"([{"at_token": -1, "policy": "lfu"}])", "at_token");
  expect_refused(R"([{"at_token": 1.5, "policy": "lfu"}])", "at_token");
  expect_refused(R"([{"at_token": 1}])", "changes nothing");
  expect_refused(R"([{"at_token": 1, "cache_ratio": 2}])", "cache_ratio");
  expect_refused(R"([{"at_token": 1, "cache_ratio": "half"}])", "cache_ratio");
  expect_refused(R"([{"at_token": 1, "policy": 3}])", "policy");
  expect_refused(R"([{"at_token": 1, "set": ["evictor"]}])", "set");
  expect_refused(R"([{"at_token": 9, "policy": "lfu"}, {"at_token": 8, "policy": "on-demand"}])", "order");
  expect_refused("[{", "not valid JSON");
}

TEST(Prompts, ReadsWorkloadsInTheOrderOfTheFile) {
  const TextFile file("prompts.json", R"({"tale": ["Once", "The king"], "c": ["int main"]})");
  const auto prompts = load_prompts(file.path());
  ASSERT_EQ(prompts.size(), 3u);
  EXPECT_EQ(prompts[0].workload, "tale");
  EXPECT_EQ(prompts[1].text, "The king");
  EXPECT_EQ(prompts[2].workload, "c");
}

TEST(Prompts, ReadsOnePromptALine) {
  const TextFile file("prompts.txt", "first\r\n\n  second one \nthird");
  const auto prompts = load_prompts(file.path());
  ASSERT_EQ(prompts.size(), 3u);
  EXPECT_EQ(prompts[0].text, "first");
  EXPECT_EQ(prompts[1].text, "  second one ");
  EXPECT_EQ(prompts[2].text, "third");
}

TEST(Prompts, RefusesWhatIsNoListOfPrompts) {
  for (const char* text : {"{\"a\": \"b\"}", "{\"a\": [1]}", "{\"a\": []}", "{\"a\"", "", " \n ", "caf\xe9"}) {
    const TextFile file("bad.txt", text);
    EXPECT_THROW(load_prompts(file.path()), InputError) << text;
  }
  EXPECT_THROW(load_prompts("/nonexistent/prompts.txt"), InputError);
  EXPECT_THROW(load_prompts("/"), InputError);
}

TEST(TokenIds, AreReadFromAListOrAFile) {
  EXPECT_THAT(parse_ids("1,75, 104", "--prompt-ids"), ElementsAre(1, 75, 104));
  const TextFile file("ids.json", "[1, 75, 104]");
  EXPECT_THAT(load_ids(file.path()), ElementsAre(1, 75, 104));
}

TEST(TokenIds, RefusesWhatIsNoId) {
  for (const char* list : {"", "1,", "1,,2", "a", "1.5", "-1", "99999999999"})
    EXPECT_THROW(parse_ids(list, "--prompt-ids"), InputError) << list;
  for (const char* json : {"[]", "{}", "[1.5]", "[-1]", "[\"1\"]", "[99999999999]", "[1"}) {
    const TextFile file("ids.json", json);
    EXPECT_THROW(load_ids(file.path()), InputError) << json;
  }
  EXPECT_THROW(check_ids({1, 8192}, 8192, "--prompt-ids"), InputError);
}

TEST(Utf8, IsToldFromOtherBytes) {
  EXPECT_NO_THROW(check_utf8("z\u00fcrich \u20ac \U0001f600", "text"));
  for (const char* bad : {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "a\x80"})
    EXPECT_THROW(check_utf8(bad, "text"), InputError);
}

}  // namespace
}  // namespace expertscope
