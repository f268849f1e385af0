// A model whose tokenizer asks for rules that we do not know: it runs, and the session says what was done instead.
#include <gmock/gmock.h>

#include "tests/app/program.h"
#include "tests/engine/model/gguf_writer.h"

namespace expertscope::testing {
namespace {

using ::testing::HasSubstr;

// The tiny model with a byte-level tokenizer of single bytes; rows of its embedding that are left over are padding.
std::string byte_level_model(const std::string& pre_tokenizer) {
  GgufWriter writer = tiny_model();
  const auto golden = nlohmann::json::parse(read_text(std::string(ES_TESTS_DIR) + "/golden/byte_level_bpe.json"));
  auto tokens = golden["tokens"].get<std::vector<std::string>>();
  const auto rows = static_cast<std::size_t>(writer.tensor("token_embd.weight").shape[1]);
  tokens.resize(256);  // the bytes come first
  std::vector<std::int32_t> types(256, 1);
  while (tokens.size() < rows) {
    tokens.push_back("[PAD" + std::to_string(tokens.size()) + "]");
    types.push_back(5);
  }
  writer.set_string("tokenizer.ggml.model", "gpt2");
  writer.set_string("tokenizer.ggml.pre", pre_tokenizer);
  writer.set_strings("tokenizer.ggml.tokens", tokens);
  writer.set_strings("tokenizer.ggml.merges", {});
  writer.set_numbers("tokenizer.ggml.token_type", GgufType::i32, types);
  return writer.file();
}

class UnknownPreTokenizer : public ProgramTest {};

TEST_F(UnknownPreTokenizer, RunsByTheDefaultRulesAndStaysInTheSessionsHealth) {
  const std::string model = write("model.gguf", byte_level_model("vogon"));
  const auto report = capture("run.expertscope", {"--model", model, "--prompt", "Hello", "--tokens", "2"});
  ASSERT_TRUE(report["health"].contains("tokenizer.default_rules")) << report["health"];
  const auto& note = report["health"]["tokenizer.default_rules"];
  EXPECT_EQ(note["severity"], "warning");
  EXPECT_THAT(note["text"].get<std::string>(), HasSubstr("'vogon'"));
  const Outcome later = run_program({"report", path("run.expertscope"), "--json"});
  EXPECT_THAT(later.out, HasSubstr("tokenizer.default_rules"));
}

TEST_F(UnknownPreTokenizer, IsNamedByInfo) {
  const std::string model = write("model.gguf", byte_level_model("vogon"));
  const Outcome info = run_program({"info", model});
  EXPECT_EQ(info.exit_code, 0) << info.err;
  EXPECT_THAT(info.out, HasSubstr("gpt2 with pre-tokenizer default"));
  EXPECT_THAT(info.out, HasSubstr("'vogon' of the model's file is not known"));
}

TEST_F(UnknownPreTokenizer, IsNoneOfThoseThatWeKnow) {
  const std::string model = write("model.gguf", byte_level_model("qwen2"));
  const auto report = capture("run.expertscope", {"--model", model, "--prompt", "Hello", "--tokens", "2"});
  EXPECT_FALSE(report["health"].contains("tokenizer.default_rules")) << report["health"];
}

}  // namespace
}  // namespace expertscope::testing
