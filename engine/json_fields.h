// Reads JSON objects whose keys are declared: an unknown key, a missing one, a wrong type or a value out of range is an
// InputError that says where ("rtx.json: link.latency_s: …").
#pragma once

#include <set>
#include <string>

#include <nlohmann/json.hpp>

namespace expertscope {

// Parses a whole text. `origin` names it in errors.
nlohmann::json parse_json(const std::string& text, const std::string& origin);

class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string where);

  double number(const std::string& key, double min, double max);
  double number_or(const std::string& key, double min, double max, double otherwise);
  std::int64_t integer(const std::string& key, std::int64_t min, std::int64_t max);
  std::string text(const std::string& key);
  bool boolean_or(const std::string& key, bool otherwise);
  bool has(const std::string& key) const;
  const nlohmann::json& child(const std::string& key);  // whatever it is
  JsonFields object(const std::string& key);
  const std::string& where() const { return where_; }

  void refuse_others() const;  // every key must have been asked for
  [[noreturn]] void fail(const std::string& key, const std::string& why) const;

 private:
  const nlohmann::json& object_;
  std::string where_;
  std::set<std::string> asked_;
};

}  // namespace expertscope
