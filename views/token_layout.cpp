#include "views/token_layout.h"

#include <algorithm>

namespace expertscope {
namespace {

// Length of the UTF-8 character that starts here, 0 when there is no valid one.
std::size_t character_length(std::string_view bytes) {
  const auto lead = static_cast<unsigned char>(bytes[0]);
  const std::size_t length = lead < 0x80                   ? 1
                             : lead >= 0xc2 && lead < 0xe0 ? 2
                             : lead >= 0xe0 && lead < 0xf0 ? 3
                             : lead >= 0xf0 && lead < 0xf5 ? 4
                                                           : 0;
  if (length == 0 || length > bytes.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((static_cast<unsigned char>(bytes[i]) & 0xc0) != 0x80) return 0;
  return length;
}

}  // namespace

std::string shown_piece(std::string_view bytes) {
  std::string shown;
  while (!bytes.empty()) {
    const std::size_t length = character_length(bytes);
    if (length == 0) {
      shown += "·";
    } else if (bytes[0] == '\n') {
      shown += "↵";
    } else if (bytes[0] == '\t') {
      shown += "→ ";
    } else if (static_cast<unsigned char>(bytes[0]) < 0x20 || bytes[0] == 0x7f) {
      shown += "·";
    } else {
      shown += bytes.substr(0, length);
    }
    bytes.remove_prefix(std::max<std::size_t>(1, length));
  }
  return shown;
}

std::string token_text(const Trace& trace, std::int32_t id) {
  const auto piece = trace.pieces.find(id);
  return piece == trace.pieces.end() ? "#" + std::to_string(id) : shown_piece(piece->second);
}

void TokenLines::start_line(int heading) {
  first_of_line_.push_back(boxes_.size());
  headings_.push_back(heading);
  x_ = 0;
}

void TokenLines::update(const Trace& trace, float width, const TextWidth& width_of) {
  if (width != width_ || &trace != trace_ || next_ > trace.tokens.size()) {
    *this = {};
    width_ = width;
    trace_ = &trace;
  }
  for (; next_ < trace.tokens.size(); ++next_) {
    const TokenRecord& token = trace.tokens[next_];
    if (next_ == 0 || token.prompt != trace.tokens[next_ - 1].prompt) {
      start_line(static_cast<int>(token.prompt));
      start_line(-1);
    }
    std::string text = token_text(trace, token.id);
    const float text_width = width_of(text);
    if (x_ > 0 && x_ + text_width > width) start_line(-1);
    boxes_.push_back({next_, static_cast<std::uint32_t>(first_of_line_.size() - 1), x_, text_width});
    x_ += text_width;
    const bool breaks = text.ends_with("↵");
    texts_.push_back(std::move(text));
    if (breaks) start_line(-1);
  }
}

std::pair<std::size_t, std::size_t> TokenLines::of_line(std::size_t line) const {
  return {first_of_line_[line], line + 1 < first_of_line_.size() ? first_of_line_[line + 1] : boxes_.size()};
}

std::size_t TokenLines::line_of_token(std::uint32_t token) const {
  return token < boxes_.size() ? boxes_[token].line : 0;
}

}  // namespace expertscope
