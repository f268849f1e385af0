#include "engine/model/tokenizer.h"

#include <random>

#include <gtest/gtest.h>

#include "engine/model/sentencepiece_tokenizer.h"
#include "engine/model/text_escape.h"
#include "tests/engine/model/demo_model.h"
#include "tests/engine/model/gguf_writer.h"

namespace expertscope {
namespace {

const Tokenizer& demo() {
  return demo_model().tokenizer();
}

std::string round_trip(const std::string& text) {
  const std::vector<std::int32_t> ids = demo().encode(text);
  return demo().decode(ids);
}

TEST(Tokenizer, BringsBackTheTextItWasGiven) {
  for (const std::string text :
       {"Hello, world", " leading space", "two  spaces\n\tand a tab", "größer, façade, ¿qué?", "日本語 🙂", "a"}) {
    EXPECT_EQ(round_trip(text), text);
  }
}

TEST(Tokenizer, GivesOnlyBosForNothing) {
  EXPECT_EQ(demo().encode(""), std::vector<std::int32_t>{1});
  EXPECT_TRUE(demo().encode("", false).empty());
}

TEST(Tokenizer, NeverParsesSpecialTokensOutOfText) {
  for (const std::int32_t id : demo().encode("<s> </s> <unk> <0x41>", false)) EXPECT_GT(demo().bytes(id).size(), 0u);
  EXPECT_EQ(round_trip("<s> </s> <unk> <0x41>"), "<s> </s> <unk> <0x41>");
}

TEST(Tokenizer, FallsBackToBytes) {
  const std::vector<std::int32_t> ids = demo().encode("🙂", false);
  EXPECT_EQ(ids.size(), 5u);  // the space in front and four bytes
  EXPECT_EQ(demo().label(ids[1]), "\\xf0");
}

TEST(Tokenizer, WritesInvalidBytesAsReplacementCharacters) {
  EXPECT_EQ(round_trip("a\xff"
                       "b"),
            "a\xef\xbf\xbd"
            "b");
  EXPECT_EQ(round_trip("cut \xe2\x82"), "cut \xef\xbf\xbd");
}

TEST(Tokenizer, DecodesTheSameTextAsAStream) {
  const std::string text = "größer 🙂 日本語 done";
  TextStream stream(demo());
  std::string joined;
  for (const std::int32_t id : demo().encode(text)) {
    const std::string piece = stream.push(id);
    EXPECT_TRUE(is_utf8(piece));
    joined += piece;
  }
  EXPECT_EQ(joined + stream.finish(), text);
}

TEST(Tokenizer, KeepsTheSpaceInTheMiddleOfAText) {
  const std::vector<std::int32_t> was = demo().encode("was", false);
  EXPECT_EQ(demo().decode(was), "was");
  EXPECT_EQ(demo().decode(was, false), " was");
}

TEST(Tokenizer, LabelsTokensWithoutControlCharacters) {
  EXPECT_EQ(demo().label(1), "<s>");
  EXPECT_EQ(demo().bytes(1), "");
  for (std::int32_t id = 0; id < demo().size(); ++id) {
    EXPECT_TRUE(is_utf8(demo().label(id)) && !has_control_characters(demo().label(id))) << id;
  }
}

TEST(Tokenizer, EncodesAnyBytesWithoutLosingAny) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (unsigned n = random() % 40; n > 0; --n)
      text += static_cast<char>(random() % 3 ? 'a' + random() % 26 : random());
    std::string bytes;
    for (const std::int32_t id : demo().encode(text, false)) bytes += demo().bytes(id);
    EXPECT_EQ(bytes, text.empty() ? "" : " " + text);
  }
}

TEST(Tokenizer, UsesTheUnknownTokenWhereThereAreNoByteTokens) {
  GgufWriter writer;
  writer.set_strings("tokenizer.ggml.tokens", {"<unk>", "\xe2\x96\x81", "a"});
  writer.set_numbers("tokenizer.ggml.scores", GgufType::f32, std::vector<float>{0, -1, -2});
  writer.set_numbers("tokenizer.ggml.token_type", GgufType::i32, std::vector<std::int32_t>{2, 1, 1});
  const TemporaryFile file(writer.file());
  const GgufReader reader(file.path());
  const SentencePieceTokenizer tokenizer(reader, 3);
  EXPECT_EQ(tokenizer.encode("aéa"), (std::vector<std::int32_t>{1, 2, 0, 2}));
}

}  // namespace
}  // namespace expertscope
