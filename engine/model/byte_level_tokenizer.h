// Byte-level byte-pair tokenizer (`tokenizer.ggml.model = gpt2`): a text is cut into words, the bytes of a word merge
// in the order in which the merges were learnt. In the file every byte is written as one printable character.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/model/pre_tokenizer.h"
#include "engine/model/tokenizer.h"

namespace expertscope {

class ByteLevelTokenizer : public Tokenizer {
 public:
  static constexpr std::string_view kKind = "gpt2";

  ByteLevelTokenizer(const GgufReader& file, int vocab);  // throws InputError

  std::string bytes(std::int32_t id) const override;
  std::string_view kind() const override { return kKind; }
  std::string_view pre_tokenizer() const override { return pre_tokenizer_.name(); }

 private:
  struct Merge {
    std::int32_t rank = 0, id = 0;
  };
  class Word;  // scratch for the merges of one word

  void read_tokens(const GgufReader& file);
  void read_merges(const GgufReader& file);
  std::int32_t merge_token(const GgufReader& file, std::size_t merge, std::string_view written) const;
  void check_bytes(const GgufReader& file) const;
  const Merge* find_merge(std::int32_t left, std::int32_t right) const;
  void append_tokens(std::string_view text, std::vector<std::int32_t>& out) const override;
  void append_plain(std::string_view text, Word& word, std::vector<std::int32_t>& out) const;
  std::pair<std::size_t, std::int32_t> user_token_at(std::string_view text) const;  // its length, 0 for none, and id

  PreTokenizer pre_tokenizer_;
  // pieces_ of normal tokens are bytes here, no longer as the file writes them.
  std::unordered_map<std::string_view, std::int32_t> by_bytes_;         // normal tokens, keys into pieces_
  std::unordered_map<std::uint64_t, Merge> merges_;                     // by the two ids
  std::vector<std::pair<std::string_view, std::int32_t>> user_tokens_;  // sorted; found in a text before it is cut
  std::int32_t byte_tokens_[256];
};

}  // namespace expertscope
