// SentencePiece-style byte-pair tokenizer (`tokenizer.ggml.model = llama`): pieces merge by score, spaces are the
// character ▁, characters outside the vocabulary become byte tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/model/tokenizer.h"

namespace expertscope {

class SentencePieceTokenizer : public Tokenizer {
 public:
  static constexpr std::string_view kKind = "llama";

  SentencePieceTokenizer(const GgufReader& file, int vocab);  // throws InputError

  std::string bytes(std::int32_t id) const override;
  std::string_view kind() const override { return kKind; }
  std::string_view pre_tokenizer() const override { return ""; }

 private:
  void add_byte_piece(const GgufReader& file, std::size_t id);
  void append_tokens(std::string_view text, std::vector<std::int32_t>& out) const override;
  void append_pieces(std::string_view text, std::vector<std::int32_t>& out) const;
  void append_bytes(std::string_view symbol, std::vector<std::int32_t>& out) const;

  std::vector<float> scores_;
  std::unordered_map<std::string_view, std::int32_t> mergeable_;  // normal and user-defined pieces, keys into pieces_
  std::int32_t byte_tokens_[256];                                 // -1 where the vocabulary has none
  std::vector<std::uint8_t> byte_values_;                         // by id, for byte tokens
};

}  // namespace expertscope
