// Token texts flowed into lines, and what colour a token's cost has. Pure: the width of a text is asked of a function.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "profiler/trace.h"

namespace expertscope {

using TextWidth = std::function<float(std::string_view)>;

struct TokenBox {
  std::uint32_t token = 0;  // index into Trace::tokens
  float x = 0, width = 0;
  std::string text;  // as shown
};

// Lines of tokens for one width, each prompt's together under its heading, also where several were decoded together.
// Extended as tokens come, laid out anew when the width changes.
class TokenLines {
 public:
  void update(const Trace&, float width, const TextWidth&);
  std::size_t lines() const { return blocks_.empty() ? 0 : blocks_.back().first_line + blocks_.back().lines(); }
  // Empty for the line of a heading.
  std::span<const TokenBox> of_line(std::size_t line) const;
  // Prompt whose heading this line is, or -1.
  int heading_of(std::size_t line) const;
  std::size_t line_of_token(std::uint32_t token) const;

 private:
  struct Block {
    int prompt = 0;
    std::size_t first_line = 0;              // that of its heading
    float x = 0;                             // where the next token begins
    std::vector<TokenBox> boxes;             // of its text
    std::vector<std::size_t> first_of_line;  // below the heading: its first box
    std::size_t lines() const { return 1 + first_of_line.size(); }
    void add(TokenBox, float width);
  };
  struct Place {
    std::uint32_t block = 0, line = 0;  // 0: the heading
  };
  std::size_t block_of(std::uint32_t prompt);
  const Block& at_line(std::size_t line) const;

  float width_ = -1;
  const Trace* trace_ = nullptr;
  std::vector<Block> blocks_;                              // in the order in which their prompts began
  std::unordered_map<std::uint32_t, std::size_t> number_;  // of a prompt's block
  std::vector<Place> places_;                              // by token
};

// A piece as it is shown: control characters as signs, broken UTF-8 as "·". A line break ends with "↵".
std::string shown_piece(std::string_view bytes);
// The text of a token id, or "#id" when the session does not know it.
std::string token_text(const Trace&, std::int32_t id);

}  // namespace expertscope
