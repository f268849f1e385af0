// Tables in JSON files: base64 with padding (RFC 4648), numbers little-endian.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace expertscope {

std::string to_base64(std::span<const std::uint8_t> bytes);
// Nothing where the text is not base64.
std::optional<std::vector<std::uint8_t>> from_base64(std::string_view text);

}  // namespace expertscope
