// The text of storage/schema.sql, built into the program. Internal to storage/.
#pragma once

#include <cstdint>
#include <string_view>

namespace expertscope {

inline constexpr std::uint32_t kApplicationId = 0x45585053;  // "EXPS"
inline constexpr std::uint32_t kSchemaVersion = 3;           // user_version; grows with every addition
inline constexpr std::uint32_t kOldestSchemaVersion = 1;     // that is still read

// Of the schema with this number: what later ones added is left out.
std::string_view schema_sql(std::uint32_t version = kSchemaVersion);

}  // namespace expertscope
