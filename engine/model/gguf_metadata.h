// The metadata of a GGUF file: values by key, given out only as the type they have.
// Immutable once read; all functions may be called from any thread. Errors are InputErrors that name the file, the key
// and, where known, the byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "engine/model/gguf_file.h"

namespace expertscope {

enum class GgufType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
std::string_view name(GgufType);
std::int64_t scalar_bytes(GgufType);  // of one value; 0 for strings and arrays, whose size is in the file
// The value of an integer type, from its bytes. Of a u64 beyond 2^63 the bits.
std::int64_t integer_from(GgufType, const char* bytes);

struct GgufArray {
  GgufType element = GgufType::u8;
  std::int64_t count = 0;
  std::string bytes;                // elements as in the file; for strings their characters
  std::vector<std::uint64_t> ends;  // for strings: where each ends in `bytes`
};
struct GgufValue {
  GgufType type = GgufType::u8;
  std::int64_t offset = 0;  // of the entry in the file
  // Integers that fit keep their value as int64, larger u64 as themselves.
  std::variant<std::int64_t, std::uint64_t, double, bool, std::string, GgufArray> data;
};

// Finds what is kept under a std::string by a std::string_view.
struct TransparentHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
template <typename T>
using NameMap = std::unordered_map<std::string, T, TransparentHash, std::equal_to<>>;

class GgufMetadata {
 public:
  explicit GgufMetadata(const GgufFile& file) : messages_(&file) {}  // for messages; must outlive this
  bool add(const std::string& key, GgufValue value);                 // false when the key is there already

  // The optional forms return nothing when the key is absent and throw when it has another type; the others throw in
  // both cases. Integers of any width and sign are accepted where their value fits.
  bool has(std::string_view key) const { return find(key) != nullptr; }
  std::optional<std::int64_t> find_integer(std::string_view key) const;
  std::optional<double> find_number(std::string_view key) const;  // f32 or f64
  std::optional<bool> find_bool(std::string_view key) const;      // any non-zero byte is true
  std::optional<std::string> find_string(std::string_view key) const;
  std::int64_t integer(std::string_view key, std::int64_t min, std::int64_t max) const;
  std::int64_t integer_or(std::string_view key, std::int64_t min, std::int64_t max, std::int64_t absent) const;
  std::string string(std::string_view key) const;
  std::vector<std::int64_t> integers(
      std::string_view key) const;  // an integer array, or one integer as an array of one
  std::vector<std::int32_t> int32_array(std::string_view key) const;
  std::vector<float> float_array(std::string_view key) const;
  std::vector<std::string> string_array(std::string_view key) const;
  const GgufValue* find(std::string_view key) const;

  // For checks made by others on what they found here.
  [[noreturn]] void fail_key(std::string_view key, const std::string& problem) const;
  [[noreturn]] void fail_type(std::string_view key, std::string_view wanted) const;  // of a key that is there
  [[noreturn]] void fail(const std::string& problem) const { messages_->fail(problem); }

 private:
  const GgufValue& required(std::string_view key) const;
  const GgufArray& array_of(std::string_view key, GgufType element) const;
  std::int64_t to_integer(std::string_view key, const GgufValue& value) const;

  const GgufFile* messages_;  // the file that they name
  NameMap<GgufValue> values_;
};

}  // namespace expertscope
