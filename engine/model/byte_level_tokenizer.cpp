#include "engine/model/byte_level_tokenizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <queue>

#include "engine/assert.h"
#include "engine/model/gguf_reader.h"
#include "engine/model/text_escape.h"

namespace expertscope {

namespace {

constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kPre = "tokenizer.ggml.pre";

// Bytes that are printable in Latin-1 are written as themselves, the others as the characters from U+0100 on, in order.
constexpr int kCharacters = 256 + 68;
constexpr bool is_printable(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}
constexpr std::array<std::int16_t, kCharacters> byte_of_character() {
  std::array<std::int16_t, kCharacters> bytes{};
  bytes.fill(-1);
  int next = 256;
  for (int byte = 0; byte < 256; ++byte)
    bytes[static_cast<std::size_t>(is_printable(byte) ? byte : next++)] = static_cast<std::int16_t>(byte);
  return bytes;
}

// The bytes that a token is written for; nothing when it has a character that stands for none.
std::optional<std::string> bytes_from(std::string_view written) {
  static constexpr auto kBytes = byte_of_character();
  std::string out;
  while (!written.empty()) {
    const int length = utf8_length(written);
    if (length != 1 && length != 2) return std::nullopt;
    auto character = static_cast<std::size_t>(static_cast<unsigned char>(written[0]));
    if (length == 2) character = (character & 0x1f) << 6 | (static_cast<unsigned char>(written[1]) & 0x3f);
    if (character >= kCharacters || kBytes[character] < 0) return std::nullopt;
    out += static_cast<char>(kBytes[character]);
    written.remove_prefix(static_cast<std::size_t>(length));
  }
  return out;
}

std::uint64_t key_of(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

}  // namespace

// A doubly linked list over the tokens of a word, and the merges that are possible in it.
class ByteLevelTokenizer::Word {
 public:
  explicit Word(const ByteLevelTokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void append_merged(std::string_view bytes, std::vector<std::int32_t>& out) {
    tokens_.clear();
    for (const char c : bytes) {
      const std::int32_t id = tokenizer_.byte_tokens_[static_cast<unsigned char>(c)];
      const auto i = static_cast<std::int32_t>(tokens_.size());
      tokens_.push_back({id, i - 1, i + 1});
    }
    tokens_.back().next = -1;
    for (std::int32_t i = 1; i < std::ssize(tokens_); ++i) propose(i - 1, i);
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      apply(best);
    }
    for (std::int32_t i = 0; i >= 0; i = at(i).next) out.push_back(at(i).id);
  }

 private:
  struct Token {
    std::int32_t id;              // -1 once merged into its left neighbour
    std::int32_t previous, next;  // -1 at the ends
  };
  struct Candidate {
    std::int32_t rank, left, right;  // positions
    std::int32_t left_id, right_id;  // when proposed; either may have merged since
  };
  struct Later {  // earliest merge first, then leftmost
    bool operator()(const Candidate& a, const Candidate& b) const {
      return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
    }
  };

  Token& at(std::int32_t i) { return tokens_[static_cast<std::size_t>(i)]; }

  void propose(std::int32_t left, std::int32_t right) {
    if (left < 0 || right < 0) return;
    const std::int32_t a = at(left).id, b = at(right).id;
    if (const Merge* merge = tokenizer_.find_merge(a, b)) candidates_.push({merge->rank, left, right, a, b});
  }

  void apply(const Candidate& candidate) {
    Token& left = at(candidate.left);
    Token& right = at(candidate.right);
    if (left.id != candidate.left_id || right.id != candidate.right_id || left.next != candidate.right) return;
    left.id = tokenizer_.find_merge(left.id, right.id)->id;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) at(left.next).previous = candidate.left;
    propose(left.previous, candidate.left);
    propose(candidate.left, left.next);
  }

  const ByteLevelTokenizer& tokenizer_;
  std::vector<Token> tokens_;
  std::priority_queue<Candidate, std::vector<Candidate>, Later> candidates_;
};

ByteLevelTokenizer::ByteLevelTokenizer(const GgufReader& file, int vocab)
    : Tokenizer(file, vocab), pre_tokenizer_(file.find_string(kPre).value_or("default")) {
  const std::optional<std::string> asked = file.find_string(kPre);
  if (!asked || !PreTokenizer::knows(*asked)) {
    notice_ = (asked ? "the pre-tokenizer '" + escaped(*asked) + "' of the model's file is not known"
                     : std::string("the model's file does not name a pre-tokenizer")) +
              ": text is cut into words by the default rules and may become other tokens than the model was trained on";
  }
  read_special_tokens(file, pre_tokenizer_.adds_bos());
  read_tokens(file);
  read_merges(file);
  std::sort(user_tokens_.begin(), user_tokens_.end());
}

void ByteLevelTokenizer::read_tokens(const GgufReader& file) {
  std::fill(std::begin(byte_tokens_), std::end(byte_tokens_), -1);
  by_bytes_.reserve(pieces_.size());
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    if (!is_utf8(pieces_[i])) file.fail_key(kTokens, "has a text that is not UTF-8 for token " + std::to_string(id));
    if (pieces_[i].empty()) continue;  // padding: stands for nothing
    if (types_[i] == PieceType::user) user_tokens_.emplace_back(pieces_[i], id);
    if (types_[i] != PieceType::normal && types_[i] != PieceType::byte) continue;
    std::optional<std::string> bytes = bytes_from(pieces_[i]);
    if (!bytes) continue;  // no text becomes it, but as output it stands for itself
    pieces_[i] = std::move(*bytes);
    const auto [same, added] = by_bytes_.emplace(pieces_[i], id);
    if (!added) {
      file.fail_key(kTokens, "has the same text for tokens " + std::to_string(same->second) + " and " +
                                 std::to_string(id) + ": " + in_quotes(pieces_[i]));
    }
    if (pieces_[i].size() == 1) byte_tokens_[static_cast<unsigned char>(pieces_[i][0])] = id;
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (byte_tokens_[byte] >= 0) continue;
    if (!unknown_)
      file.fail_key(kTokens, "has no token for byte " + std::to_string(byte) + ", and no unknown_token_id is given");
    byte_tokens_[byte] = *unknown_;
  }
}

// A half of a merge, as written in the file.
std::int32_t ByteLevelTokenizer::merge_token(const GgufReader& file, std::size_t merge,
                                             std::string_view written) const {
  const std::optional<std::string> bytes = bytes_from(written);
  const auto token = bytes ? by_bytes_.find(*bytes) : by_bytes_.end();
  if (token == by_bytes_.end())
    file.fail_key(kMerges, "names the unknown token " + in_quotes(written) + " in merge " + std::to_string(merge));
  return token->second;
}

void ByteLevelTokenizer::read_merges(const GgufReader& file) {
  const std::vector<std::string> merges = file.string_array(kMerges);
  merges_.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const std::string_view merge = merges[i];
    const std::size_t space = std::min(merge.find(' '), merge.size());
    if (space == 0 || space + 1 >= merge.size() || merge.find(' ', space + 1) != std::string_view::npos) {
      file.fail_key(kMerges, "has merge " + std::to_string(i) + " as " + in_quotes(merge) +
                                 ", which is not two tokens with a space between");
    }
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    const std::int32_t left_id = merge_token(file, i, left), right_id = merge_token(file, i, right);
    const std::int32_t id = merge_token(file, i, std::string(left) + std::string(right));
    if (!merges_.try_emplace(key_of(left_id, right_id), Merge{static_cast<std::int32_t>(i), id}).second)
      file.fail_key(kMerges, "has " + in_quotes(merge) + " twice");
  }
}

const ByteLevelTokenizer::Merge* ByteLevelTokenizer::find_merge(std::int32_t left, std::int32_t right) const {
  const auto merge = merges_.find(key_of(left, right));
  return merge == merges_.end() ? nullptr : &merge->second;
}

// The longest user-defined token that the text begins with. Narrows the sorted list byte by byte.
std::pair<std::size_t, std::int32_t> ByteLevelTokenizer::user_token_at(std::string_view text) const {
  std::pair<std::size_t, std::int32_t> longest{0, -1};
  auto first = user_tokens_.begin(), last = user_tokens_.end();
  for (std::size_t n = 0; n < text.size() && first != last; ++n) {
    const auto byte = [n](const auto& token) {
      return token.first.size() > n ? static_cast<int>(static_cast<unsigned char>(token.first[n])) : -1;
    };
    const int wanted = static_cast<unsigned char>(text[n]);
    first = std::partition_point(first, last, [&](const auto& token) { return byte(token) < wanted; });
    last = std::partition_point(first, last, [&](const auto& token) { return byte(token) <= wanted; });
    if (first != last && first->first.size() == n + 1) longest = {n + 1, first->second};
  }
  return longest;
}

void ByteLevelTokenizer::append_tokens(std::string_view text, std::vector<std::int32_t>& out) const {
  Word word(*this);
  std::size_t plain = 0;  // where the text since the last user-defined token begins
  for (std::size_t i = 0; i < text.size() && !user_tokens_.empty();) {
    const auto [length, id] = user_token_at(text.substr(i));
    if (length == 0) {
      ++i;
      continue;
    }
    append_plain(text.substr(plain, i - plain), word, out);
    out.push_back(id);
    plain = i += length;
  }
  append_plain(text.substr(plain), word, out);
}

void ByteLevelTokenizer::append_plain(std::string_view text, Word& word, std::vector<std::int32_t>& out) const {
  pre_tokenizer_.split(text, [&](std::string_view bytes) {
    if (pre_tokenizer_.words_before_merges()) {
      if (const auto whole = by_bytes_.find(bytes); whole != by_bytes_.end()) return out.push_back(whole->second);
    }
    word.append_merged(bytes, out);
  });
}

std::string ByteLevelTokenizer::bytes(std::int32_t id) const {
  ES_ASSERT(id >= 0 && id < size(), "a token of the vocabulary");
  switch (types_[static_cast<std::size_t>(id)]) {
    case PieceType::normal:
    case PieceType::user:
    case PieceType::byte:
      return pieces_[static_cast<std::size_t>(id)];
    default:
      return {};
  }
}

}  // namespace expertscope
