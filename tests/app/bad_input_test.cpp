// Whatever is wrong with what the user gives: one clear message on standard error, nothing on standard output, exit
// code 2.
#include <cstring>
#include <fstream>

#include <sqlite3.h>
#include <unistd.h>

#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

class BadInput : public ProgramTest {
 protected:
  Arguments capture_with(Arguments extra) const {
    Arguments arguments = {"capture", "--out", path("run.expertscope"), "--tokens", "4"};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    return arguments;
  }

  // The demo model with some of its bytes replaced.
  std::string model_with(const std::string& name, std::size_t offset, const std::string& bytes) const {
    std::string model = read_text(asset("model/tidepool-42m-moe-q8_0.gguf"));
    model.replace(offset, bytes.size(), bytes);
    return write(name, model);
  }

  std::string model_with_value(const std::string& name, const std::string& key, const std::string& value_bytes) const {
    const std::string model = read_text(asset("model/tidepool-42m-moe-q8_0.gguf"));
    const std::size_t key_at = model.find(key);
    EXPECT_NE(key_at, std::string::npos) << key;
    return model_with(name, key_at + key.size() + 4, value_bytes);  // after the value's type
  }
};

TEST_F(BadInput, CommandsAndOptionsThatDoNotExist) {
  expect_refused({"lokk"}, "lokk");
  expect_refused({"capture", "--nonesuch"}, "--nonesuch");
  expect_refused({"--nonesuch"}, "--nonesuch");
  expect_refused({"--tokens", "3", "policies"}, "--tokens");
  expect_refused({"report"}, "FILE");
  expect_refused({"capture"}, "--out");
}

TEST_F(BadInput, NamesOfLaterCommandsSaySo) {
  for (const char* later : {"compare", "export"}) expect_refused({later, "a", "--b", "c"}, "does not have it yet");
}

TEST_F(BadInput, OptionsOutOfTheirRange) {
  expect_refused(capture_with({"--cache-ratio", "2"}), "--cache-ratio");
  expect_refused(capture_with({"--cache-ratio", "-0.1"}), "--cache-ratio");
  expect_refused(capture_with({"--cache-ratio", "nan"}), "--cache-ratio");
  expect_refused(capture_with({"--cache-ratio", "half"}), "--cache-ratio");
  expect_refused(capture_with({"--cache-bytes", "-1"}), "--cache-bytes");
  expect_refused(capture_with({"--tokens", "0"}), "--tokens");
  expect_refused(capture_with({"--tokens", "4.5"}), "--tokens");
  expect_refused(capture_with({"--threads", "0"}), "--threads");
  expect_refused(capture_with({"--temperature", "-1"}), "--temperature");
  expect_refused(capture_with({"--top-p", "0"}), "--top-p");
  expect_refused(capture_with({"--seed", "-1"}), "--seed");
  expect_refused(capture_with({"--record-gates", "4"}), "--record-gates");
  expect_refused(capture_with({"--profile", "everything"}), "--profile");
  expect_refused(capture_with({"--prompt", "a", "--prompt-ids", "1"}), "--prompt");
  expect_refused(capture_with({"--cache-ratio", "0.5", "--cache-bytes", "100"}), "--cache-");
}

TEST_F(BadInput, OptionsThatThisVersionDoesNotHave) {
  expect_refused(capture_with({"--host-bytes", "1000"}), "--host-bytes");
  expect_refused(capture_with({"--sequences", "0"}), "--sequences");
  expect_refused(capture_with({"--shadow-exact", "1", "--profile", "off"}), "--shadow-exact");
  const std::string emulated = "emulated:rtx4090-pcie4";
  expect_refused(capture_with({"--machine", emulated, "--profile", "cupti"}),
                 "--profile cupti: CUPTI records what a GPU does");
  expect_refused(capture_with({"--machine", emulated, "--expect", "cupti.joined_share >= 0.999"}), "--profile cupti");
}

TEST_F(BadInput, PoliciesComponentsAndParametersThatDoNotExist) {
  expect_refused(capture_with({"--policy", "nonesuch"}), "on-demand");
  expect_refused(capture_with({"--policy", "on-demand:evictor=nonesuch"}), "nonesuch");
  expect_refused(capture_with({"--policy", "on-demand:nonesuch=lru"}), "nonesuch");
  expect_refused(capture_with({"--policy", "lookahead:prefetcher.nonesuch=1"}), "nonesuch");
  expect_refused(capture_with({"--policy", "belady"}), "replay");
  expect_refused({"policies", "nonesuch"}, "nonesuch");
}

TEST_F(BadInput, ResidentWithoutRoomForEveryExpert) {
  expect_refused(capture_with({"--policy", "resident", "--cache-ratio", "0.5"}), "resident");
  EXPECT_FALSE(std::filesystem::exists(path("run.expertscope")));
}

TEST_F(BadInput, MachinesThatAreNotThere) {
  expect_refused(capture_with({"--machine", "toaster"}), "--machine");
  expect_refused(capture_with({"--machine", "emulated:"}), "--machine");
  expect_refused(capture_with({"--machine", "emulated:nonesuch"}), "rtx4090-pcie4");
  expect_refused(capture_with({"--machine", "emulated:" + path("none.json")}), "none.json");
  expect_refused(capture_with({"--machine", "emulated:" + write("m.json", "{\"name\": \"x\", \"nonesuch\": 1}")}),
                 "m.json");
  expect_refused(capture_with({"--cost-shape", "nonesuch"}), "mixtral-8x7b-q4");
  expect_refused({"machines", "nonesuch"}, "nonesuch");
}

TEST_F(BadInput, AModelThatDoesNotFitItsMachine) {
  expect_refused(
      capture_with({"--cost-shape", "mixtral-8x7b-bf16", "--cache-ratio", "1", "--machine", "emulated:rtx3060-pcie4"}),
      "are needed");
  EXPECT_FALSE(std::filesystem::exists(path("run.expertscope")));
}

TEST_F(BadInput, ModelFilesThatAreNone) {
  expect_refused(capture_with({"--model", path("none.gguf")}), "none.gguf");
  expect_refused(capture_with({"--model", folder_.string()}), folder_.string());
  expect_refused(capture_with({"--model", write("text.gguf", "hello")}), "text.gguf");
  expect_refused(capture_with({"--model", write("empty.gguf", "")}), "empty.gguf");
  expect_refused(capture_with({"--model", model_with("magic.gguf", 0, "GGUX")}), "magic.gguf");
  expect_refused(capture_with({"--model", model_with("version.gguf", 4, std::string("\x09\0\0\0", 4))}),
                 "version.gguf");
}

TEST_F(BadInput, TruncatedModelFiles) {
  const std::string model = read_text(asset("model/tidepool-42m-moe-q8_0.gguf"));
  for (const std::size_t length :
       {std::size_t{3}, std::size_t{20}, std::size_t{1000}, std::size_t{200'000}, model.size() / 2, model.size() - 1})
    expect_refused(capture_with({"--model", write("cut.gguf", model.substr(0, length))}), "cut.gguf");
}

TEST_F(BadInput, ModelFilesWithSenselessKeys) {
  const std::string zero("\0\0\0\0", 4);
  expect_refused(capture_with({"--model", model_with_value("experts.gguf", "llama.expert_count", zero)}),
                 "experts.gguf");
  expect_refused(capture_with({"--model", model_with_value("top_k.gguf", "llama.expert_used_count", zero)}),
                 "top_k.gguf");
  expect_refused(capture_with({"--model", model_with_value("layers.gguf", "llama.block_count", "\xff\xff\xff\x7f")}),
                 "layers.gguf");
  expect_refused(capture_with({"--model", model_with_value("width.gguf", "llama.embedding_length", zero)}),
                 "width.gguf");
}

TEST_F(BadInput, FlippedBitsInTheHeaderNeverCrash) {
  const std::string model = read_text(asset("model/tidepool-42m-moe-q8_0.gguf"));
  // Header and first keys, one bit each; some flips are harmless, none may do worse than a refusal.
  for (std::size_t bit = 0; bit < 24 * 8; bit += 5) {
    std::string flipped = model;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const Outcome outcome = run_program({"info", write("flipped.gguf", flipped)});
    EXPECT_TRUE(outcome.exit_code == 0 || outcome.exit_code == 2)
        << "bit " << bit << ": " << outcome.exit_code << " " << outcome.err;
  }
}

TEST_F(BadInput, PromptsAndIdsThatMakeNoSense) {
  expect_refused(capture_with({"--prompts", path("none.json")}), "none.json");
  expect_refused(capture_with({"--prompts", write("list.json", "[\"a\"]")}), "list.json");
  expect_refused(capture_with({"--prompts", write("empty.txt", "\n")}), "empty.txt");
  expect_refused(capture_with({"--prompt-ids", "1,x"}), "--prompt-ids");
  expect_refused(capture_with({"--prompt-ids", "1,8192"}), "8192");
  expect_refused(capture_with({"--ids-file", write("ids.json", "[1, \"a\"]")}), "ids.json");
  expect_refused(capture_with({"--prompt", "\xff\xfe"}), "UTF-8");
  expect_refused(capture_with({"--text", write("empty", "")}), "empty");
  expect_refused(capture_with({"--prior", write("prior.json", "{}")}), "prior.json");
}

TEST_F(BadInput, ScriptsWithUnknownKeys) {
  expect_refused(capture_with({"--script", write("s.json", R"([{"at_token": 1, "polici": "lfu"}])")}), "polici");
  expect_refused(capture_with({"--script", write("s.json", R"([{"at_token": 1, "policy": "nonesuch"}])")}), "nonesuch");
  expect_refused(capture_with({"--script", write("s.json", "not json")}), "s.json");
}

TEST_F(BadInput, ExpectationsOfWhatNoReportHas) {
  expect_refused(capture_with({"--expect", "decode.tokens_per_s is fast"}), "--expect");
  expect_refused(capture_with({"--expect", "decode.nonesuch >= 1"}), "nonesuch");
  EXPECT_FALSE(std::filesystem::exists(path("run.expertscope")));
}

TEST_F(BadInput, FoldersThatCannotBeWritten) {
  expect_refused({"capture", "--tokens", "4", "--out", path("nowhere/run.expertscope")}, "run.expertscope");
  expect_refused({"capture", "--tokens", "4", "--out", folder_.string()}, folder_.string());
  expect_refused({"capture", "--tokens", "4", "--out", "/proc/run.expertscope"}, "/proc/run.expertscope");
  expect_refused(capture_with({"--json", path("nowhere/report.json")}), "report.json");
}

TEST_F(BadInput, AFileOfTheUsersIsNotOverwritten) {
  const std::string diary = write("diary.txt", "Dear diary");
  expect_refused({"capture", "--tokens", "4", "--out", diary}, "diary.txt");
  EXPECT_EQ(read_text(diary), "Dear diary");
}

TEST_F(BadInput, SessionsThatAreNone) {
  const std::string text = write("text.expertscope", "hello, I am a text file");
  for (const char* command : {"report", "open"}) {
    expect_refused({command, text}, "text.expertscope");
    expect_refused({command, path("none.expertscope")}, "none.expertscope");
    expect_refused({command, folder_.string()}, folder_.string());
  }
  expect_refused({"replay", text, "--policies", "all", "--cache-ratios", "0.5"}, "text.expertscope");
}

TEST_F(BadInput, ASessionFromANewerVersion) {
  capture("run.expertscope", {"--tokens", "2"});
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path("run.expertscope").c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database, "PRAGMA user_version = 9999", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(database);
  expect_refused({"report", path("run.expertscope")}, "newer");
  expect_refused({"open", path("run.expertscope")}, "newer");
}

TEST_F(BadInput, ListsOfReplayThatMakeNoSense) {
  capture("run.expertscope", {"--tokens", "2"});
  const std::string session = path("run.expertscope");
  expect_refused({"replay", session, "--policies", "nonesuch", "--cache-ratios", "0.5"}, "nonesuch");
  expect_refused({"replay", session, "--policies", "lfu", "--cache-ratios", "2"}, "--cache-ratios");
  expect_refused({"replay", session, "--policies", "evictor=lfu"}, "evictor=lfu");
  expect_refused({"replay", session, "--policies", "resident", "--cache-ratios", "0.5"}, "resident");
}

}  // namespace
}  // namespace expertscope::testing
