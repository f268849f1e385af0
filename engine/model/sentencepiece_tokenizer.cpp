#include "engine/model/sentencepiece_tokenizer.h"

#include <algorithm>
#include <cmath>
#include <queue>

#include "engine/assert.h"
#include "engine/model/gguf_reader.h"
#include "engine/model/text_escape.h"

namespace expertscope {

namespace {

constexpr std::string_view kSpaceMark = "\xe2\x96\x81";      // ▁
constexpr std::string_view kUnknownText = " \xe2\x81\x87 ";  // ⁇, as SentencePiece writes what it cannot decode

// "<0x0A>" to 10; -1 for anything else.
int value_of_byte_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  int value = 0;
  for (const char c : piece.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

std::string with_spaces(std::string_view piece) {
  std::string out;
  while (!piece.empty()) {
    if (piece.starts_with(kSpaceMark)) {
      out += ' ';
      piece.remove_prefix(kSpaceMark.size());
    } else {
      out += piece.front();
      piece.remove_prefix(1);
    }
  }
  return out;
}

// A run of the text during merging: a doubly linked list over the characters.
struct Symbol {
  std::string_view text;  // empty once merged into its left neighbour
  int previous, next;     // -1 at the ends
};

struct Merge {
  float score;
  int left, right;
  std::size_t bytes;  // of both when proposed; they may have grown since
};
struct MergeLater {  // best score first, then leftmost
  bool operator()(const Merge& a, const Merge& b) const {
    return a.score != b.score ? a.score < b.score : a.left > b.left;
  }
};

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(const GgufReader& file, int vocab) : Tokenizer(file, vocab) {
  constexpr const char* kScores = "tokenizer.ggml.scores";
  constexpr const char* kTypes = "tokenizer.ggml.token_type";
  scores_ = file.float_array(kScores);
  if (scores_.size() != pieces_.size()) file.fail_key(kScores, "has another number of entries than there are tokens");
  if (!file.has(kTypes)) file.fail_key(kTypes, "is missing; the file is incomplete, convert the model again");
  std::fill(std::begin(byte_tokens_), std::end(byte_tokens_), -1);
  byte_values_.resize(pieces_.size());
  for (std::size_t id = 0; id < pieces_.size(); ++id) {
    if (!std::isfinite(scores_[id])) file.fail_key(kScores, "is not finite for token " + std::to_string(id));
    if (types_[id] == PieceType::byte) add_byte_piece(file, id);
    if (types_[id] != PieceType::normal && types_[id] != PieceType::user) continue;
    if (pieces_[id].empty() || !is_utf8(pieces_[id])) {
      file.fail_key("tokenizer.ggml.tokens", "has an empty or non-UTF-8 text for token " + std::to_string(id));
    }
    mergeable_.emplace(pieces_[id], static_cast<std::int32_t>(id));
  }
  read_special_tokens(file, true);
  add_space_prefix_ = file.find_bool("tokenizer.ggml.add_space_prefix").value_or(true);
}

void SentencePieceTokenizer::add_byte_piece(const GgufReader& file, std::size_t id) {
  const int value = value_of_byte_piece(pieces_[id]);
  if (value < 0)
    file.fail_key("tokenizer.ggml.tokens", "has byte token " + std::to_string(id) + " not written as <0xNN>");
  byte_tokens_[value] = static_cast<std::int32_t>(id);
  byte_values_[id] = static_cast<std::uint8_t>(value);
}

void SentencePieceTokenizer::append_tokens(std::string_view text, std::vector<std::int32_t>& out) const {
  std::string marked;
  if (add_space_prefix_) marked += kSpaceMark;
  for (const char c : text) {
    if (c == ' ')
      marked += kSpaceMark;
    else
      marked += c;
  }
  append_pieces(marked, out);
}

// Merges neighbours, best score first, until no pair of neighbours is in the vocabulary.
void SentencePieceTokenizer::append_pieces(std::string_view text, std::vector<std::int32_t>& out) const {
  std::vector<Symbol> symbols;
  for (std::string_view rest = text; !rest.empty();) {
    const auto n = static_cast<std::size_t>(std::max(1, utf8_length(rest)));  // a stray byte stands for itself
    const int i = static_cast<int>(symbols.size());
    symbols.push_back({rest.substr(0, n), i - 1, n < rest.size() ? i + 1 : -1});
    rest.remove_prefix(n);
  }
  std::priority_queue<Merge, std::vector<Merge>, MergeLater> merges;
  const auto propose = [&](int left, int right) {
    if (left < 0 || right < 0) return;
    const auto& [a, b] =
        std::pair(symbols[static_cast<std::size_t>(left)].text, symbols[static_cast<std::size_t>(right)].text);
    const auto piece = mergeable_.find(std::string_view(a.data(), a.size() + b.size()));
    if (piece == mergeable_.end()) return;
    merges.push({scores_[static_cast<std::size_t>(piece->second)], left, right, a.size() + b.size()});
  };
  for (int i = 1; i < static_cast<int>(symbols.size()); ++i) propose(i - 1, i);
  while (!merges.empty()) {
    const Merge merge = merges.top();
    merges.pop();
    Symbol& left = symbols[static_cast<std::size_t>(merge.left)];
    Symbol& right = symbols[static_cast<std::size_t>(merge.right)];
    if (left.text.empty() || right.text.empty() || left.text.size() + right.text.size() != merge.bytes) continue;
    left.text = std::string_view(left.text.data(), merge.bytes);
    right.text = {};
    left.next = right.next;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = merge.left;
    propose(left.previous, merge.left);
    propose(merge.left, left.next);
  }
  for (const Symbol& symbol : symbols) {
    if (symbol.text.empty()) continue;
    const auto piece = mergeable_.find(symbol.text);
    if (piece != mergeable_.end())
      out.push_back(piece->second);
    else
      append_bytes(symbol.text, out);
  }
}

void SentencePieceTokenizer::append_bytes(std::string_view symbol, std::vector<std::int32_t>& out) const {
  for (const char c : symbol) {
    const std::int32_t id = byte_tokens_[static_cast<unsigned char>(c)];
    if (id < 0) {
      out.push_back(unknown_.value_or(0));
      return;  // one unknown token for the whole character
    }
    out.push_back(id);
  }
}

std::string SentencePieceTokenizer::bytes(std::int32_t id) const {
  ES_ASSERT(id >= 0 && id < size(), "a token of the vocabulary");
  const auto i = static_cast<std::size_t>(id);
  switch (types_[i]) {
    case PieceType::control:
      return {};
    case PieceType::unknown:
      return std::string(kUnknownText);
    case PieceType::byte:
      return std::string(1, static_cast<char>(byte_values_[i]));
    default:
      return with_spaces(pieces_[i]);
  }
}

}  // namespace expertscope
