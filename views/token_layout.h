// Token texts flowed into lines, and what colour a token's cost has. Pure: the width of a text is asked of a function.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/trace.h"

namespace expertscope {

using TextWidth = std::function<float(std::string_view)>;

struct TokenBox {
  std::uint32_t token = 0;  // index into Trace::tokens
  std::uint32_t line = 0;
  float x = 0, width = 0;
};

// Lines of tokens for one width; extended as tokens come, laid out anew when the width changes.
class TokenLines {
 public:
  void update(const Trace&, float width, const TextWidth&);
  std::size_t lines() const { return first_of_line_.size(); }
  // Boxes [first, last) of a line.
  std::pair<std::size_t, std::size_t> of_line(std::size_t line) const;
  const std::vector<TokenBox>& boxes() const { return boxes_; }
  const std::string& text(std::size_t box) const { return texts_[box]; }
  // Prompt whose heading stands above this line, or -1.
  int heading_of(std::size_t line) const { return headings_[line]; }
  std::size_t line_of_token(std::uint32_t token) const;

 private:
  void start_line(int heading);

  float width_ = -1;
  const Trace* trace_ = nullptr;
  std::vector<TokenBox> boxes_;
  std::vector<std::string> texts_;  // as shown, by box
  std::vector<std::size_t> first_of_line_;
  std::vector<int> headings_;
  float x_ = 0;
  std::uint32_t next_ = 0;
};

// A piece as it is shown: control characters as signs, broken UTF-8 as "·". A line break ends with "↵".
std::string shown_piece(std::string_view bytes);
// The text of a token id, or "#id" when the session does not know it.
std::string token_text(const Trace&, std::int32_t id);

}  // namespace expertscope
