#include "engine/model/text_escape.h"

#include <cstdint>

namespace expertscope {

namespace {

unsigned char byte_at(std::string_view text, std::size_t i) {
  return static_cast<unsigned char>(text[i]);
}

// Bytes the first byte announces, 0 when it cannot begin a character.
std::size_t announced_length(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return 2;
  if (first >= 0xe0 && first <= 0xef) return 3;
  if (first >= 0xf0 && first <= 0xf4) return 4;
  return 0;
}

// Whether the second byte keeps the character shortest, no surrogate, and at most U+10FFFF.
bool second_fits(unsigned char first, unsigned char second) {
  if ((second & 0xc0) != 0x80) return false;
  switch (first) {
    case 0xe0:
      return second >= 0xa0;
    case 0xed:
      return second <= 0x9f;
    case 0xf0:
      return second >= 0x90;
    case 0xf4:
      return second <= 0x8f;
    default:
      return true;
  }
}

// Bytes from the start that may belong to one character, at most what the first byte announces.
std::size_t fitting_bytes(std::string_view text) {
  if (text.empty()) return 0;
  const std::size_t wanted = announced_length(byte_at(text, 0));
  if (wanted <= 1) return wanted;
  std::size_t n = 1;
  while (n < wanted && n < text.size()) {
    const bool fits = n == 1 ? second_fits(byte_at(text, 0), byte_at(text, 1)) : (byte_at(text, n) & 0xc0) == 0x80;
    if (!fits) break;
    ++n;
  }
  return n;
}

bool is_control(std::string_view character) {
  const unsigned char first = byte_at(character, 0);
  return first < 0x20 || first == 0x7f || (first == 0xc2 && character.size() == 2 && byte_at(character, 1) < 0xa0);
}

}  // namespace

int utf8_length(std::string_view text) {
  const std::size_t n = fitting_bytes(text);
  return n > 0 && n == announced_length(byte_at(text, 0)) ? static_cast<int>(n) : 0;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const int n = utf8_length(text);
    if (n == 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

bool is_utf8_beginning(std::string_view text) {
  return !text.empty() && fitting_bytes(text) == text.size() && text.size() < announced_length(byte_at(text, 0));
}

bool has_control_characters(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_control(text.substr(i, 2))) return true;
  }
  return false;
}

std::string escaped(std::string_view text) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  while (!text.empty()) {
    const int length = utf8_length(text);
    const auto n = static_cast<std::size_t>(length > 0 ? length : 1);
    const std::string_view character = text.substr(0, n);
    if (length > 0 && !is_control(character)) {
      out += character;
    } else if (character == "\n") {
      out += "\\n";
    } else if (character == "\t") {
      out += "\\t";
    } else if (character == "\r") {
      out += "\\r";
    } else {
      for (const char c : character) {
        const auto byte = static_cast<unsigned char>(c);
        out += "\\x";
        out += kDigits[byte >> 4];
        out += kDigits[byte & 15];
      }
    }
    text.remove_prefix(n);
  }
  return out;
}

}  // namespace expertscope
