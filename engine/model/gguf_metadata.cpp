#include "engine/model/gguf_metadata.h"

#include <cstring>

namespace expertscope {

namespace {

bool is_integer(GgufType type) {
  return type != GgufType::f32 && type != GgufType::f64 && type != GgufType::boolean && scalar_bytes(type) > 0;
}

}  // namespace

std::string_view name(GgufType type) {
  constexpr std::string_view kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<std::size_t>(type)];
}

std::int64_t scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
      return 8;
    case GgufType::string:
    case GgufType::array:
      return 0;
  }
  return 0;
}

std::int64_t integer_from(GgufType type, const char* p) {
  const auto as = [p]<typename T>(T value) {
    std::memcpy(&value, p, sizeof value);
    return static_cast<std::int64_t>(value);
  };
  switch (type) {
    case GgufType::u8:
      return as(std::uint8_t{});
    case GgufType::i8:
      return as(std::int8_t{});
    case GgufType::u16:
      return as(std::uint16_t{});
    case GgufType::i16:
      return as(std::int16_t{});
    case GgufType::u32:
      return as(std::uint32_t{});
    case GgufType::i32:
      return as(std::int32_t{});
    default:
      return as(std::int64_t{});
  }
}

bool GgufMetadata::add(const std::string& key, GgufValue value) {
  return values_.emplace(key, std::move(value)).second;
}

std::optional<std::int64_t> GgufMetadata::find_integer(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  return to_integer(key, *value);
}

std::optional<double> GgufMetadata::find_number(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (const double* number = std::get_if<double>(&value->data)) return *number;
  fail_type(key, "f32 or f64");
}

std::optional<bool> GgufMetadata::find_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (const bool* flag = std::get_if<bool>(&value->data)) return *flag;
  fail_type(key, "bool");
}

std::optional<std::string> GgufMetadata::find_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (const std::string* text = std::get_if<std::string>(&value->data)) return *text;
  fail_type(key, "string");
}

std::int64_t GgufMetadata::integer(std::string_view key, std::int64_t min, std::int64_t max) const {
  const std::int64_t value = to_integer(key, required(key));
  if (value < min || value > max) {
    fail_key(key,
             "is " + std::to_string(value) + "; it must be from " + std::to_string(min) + " to " + std::to_string(max));
  }
  return value;
}

std::int64_t GgufMetadata::integer_or(std::string_view key, std::int64_t min, std::int64_t max,
                                      std::int64_t absent) const {
  return has(key) ? integer(key, min, max) : absent;
}

std::string GgufMetadata::string(std::string_view key) const {
  required(key);
  return *find_string(key);
}

std::vector<std::int64_t> GgufMetadata::integers(std::string_view key) const {
  const GgufValue& value = required(key);
  const GgufArray* array = std::get_if<GgufArray>(&value.data);
  if (!array) return {to_integer(key, value)};
  if (!is_integer(array->element)) fail_type(key, "an array of integers");
  std::vector<std::int64_t> out(static_cast<std::size_t>(array->count));
  const auto bytes = static_cast<std::size_t>(scalar_bytes(array->element));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = integer_from(array->element, array->bytes.data() + i * bytes);
  return out;
}

std::vector<std::int32_t> GgufMetadata::int32_array(std::string_view key) const {
  const GgufArray& array = array_of(key, GgufType::i32);
  std::vector<std::int32_t> out(static_cast<std::size_t>(array.count));
  std::memcpy(out.data(), array.bytes.data(), array.bytes.size());
  return out;
}

std::vector<float> GgufMetadata::float_array(std::string_view key) const {
  const GgufArray& array = array_of(key, GgufType::f32);
  std::vector<float> out(static_cast<std::size_t>(array.count));
  std::memcpy(out.data(), array.bytes.data(), array.bytes.size());
  return out;
}

std::vector<std::string> GgufMetadata::string_array(std::string_view key) const {
  const GgufArray& array = array_of(key, GgufType::string);
  std::vector<std::string> out;
  out.reserve(array.ends.size());
  std::size_t begin = 0;
  for (const std::uint64_t end : array.ends) {
    out.push_back(array.bytes.substr(begin, end - begin));
    begin = end;
  }
  return out;
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

const GgufValue& GgufMetadata::required(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) fail_key(key, "is missing; the file is incomplete, convert the model again");
  return *value;
}

const GgufArray& GgufMetadata::array_of(std::string_view key, GgufType element) const {
  const GgufValue& value = required(key);
  const GgufArray* array = std::get_if<GgufArray>(&value.data);
  if (!array || array->element != element) fail_type(key, "array of " + std::string(expertscope::name(element)));
  return *array;
}

std::int64_t GgufMetadata::to_integer(std::string_view key, const GgufValue& value) const {
  if (const std::int64_t* number = std::get_if<std::int64_t>(&value.data)) return *number;
  if (std::holds_alternative<std::uint64_t>(value.data)) fail_key(key, "is beyond 2^63; the file is damaged");
  fail_type(key, "an integer");
}

void GgufMetadata::fail_type(std::string_view key, std::string_view wanted) const {
  const GgufValue& value = required(key);
  std::string type(expertscope::name(value.type));
  if (const GgufArray* array = std::get_if<GgufArray>(&value.data))
    type += " of " + std::string(expertscope::name(array->element));
  fail_key(key, "has type " + type + " instead of " + std::string(wanted) + "; the file is damaged");
}

void GgufMetadata::fail_key(std::string_view key, const std::string& problem) const {
  const GgufValue* value = find(key);
  const std::string message = "key " + in_quotes(key) + " " + problem;
  if (value) messages_->fail_at(value->offset, message);
  fail(message);
}

}  // namespace expertscope
