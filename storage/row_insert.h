// Binds values of the program's types to a prepared INSERT. Internal to storage/.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "engine/ids.h"
#include "storage/sqlite.h"

namespace expertscope {

struct Blob {
  std::string_view bytes;
};
struct MaybeNone {  // kNone16 is stored as NULL
  std::uint16_t value;
};
using MaybeNumber = std::optional<std::int64_t>;  // empty is stored as NULL

template <typename T>
void bind_value(sqlite::Statement& statement, int index, const T& value) {
  if constexpr (std::is_same_v<T, Blob>) {
    statement.bind_blob(index, value.bytes);
  } else if constexpr (std::is_same_v<T, MaybeNone>) {
    if (value.value == kNone16)
      statement.bind_null(index);
    else
      statement.bind(index, std::int64_t{value.value});
  } else if constexpr (std::is_same_v<T, MaybeNumber>) {
    if (value)
      statement.bind(index, *value);
    else
      statement.bind_null(index);
  } else if constexpr (std::is_floating_point_v<T>) {
    statement.bind(index, static_cast<double>(value));
  } else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
    statement.bind(index, static_cast<std::int64_t>(value));
  } else {
    statement.bind(index, std::string_view(value));
  }
}

template <typename... Values>
void insert_row(sqlite::Statement& statement, const Values&... values) {
  int index = 0;
  (bind_value(statement, ++index, values), ...);
  statement.run();
}

inline std::string insert_sql(const char* table, const char* columns, int count) {
  std::string sql = std::string("INSERT INTO ") + table + " (" + columns + ") VALUES (?";
  for (int i = 1; i < count; ++i) sql += ",?";
  return sql + ")";
}

}  // namespace expertscope
