// SentencePiece-style byte-pair tokenizer from a file's metadata (`tokenizer.ggml.model = llama`).
// Immutable after construction; all functions may be called from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace expertscope {

class GgufReader;

class Tokenizer {
 public:
  // Reads and checks the metadata; throws InputError. `vocab` is the number of rows of the model's embedding.
  Tokenizer(const GgufReader& file, int vocab);
  Tokenizer(const Tokenizer&) = delete;  // mergeable_ points into pieces_
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Token ids of a text. The text is never parsed for special tokens: "<s>" is three characters. Pieces merge by score,
  // characters outside the vocabulary become byte tokens. With `add_bos`, BOS comes first where the file asks for it.
  std::vector<std::int32_t> encode(std::string_view text, bool add_bos = true) const;

  // Text of a run of tokens, always valid UTF-8: bytes that form no character become U+FFFD, control tokens nothing.
  // The space that encode() puts before a text is taken off again when `at_start`.
  std::string decode(std::span<const std::int32_t> ids, bool at_start = true) const;

  // The bytes one token stands for (a space for ▁), possibly part of a character; nothing for control tokens.
  std::string bytes(std::int32_t id) const;

  // One token as a label: control characters escaped (\n, \t, \x1b), a lone part of a character as \xNN, control tokens
  // by their name. Always valid UTF-8 without control characters.
  std::string label(std::int32_t id) const;

  int size() const { return static_cast<int>(pieces_.size()); }
  std::optional<std::int32_t> bos() const { return bos_; }
  std::optional<std::int32_t> eos() const { return eos_; }
  bool adds_bos() const { return add_bos_; }
  bool adds_space_prefix() const { return add_space_prefix_; }
  std::string_view kind() const { return "llama"; }

 private:
  enum class PieceType : std::int32_t { normal = 1, unknown, control, user, unused, byte };

  void add_byte_piece(const GgufReader& file, std::size_t id);
  void read_options(const GgufReader& file);
  void append_pieces(std::string_view text, std::vector<std::int32_t>& out) const;
  void append_bytes(std::string_view symbol, std::vector<std::int32_t>& out) const;

  std::vector<std::string> pieces_;
  std::vector<float> scores_;
  std::vector<PieceType> types_;
  std::unordered_map<std::string_view, std::int32_t> mergeable_;  // normal and user-defined pieces, keys into pieces_
  std::int32_t byte_tokens_[256];                                 // -1 where the vocabulary has none
  std::vector<std::uint8_t> byte_values_;                         // by id, for byte tokens
  std::optional<std::int32_t> bos_, eos_;
  std::int32_t unknown_ = 0;
  bool add_bos_ = true;
  bool add_space_prefix_ = true;
};

// Turns tokens into text as they come: holds back the start of a character until the rest has arrived.
class TextStream {
 public:
  // `at_start`: the first token begins a text, so the space before it is not part of it.
  explicit TextStream(const Tokenizer& tokenizer, bool at_start = true) : tokenizer_(&tokenizer), at_start_(at_start) {}
  std::string push(std::int32_t id);  // the text that became complete, often one token's, possibly nothing
  std::string finish();               // what was held back, as U+FFFD

 private:
  const Tokenizer* tokenizer_;
  bool at_start_;
  std::string held_;
};

}  // namespace expertscope
