// Text of unknown origin made fit to show: in a terminal, a window, or JSON.
#pragma once

#include <string>
#include <string_view>

namespace expertscope {

// Number of bytes of the UTF-8 character at the start of `text`; 0 when it is none (overlong, a surrogate, cut off, …).
int utf8_length(std::string_view text);
bool is_utf8(std::string_view text);
// True when bytes could still follow to make `text` one UTF-8 character.
bool is_utf8_beginning(std::string_view text);

// True for a text with C0 or C1 control characters or DEL.
bool has_control_characters(std::string_view text);

// Valid UTF-8 without control characters: \n, \t, \r by name, other control characters and bytes that are not UTF-8
// as \xNN.
std::string escaped(std::string_view text);

}  // namespace expertscope
