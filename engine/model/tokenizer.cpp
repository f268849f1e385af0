#include "engine/model/tokenizer.h"

#include "engine/assert.h"
#include "engine/model/byte_level_tokenizer.h"
#include "engine/model/gguf_reader.h"
#include "engine/model/sentencepiece_tokenizer.h"
#include "engine/model/text_escape.h"

namespace expertscope {

namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

// Moves the whole characters at the start of `bytes` to the result, bytes that cannot be one as U+FFFD. What may still
// become a character stays.
std::string take_characters(std::string& bytes) {
  std::string out;
  std::string_view rest = bytes;
  while (!rest.empty() && !is_utf8_beginning(rest)) {
    const auto n = static_cast<std::size_t>(utf8_length(rest));
    out += n > 0 ? rest.substr(0, n) : kReplacement;
    rest.remove_prefix(n > 0 ? n : 1);
  }
  bytes = std::string(rest);
  return out;
}

}  // namespace

Tokenizer::Tokenizer(const GgufReader& file, int vocab) {
  constexpr const char* kTokens = "tokenizer.ggml.tokens";
  constexpr const char* kTypes = "tokenizer.ggml.token_type";
  pieces_ = file.string_array(kTokens);
  if (pieces_.size() != static_cast<std::size_t>(vocab)) {
    file.fail_key(kTokens, "has " + std::to_string(pieces_.size()) + " tokens, but the model's embedding has " +
                               std::to_string(vocab) + " rows");
  }
  types_.assign(pieces_.size(), PieceType::normal);
  if (!file.has(kTypes)) return;
  const std::vector<std::int32_t> types = file.int32_array(kTypes);
  if (types.size() != pieces_.size()) file.fail_key(kTypes, "has another number of entries than there are tokens");
  for (std::size_t id = 0; id < types.size(); ++id) {
    if (types[id] < 1 || types[id] > 6)
      file.fail_key(kTypes, "has unknown type " + std::to_string(types[id]) + " for token " + std::to_string(id));
    types_[id] = static_cast<PieceType>(types[id]);
  }
}

void Tokenizer::read_special_tokens(const GgufReader& file, bool add_bos) {
  const auto token = [&](const char* key) -> std::optional<std::int32_t> {
    if (!file.has(key)) return std::nullopt;
    return static_cast<std::int32_t>(file.integer(key, 0, size() - 1));
  };
  bos_ = token("tokenizer.ggml.bos_token_id");
  eos_ = token("tokenizer.ggml.eos_token_id");
  unknown_ = token("tokenizer.ggml.unknown_token_id");
  add_bos_ = file.find_bool("tokenizer.ggml.add_bos_token").value_or(add_bos) && bos_;
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_bos) const {
  std::vector<std::int32_t> ids;
  if (add_bos && add_bos_) ids.push_back(*bos_);
  if (!text.empty()) append_tokens(text, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool at_start) const {
  TextStream stream(*this, at_start);
  std::string text;
  for (const std::int32_t id : ids) text += stream.push(id);
  return text + stream.finish();
}

std::string Tokenizer::label(std::int32_t id) const {
  const std::string text = bytes(id);
  const auto i = static_cast<std::size_t>(id);
  return escaped(text.empty() || types_[i] == PieceType::unknown ? pieces_[i] : text);
}

std::string tokenizer_kind(const GgufReader& file) {
  return file.find_string("tokenizer.ggml.model").value_or("none");
}

std::unique_ptr<const Tokenizer> load_tokenizer(const GgufReader& file, int vocab) {
  const std::string kind = tokenizer_kind(file);
  if (kind == SentencePieceTokenizer::kKind) return std::make_unique<SentencePieceTokenizer>(file, vocab);
  if (kind == ByteLevelTokenizer::kKind) return std::make_unique<ByteLevelTokenizer>(file, vocab);
  return nullptr;
}

std::string TextStream::push(std::int32_t id) {
  std::string bytes = tokenizer_->bytes(id);
  if (bytes.empty()) return {};
  if (at_start_ && tokenizer_->adds_space_prefix() && bytes.front() == ' ') bytes.erase(0, 1);
  at_start_ = false;
  held_ += bytes;
  return take_characters(held_);
}

std::string TextStream::finish() {
  std::string text;
  if (!held_.empty()) text = kReplacement;
  held_.clear();
  return text;
}

}  // namespace expertscope
