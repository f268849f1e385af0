// Byte-level BPE must give the ids that the `tokenizers` package gives for the same vocabulary and rules
// (tests/golden/make_bpe.py), refuse metadata that cannot be true, and lose no byte of any text.
#include "engine/model/byte_level_tokenizer.h"

#include <chrono>
#include <fstream>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/model/gguf_reader.h"
#include "engine/model/text_escape.h"
#include "tests/engine/model/gguf_writer.h"

namespace expertscope {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Ids = std::vector<std::int32_t>;
using Strings = std::vector<std::string>;

constexpr std::int32_t kNormal = 1, kControl = 3, kUser = 4;

const nlohmann::json& golden() {
  static const nlohmann::json value =
      nlohmann::json::parse(std::ifstream(std::string(ES_TESTS_DIR) + "/golden/byte_level_bpe.json"));
  return value;
}

// The golden vocabulary, then the tokens that a test adds, as a file says it.
struct Vocabulary {
  Strings tokens = golden().at("tokens"), merges = golden().at("merges");
  std::vector<std::int32_t> types = std::vector<std::int32_t>(tokens.size(), kNormal);

  std::int32_t add(const std::string& token, std::int32_t type) {
    tokens.push_back(token);
    types.push_back(type);
    return static_cast<std::int32_t>(tokens.size()) - 1;
  }
  void write(GgufWriter& writer) const {
    writer.set_string("tokenizer.ggml.model", "gpt2");
    writer.set_strings("tokenizer.ggml.tokens", tokens);
    writer.set_strings("tokenizer.ggml.merges", merges);
    writer.set_numbers("tokenizer.ggml.token_type", GgufType::i32, types);
    writer.erase("tokenizer.ggml.scores");
  }
};

// A tokenizer from a file of nothing but its metadata.
class Loaded {
 public:
  explicit Loaded(const GgufWriter& writer, std::size_t vocab)
      : file_(writer.file()), reader_(file_.path()), tokenizer_(load_tokenizer(reader_, static_cast<int>(vocab))) {}
  const Tokenizer* operator->() const { return tokenizer_.get(); }
  const Tokenizer& operator*() const { return *tokenizer_; }

 private:
  TemporaryFile file_;
  GgufReader reader_;
  std::unique_ptr<const Tokenizer> tokenizer_;
};

Loaded load(const std::string& pre, const Vocabulary& vocabulary = {}) {
  GgufWriter writer;
  vocabulary.write(writer);
  writer.set_string("tokenizer.ggml.pre", pre);
  return Loaded(writer, vocabulary.tokens.size());
}

template <typename Change>
std::string refusal_after(Change change) {
  Vocabulary vocabulary;
  GgufWriter writer;
  change(vocabulary, writer);
  vocabulary.write(writer);
  change(vocabulary, writer);  // once more for what the vocabulary has just written
  try {
    const Loaded loaded(writer, vocabulary.tokens.size());
    return {};
  } catch (const InputError& error) {
    return error.what();
  }
}

std::string joined_bytes(const Tokenizer& tokenizer, const Ids& ids) {
  std::string bytes;
  for (const std::int32_t id : ids) bytes += tokenizer.bytes(id);
  return bytes;
}

class GoldenPreTokenizer : public testing::TestWithParam<std::string> {};

TEST_P(GoldenPreTokenizer, GivesTheIdsOfTheReferenceForEveryText) {
  const Loaded tokenizer = load(GetParam());
  const auto& texts = golden().at("texts");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(tokenizer->encode(texts[i].get<std::string>(), false), golden().at("ids").at(GetParam())[i].get<Ids>())
        << escaped(texts[i].get<std::string>());
  }
}

TEST_P(GoldenPreTokenizer, BringsBackEveryText) {
  const Loaded tokenizer = load(GetParam());
  for (const std::string text : golden().at("texts")) EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

TEST_P(GoldenPreTokenizer, LosesNoByteOfAnyText) {
  const Loaded tokenizer = load(GetParam());
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (unsigned n = random() % 60; n > 0; --n)
      text += static_cast<char>(random() % 3 ? "ae s'\n\t1"[random() % 8] : random());
    EXPECT_EQ(joined_bytes(*tokenizer, tokenizer->encode(text, false)), text);
  }
}

TEST_P(GoldenPreTokenizer, EncodesFiftyKilobytesOfAnythingInAFractionOfASecond) {
  const Loaded tokenizer = load(GetParam());
  std::string prose;
  while (prose.size() < 50'000) prose += golden().at("texts")[2].get<std::string>() + "\n";
  for (const std::string& text : {prose, std::string(50'000, 'a'), std::string(50'000, ' '), std::string(50'000, '\n'),
                                  std::string(50'000, '1'), std::string(50'000, '\xff'), std::string(50'000, '=')}) {
    const auto start = std::chrono::steady_clock::now();
    const Ids ids = tokenizer->encode(text, false);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(500)) << escaped(text.substr(0, 8));
    EXPECT_EQ(joined_bytes(*tokenizer, ids), text);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, GoldenPreTokenizer, testing::Values("qwen2", "llama-bpe", "olmo", "default"),
                         [](const auto& parameter) {
                           return parameter.param == "llama-bpe" ? std::string("llama_bpe") : parameter.param;
                         });

TEST(ByteLevelTokenizer, FindsUserDefinedTokensBeforeItCutsTheText) {
  Vocabulary vocabulary;
  for (const std::string token : golden().at("user_tokens")) vocabulary.add(token, kUser);
  const Loaded tokenizer = load("olmo", vocabulary);
  const auto& texts = golden().at("texts");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(tokenizer->encode(texts[i].get<std::string>(), false), golden().at("ids_with_user_tokens")[i].get<Ids>())
        << escaped(texts[i].get<std::string>());
  }
}

TEST(ByteLevelTokenizer, NeverParsesSpecialTokensOutOfText) {
  Vocabulary vocabulary;
  const std::int32_t end = vocabulary.add("<|endoftext|>", kControl);
  const Loaded tokenizer = load("qwen2", vocabulary);
  const Ids ids = tokenizer->encode("a<|endoftext|>b", false);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), end), 0);
  EXPECT_EQ(tokenizer->decode(ids), "a<|endoftext|>b");
  EXPECT_EQ(tokenizer->bytes(end), "");
  EXPECT_EQ(tokenizer->label(end), "<|endoftext|>");
}

TEST(ByteLevelTokenizer, PutsBosFirstWhereTheFileOrTheRulesAskForIt) {
  const auto first_ids = [](const std::string& pre, std::optional<bool> add_bos) {
    Vocabulary vocabulary;
    const std::int32_t bos = vocabulary.add("<|begin|>", kControl);
    GgufWriter writer;
    vocabulary.write(writer);
    writer.set_string("tokenizer.ggml.pre", pre);
    writer.set_u32("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(bos));
    if (add_bos) writer.set_bool("tokenizer.ggml.add_bos_token", *add_bos);
    return Loaded(writer, vocabulary.tokens.size())->encode("").size();
  };
  EXPECT_EQ(first_ids("qwen2", std::nullopt), 0u);
  EXPECT_EQ(first_ids("qwen2", true), 1u);
  EXPECT_EQ(first_ids("llama-bpe", std::nullopt), 1u);
  EXPECT_EQ(first_ids("llama-bpe", false), 0u);
}

TEST(ByteLevelTokenizer, GivesTheBytesOfATokenEvenWhenTheyArePartOfACharacter) {
  const Loaded tokenizer = load("qwen2");
  const Ids ids = tokenizer->encode("\xf0\x9f\xa6\x80", false);  // a crab, in no merge as a whole
  ASSERT_GT(ids.size(), 1u);
  EXPECT_EQ(joined_bytes(*tokenizer, ids), "\xf0\x9f\xa6\x80");
  TextStream stream(*tokenizer);
  std::string text;
  for (const std::int32_t id : ids) {
    EXPECT_EQ(text, "");
    text = stream.push(id);
  }
  EXPECT_EQ(text, "\xf0\x9f\xa6\x80");
  stream.push(ids[0]);
  EXPECT_EQ(stream.finish(), "\xef\xbf\xbd");
  for (std::int32_t id = 0; id < tokenizer->size(); ++id)
    EXPECT_TRUE(is_utf8(tokenizer->label(id)) && !has_control_characters(tokenizer->label(id))) << id;
}

TEST(ByteLevelTokenizer, KeepsASpaceAtTheStartOfAText) {
  const Vocabulary vocabulary;
  GgufWriter writer;
  vocabulary.write(writer);
  writer.set_bool("tokenizer.ggml.add_space_prefix", 1);  // has no meaning for this kind
  const Loaded tokenizer(writer, vocabulary.tokens.size());
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(" was")), " was");
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("was")), "was");
}

TEST(ByteLevelTokenizer, FallsBackToTheDefaultRulesAndSaysSo) {
  const Loaded unknown = load("vogon\x1b"), known = load("default");
  EXPECT_EQ(known->notice(), std::nullopt);
  EXPECT_EQ(unknown->pre_tokenizer(), "default");
  EXPECT_THAT(unknown->notice().value_or(""), AllOf(HasSubstr("'vogon\\x1b'"), HasSubstr("default rules")));
  const std::string text = golden().at("texts")[3];
  EXPECT_EQ(unknown->encode(text), known->encode(text));
  GgufWriter writer;
  const Vocabulary vocabulary;
  vocabulary.write(writer);
  EXPECT_THAT(Loaded(writer, vocabulary.tokens.size())->notice().value_or(""), HasSubstr("does not name"));
}

TEST(ByteLevelTokenizer, RefusesMergesThatCannotBeTrue) {
  const auto with_merge = [](const std::string& merge) {
    return refusal_after([&](Vocabulary& v, GgufWriter&) { v.merges.back() = merge; });
  };
  EXPECT_EQ(refusal_after([](Vocabulary&, GgufWriter&) {}), "");
  EXPECT_THAT(with_merge("a zzzz"), AllOf(HasSubstr("unknown token 'zzzz'"), HasSubstr("merge 899")));
  EXPECT_THAT(with_merge("! ?"), HasSubstr("unknown token '!?'"));
  EXPECT_THAT(with_merge("a \xe2\x96\x81"), HasSubstr("unknown token"));
  for (const char* merge : {"", "a", "a ", " a", "a b c", " "})
    EXPECT_THAT(with_merge(merge), HasSubstr("not two tokens")) << merge;
  const std::string first = golden().at("merges")[0];
  EXPECT_THAT(with_merge(first), HasSubstr("twice"));
  EXPECT_THAT(refusal_after([](Vocabulary&, GgufWriter& w) { w.erase("tokenizer.ggml.merges"); }),
              AllOf(HasSubstr("tokenizer.ggml.merges"), HasSubstr("is missing")));
  EXPECT_THAT(refusal_after([](Vocabulary&, GgufWriter& w) {
                w.set_numbers("tokenizer.ggml.merges", GgufType::u8, std::vector<std::uint8_t>(9, 1));
              }),
              HasSubstr("array of string"));
}

TEST(ByteLevelTokenizer, RefusesVocabulariesThatCannotBeTrue) {
  const auto with_last_token = [](const std::string& token) {
    return refusal_after([&](Vocabulary& v, GgufWriter&) { v.tokens.back() = token; });
  };
  EXPECT_THAT(with_last_token("a"), AllOf(HasSubstr("same text"), HasSubstr("'a'")));
  EXPECT_THAT(with_last_token("\xff"), HasSubstr("not UTF-8"));
  EXPECT_THAT(refusal_after([](Vocabulary& v, GgufWriter&) { v.types.resize(7); }), HasSubstr("number of entries"));
  EXPECT_THAT(refusal_after([](Vocabulary& v, GgufWriter&) { v.types[3] = 7; }), HasSubstr("unknown type 7"));
  EXPECT_THAT(refusal_after([](Vocabulary& v, GgufWriter&) {
                v.tokens = {"a"};
                v.types = {kNormal};
                v.merges.clear();
              }),
              HasSubstr("no token for byte 0"));
}

TEST(ByteLevelTokenizer, SurvivesEveryFlippedBitOfItsMetadata) {
  Vocabulary vocabulary;
  vocabulary.tokens.resize(256 + 3);
  vocabulary.types.resize(256 + 3);
  vocabulary.merges.resize(3);
  vocabulary.add("  ", kUser);
  GgufWriter writer;
  vocabulary.write(writer);
  writer.set_string("tokenizer.ggml.pre", "qwen2");
  const std::string whole = writer.file();
  int refused = 0, loaded = 0;
  for (std::size_t byte = 24; byte < whole.size(); ++byte) {
    std::string broken = whole;
    broken[byte] = static_cast<char>(broken[byte] ^ (1 << byte % 8));
    const TemporaryFile file(broken);
    try {
      const GgufReader reader(file.path());
      const auto tokenizer = load_tokenizer(reader, static_cast<int>(vocabulary.tokens.size()));
      if (tokenizer) tokenizer->decode(tokenizer->encode("I'm  12 \xff\n"));
      ++loaded;
    } catch (const InputError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);
  EXPECT_GT(loaded, 50);  // names of padding, user-defined tokens and the like may change
}

TEST(ByteLevelTokenizer, UsesTheUnknownTokenForBytesWithoutOne) {
  Vocabulary vocabulary;
  vocabulary.tokens = {"<unk>", "a", "b", "ab"};
  vocabulary.types = {2, kNormal, kNormal, kNormal};
  vocabulary.merges = {"a b"};
  GgufWriter writer;
  vocabulary.write(writer);
  writer.set_u32("tokenizer.ggml.unknown_token_id", 0);
  const Loaded tokenizer(writer, 4);
  EXPECT_EQ(tokenizer->encode("abxa"), (Ids{3, 0, 1}));
}

}  // namespace
}  // namespace expertscope
