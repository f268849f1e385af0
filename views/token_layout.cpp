#include "views/token_layout.h"

#include <algorithm>
#include <iterator>
#include <utility>

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

void TokenLines::Block::add(TokenBox box, float width) {
  const bool after_break = !boxes.empty() && boxes.back().text.ends_with("↵");
  if (boxes.empty() || after_break || (x > 0 && x + box.width > width)) {
    first_of_line.push_back(boxes.size());
    x = 0;
  }
  box.x = x;
  x += box.width;
  boxes.push_back(std::move(box));
}

std::size_t TokenLines::block_of(std::uint32_t prompt) {
  const auto [known, is_new] = number_.try_emplace(prompt, blocks_.size());
  if (is_new) blocks_.emplace_back().prompt = static_cast<int>(prompt);
  return known->second;
}

void TokenLines::update(const Trace& trace, float width, const TextWidth& width_of) {
  if (width != width_ || &trace != trace_ || places_.size() > trace.tokens.size()) {
    *this = {};
    width_ = width;
    trace_ = &trace;
  }
  std::size_t first_changed = blocks_.size();
  for (std::size_t i = places_.size(); i < trace.tokens.size(); ++i) {
    const std::size_t number = block_of(trace.tokens[i].prompt);
    Block& block = blocks_[number];
    std::string text = token_text(trace, trace.tokens[i].id);
    const float text_width = width_of(text);
    block.add({.token = static_cast<std::uint32_t>(i), .width = text_width, .text = std::move(text)}, width);
    places_.push_back({static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(block.first_of_line.size())});
    first_changed = std::min(first_changed, number);
  }
  for (std::size_t b = first_changed; b < blocks_.size(); ++b)
    blocks_[b].first_line = b == 0 ? 0 : blocks_[b - 1].first_line + blocks_[b - 1].lines();
}

const TokenLines::Block& TokenLines::at_line(std::size_t line) const {
  return *std::prev(std::ranges::upper_bound(blocks_, line, {}, &Block::first_line));
}

std::span<const TokenBox> TokenLines::of_line(std::size_t line) const {
  const Block& block = at_line(line);
  if (line == block.first_line) return {};
  const std::size_t below = line - block.first_line;  // from 1
  const std::size_t first = block.first_of_line[below - 1];
  const std::size_t last = below < block.first_of_line.size() ? block.first_of_line[below] : block.boxes.size();
  return std::span(block.boxes).subspan(first, last - first);
}

int TokenLines::heading_of(std::size_t line) const {
  const Block& block = at_line(line);
  return line == block.first_line ? block.prompt : -1;
}

std::size_t TokenLines::line_of_token(std::uint32_t token) const {
  if (token >= places_.size()) return 0;
  return blocks_[places_[token].block].first_line + places_[token].line;
}

}  // namespace expertscope
