// What every tokenizer offers, whatever its kind. Immutable after construction; all functions may be called from any
// thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace expertscope {

class GgufReader;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;  // look-ups point into pieces_
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Token ids of a text. The text is never parsed for special tokens: "<s>" is three characters. With `add_bos`, BOS
  // comes first where the file asks for it.
  std::vector<std::int32_t> encode(std::string_view text, bool add_bos = true) const;

  // Text of a run of tokens, always valid UTF-8: bytes that form no character become U+FFFD, control tokens nothing.
  // The space that encode() may put before a text is taken off again when `at_start`.
  std::string decode(std::span<const std::int32_t> ids, bool at_start = true) const;

  // The bytes one token stands for, possibly part of a character; nothing for control tokens.
  virtual std::string bytes(std::int32_t id) const = 0;

  // One token as a label: control characters escaped (\n, \t, \x1b), a lone part of a character as \xNN, tokens without
  // a text by their name. Always valid UTF-8 without control characters.
  std::string label(std::int32_t id) const;

  int size() const { return static_cast<int>(pieces_.size()); }
  std::optional<std::int32_t> bos() const { return bos_; }
  std::optional<std::int32_t> eos() const { return eos_; }
  bool adds_bos() const { return add_bos_; }
  bool adds_space_prefix() const { return add_space_prefix_; }
  virtual std::string_view kind() const = 0;           // as tokenizer.ggml.model says
  virtual std::string_view pre_tokenizer() const = 0;  // the rules by which it cuts a text into words, "" for none
  const std::optional<std::string>& notice() const { return notice_; }  // what it does instead of what the file asks

 protected:
  enum class PieceType : std::int32_t { normal = 1, unknown, control, user, unused, byte };

  // Reads and checks what all kinds have; throws InputError. `vocab` is the number of rows of the model's embedding.
  Tokenizer(const GgufReader& file, int vocab);
  // The special tokens. `add_bos` holds where the file does not say whether BOS comes first.
  void read_special_tokens(const GgufReader& file, bool add_bos);

  virtual void append_tokens(std::string_view text, std::vector<std::int32_t>& out) const = 0;

  std::vector<std::string> pieces_;  // by id
  std::vector<PieceType> types_;
  std::optional<std::int32_t> bos_, eos_, unknown_;
  bool add_bos_ = false, add_space_prefix_ = false;
  std::optional<std::string> notice_;
};

// The kind of tokenizer in a file's metadata, "none" without one.
std::string tokenizer_kind(const GgufReader& file);

// The tokenizer in a file's metadata; null when there is none or its kind is not supported. Throws InputError when its
// metadata is damaged or does not fit the model.
std::unique_ptr<const Tokenizer> load_tokenizer(const GgufReader& file, int vocab);

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
