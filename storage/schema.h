// The text of storage/schema.sql, built into the program. Internal to storage/.
#pragma once

#include <cstdint>
#include <string_view>

namespace expertscope {

std::string_view schema_sql();

inline constexpr std::uint32_t kApplicationId = 0x45585053;  // "EXPS"
inline constexpr std::uint32_t kSchemaVersion = 1;           // user_version; grows with every migration

}  // namespace expertscope
