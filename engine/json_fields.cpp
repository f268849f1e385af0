#include "engine/json_fields.h"

#include <cmath>

#include <fmt/format.h>

#include "engine/error.h"

namespace expertscope {

using nlohmann::json;

json parse_json(const std::string& text, const std::string& origin) {
  try {
    return json::parse(text);
  } catch (const json::parse_error& e) {
    throw InputError(fmt::format("{}: not valid JSON at byte {}: correct the file", origin, e.byte));
  }
}

JsonFields::JsonFields(const json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object_.is_object()) throw InputError(where_ + ": must be a JSON object {…}");
}

void JsonFields::fail(const std::string& key, const std::string& why) const {
  throw InputError(where_ + "." + key + ": " + why);
}

bool JsonFields::has(const std::string& key) const {
  return object_.contains(key);
}

const json& JsonFields::child(const std::string& key) {
  asked_.insert(key);
  const auto it = object_.find(key);
  if (it == object_.end()) fail(key, "is missing");
  return *it;
}

JsonFields JsonFields::object(const std::string& key) {
  return JsonFields(child(key), where_ + "." + key);
}

double JsonFields::number(const std::string& key, double min, double max) {
  const json& value = child(key);
  if (!value.is_number()) fail(key, "must be a number");
  const double v = value.get<double>();
  if (!std::isfinite(v) || v < min || v > max) fail(key, fmt::format("is {}, must be {} to {}", v, min, max));
  return v;
}

double JsonFields::number_or(const std::string& key, double min, double max, double otherwise) {
  return object_.contains(key) ? number(key, min, max) : otherwise;
}

std::int64_t JsonFields::integer(const std::string& key, std::int64_t min, std::int64_t max) {
  const double v = number(key, static_cast<double>(min), static_cast<double>(max));
  if (v != std::floor(v)) fail(key, "must be a whole number");
  return static_cast<std::int64_t>(v);
}

std::string JsonFields::text(const std::string& key) {
  const json& value = child(key);
  if (!value.is_string()) fail(key, "must be a text");
  return value.get<std::string>();
}

bool JsonFields::boolean_or(const std::string& key, bool otherwise) {
  asked_.insert(key);
  const auto it = object_.find(key);
  if (it == object_.end()) return otherwise;
  if (!it->is_boolean()) fail(key, "must be true or false");
  return it->get<bool>();
}

void JsonFields::refuse_others() const {
  for (const auto& [key, value] : object_.items()) {
    if (!asked_.contains(key)) fail(key, "is not a known key: remove it or correct its spelling");
  }
}

}  // namespace expertscope
