#include "app/inputs.h"

#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <optional>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "engine/error.h"

namespace expertscope {
namespace {

using Json = nlohmann::ordered_json;

// One line of what the JSON parser says, without its own prefix.
std::string parse_problem(const std::exception& error) {
  std::string text = error.what();
  if (const auto colon = text.find("parse error"); colon != std::string::npos) text = text.substr(colon);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return text;
}

Json parse_ordered(const std::string& text, const std::string& origin) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    throw InputError(fmt::format("{}: not valid JSON: {}", origin, parse_problem(error)));
  }
}

std::string_view trimmed(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::vector<PromptItem> prompts_from_json(const std::string& text, const std::string& origin) {
  const Json root = parse_ordered(text, origin);
  if (!root.is_object())
    throw InputError(origin +
                     ": begins like JSON but is not an object of lists; write {\"workload\": [\"prompt\", ...], ...} "
                     "or one prompt a line");
  std::vector<PromptItem> prompts;
  for (const auto& [workload, list] : root.items()) {
    if (!list.is_array())
      throw InputError(fmt::format("{}: \"{}\" is not a list of prompts; write {{\"{}\": [\"prompt\", ...]}}", origin,
                                   workload, workload));
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (!list[i].is_string()) throw InputError(fmt::format("{}: \"{}\"[{}] is not a string", origin, workload, i));
      prompts.push_back({workload, list[i].get<std::string>(), {}});
    }
  }
  return prompts;
}

std::vector<PromptItem> prompts_from_lines(const std::string& text, const std::string& origin) {
  check_utf8(text, origin);
  std::vector<PromptItem> prompts;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (!trimmed(line).empty()) prompts.push_back({"", std::string(line), {}});
    begin = end + 1;
  }
  return prompts;
}

// --- scripts

constexpr const char* kScriptKeys = "at_token, policy, cache_ratio, set, reset_cache, mark";

std::uint32_t token_number(const Json& entry, const std::string& place) {
  const auto found = entry.find("at_token");
  if (found == entry.end())
    throw InputError(place + ": at_token is missing; it says before which token the change applies");
  if (!found->is_number_unsigned() || found->get<std::uint64_t>() > std::numeric_limits<std::uint32_t>::max())
    throw InputError(fmt::format("{}: at_token must be a whole number from 0, not {}", place, found->dump()));
  return found->get<std::uint32_t>();
}

// Value of "set" as apply_setting reads it: "prefetcher.depth=2", "evictor=lfu".
std::string setting_text(const std::string& key, const Json& value, const std::string& place) {
  if (value.is_string()) return key + "=" + value.get<std::string>();
  if (value.is_boolean()) return key + (value.get<bool>() ? "=1" : "=0");
  if (value.is_number()) return key + "=" + value.dump();
  throw InputError(
      fmt::format("{}: set.{} must be a number, a truth value or a name, not {}", place, key, value.dump()));
}

class ScriptReader {
 public:
  ScriptReader(PolicySpec policy, double cache_ratio) : policy_(std::move(policy)), ratio_(cache_ratio) {}

  void read_entry(const Json& entry, const std::string& place) {
    if (!entry.is_object()) throw InputError(place + ": not an object; write {\"at_token\": N, \"policy\": \"lfu\"}");
    for (const auto& [key, value] : entry.items()) check_key(key, place);
    at_token_ = token_number(entry, place);
    if (!changes_.empty() && at_token_ < changes_.back().at_token)
      throw InputError(fmt::format("{}: at_token {} comes after {}; list the changes in the order of their tokens",
                                   place, at_token_, changes_.back().at_token));
    const std::size_t before = changes_.size();
    const std::optional<double> ratio = read_ratio(entry, place);
    const bool room_first = ratio && *ratio >= ratio_;
    if (room_first) add_ratio(*ratio);
    read_policy(entry, place);
    if (ratio && !room_first) add_ratio(*ratio);
    read_settings(entry, place);
    read_reset_and_mark(entry, place);
    if (changes_.size() == before)
      throw InputError(fmt::format("{}: changes nothing; a change is one of {}", place, kScriptKeys));
  }

  std::vector<ScriptChange> take() { return std::move(changes_); }

 private:
  static void check_key(const std::string& key, const std::string& place) {
    for (const char* known : {"at_token", "policy", "cache_ratio", "set", "reset_cache", "mark"})
      if (key == known) return;
    throw InputError(fmt::format("{}: unknown key \"{}\"; known are {}", place, key, kScriptKeys));
  }

  void add(CommandKind kind, std::string text, double value = 0) {
    changes_.push_back({at_token_, {kind, std::move(text), value, "script"}});
  }

  void add_ratio(double ratio) {
    ratio_ = ratio;
    add(CommandKind::set_cache_ratio, "", ratio);
  }

  std::optional<double> read_ratio(const Json& entry, const std::string& place) const {
    const auto found = entry.find("cache_ratio");
    if (found == entry.end()) return {};
    const double ratio = found->is_number() ? found->get<double>() : -1;
    if (!(ratio >= 0 && ratio <= 1))
      throw InputError(fmt::format("{}: cache_ratio must be a number from 0 to 1, not {}", place, found->dump()));
    return ratio;
  }

  void read_policy(const Json& entry, const std::string& place) {
    const auto found = entry.find("policy");
    if (found == entry.end()) return;
    if (!found->is_string())
      throw InputError(fmt::format("{}: policy must be a string such as \"lfu\", not {}", place, found->dump()));
    try {
      policy_ = parse_policy_spec(found->get<std::string>());
      if (const PresetDecl* preset = find_preset(policy_.preset); preset != nullptr && preset->replay_only)
        throw InputError("'" + policy_.preset + "' needs to know the future: it exists in replay alone");
    } catch (const InputError& error) {
      throw InputError(place + ": policy: " + error.what());
    }
    add(CommandKind::set_policy, to_string(policy_));
  }

  void read_settings(const Json& entry, const std::string& place) {
    const auto found = entry.find("set");
    if (found == entry.end()) return;
    if (!found->is_object())
      throw InputError(
          fmt::format("{}: set must be an object such as {{\"prefetcher.depth\": 2}}, not {}", place, found->dump()));
    for (const auto& [key, value] : found->items()) {
      const std::string setting = setting_text(key, value, place);
      try {
        apply_setting(policy_, setting);
      } catch (const InputError& error) {
        throw InputError(place + ": set: " + error.what());
      }
      if (const auto dot = key.find('.'); dot == std::string::npos)
        add(CommandKind::set_component, setting);
      else
        add(CommandKind::set_parameter, key, value_in_force(key));
    }
  }

  // The number that a parameter now has: choices are stored by their index.
  double value_in_force(const std::string& key) const {
    const auto dot = key.find('.');
    for (int kind = 0; kind < kComponentKinds; ++kind)
      if (name(static_cast<ComponentKind>(kind)) == key.substr(0, dot))
        return policy_.parameter(static_cast<ComponentKind>(kind), key.substr(dot + 1));
    return 0;
  }

  void read_reset_and_mark(const Json& entry, const std::string& place) {
    if (const auto found = entry.find("reset_cache"); found != entry.end()) {
      if (!found->is_boolean() || !found->get<bool>())
        throw InputError(fmt::format("{}: reset_cache must be true, not {}", place, found->dump()));
      add(CommandKind::reset_cache, "");
    }
    if (const auto found = entry.find("mark"); found != entry.end()) {
      if (!found->is_string()) throw InputError(fmt::format("{}: mark must be a string, not {}", place, found->dump()));
      add(CommandKind::mark, found->get<std::string>());
    }
  }

  PolicySpec policy_;
  double ratio_;
  std::uint32_t at_token_ = 0;
  std::vector<ScriptChange> changes_;
};

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) throw InputError(path.string() + ": there is no such file");
  if (std::filesystem::is_directory(status)) throw InputError(path.string() + ": is a folder, not a file");
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw InputError(path.string() + ": cannot be opened for reading: " + std::generic_category().message(errno));
  std::string text;
  char buffer[1 << 16];
  while (file.read(buffer, sizeof buffer) || file.gcount() > 0) {
    text.append(buffer, static_cast<std::size_t>(file.gcount()));
    if (text.size() > kMaxInputBytes)
      throw InputError(fmt::format("{}: longer than {} MiB; split it", path.string(), kMaxInputBytes >> 20));
  }
  if (file.bad()) throw InputError(path.string() + ": cannot be read: " + std::generic_category().message(errno));
  return text;
}

void check_utf8(std::string_view text, const std::string& origin) {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
    const unsigned lead = byte(at);
    const std::size_t length = lead < 0x80                   ? 1
                               : lead >= 0xc2 && lead < 0xe0 ? 2
                               : lead >= 0xe0 && lead < 0xf0 ? 3
                               : lead >= 0xf0 && lead < 0xf5 ? 4
                                                             : 0;
    bool good = length > 0;
    for (std::size_t i = 1; good && i < length; ++i) good = (byte(at + i) & 0xc0u) == 0x80u;
    if (good && lead == 0xe0) good = byte(at + 1) >= 0xa0;  // overlong
    if (good && lead == 0xed) good = byte(at + 1) < 0xa0;   // surrogates
    if (good && lead == 0xf0) good = byte(at + 1) >= 0x90;  // overlong
    if (good && lead == 0xf4) good = byte(at + 1) < 0x90;   // beyond Unicode
    if (!good) throw InputError(fmt::format("{}: not valid UTF-8 at byte {}; convert it to UTF-8", origin, at));
    at += length;
  }
}

std::vector<PromptItem> load_prompts(const std::filesystem::path& path) {
  std::string text = read_file(path);
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);  // byte order mark
  const std::string_view content = trimmed(text);
  const bool json = (!content.empty() && content.front() == '{') || path.extension() == ".json";
  auto prompts = json ? prompts_from_json(text, path.string()) : prompts_from_lines(text, path.string());
  if (prompts.empty()) throw InputError(path.string() + ": holds no prompt");
  return prompts;
}

std::vector<std::int32_t> parse_ids(std::string_view list, const std::string& origin) {
  std::vector<std::int32_t> ids;
  std::size_t begin = 0;
  while (begin <= list.size()) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const std::string_view item = trimmed(list.substr(begin, end - begin));
    std::int32_t id = -1;
    const auto [stop, error] = std::from_chars(item.data(), item.data() + item.size(), id);
    if (error != std::errc{} || stop != item.data() + item.size() || id < 0)
      throw InputError(fmt::format("{}: '{}' is not a token id; write whole numbers such as 1,75,104", origin, item));
    ids.push_back(id);
    begin = end + 1;
  }
  return ids;
}

std::vector<std::int32_t> load_ids(const std::filesystem::path& path) {
  const Json root = parse_ordered(read_file(path), path.string());
  if (!root.is_array()) throw InputError(path.string() + ": not a JSON list of token ids; write [1, 75, 104]");
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < root.size(); ++i) {
    if (!root[i].is_number_unsigned() || root[i].get<std::uint64_t>() > std::numeric_limits<std::int32_t>::max())
      throw InputError(fmt::format("{}: entry {} is not a token id: {}", path.string(), i, root[i].dump()));
    ids.push_back(root[i].get<std::int32_t>());
  }
  if (ids.empty()) throw InputError(path.string() + ": the list is empty");
  return ids;
}

void check_ids(const std::vector<std::int32_t>& ids, int vocab, const std::string& origin) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab)
      throw InputError(
          fmt::format("{}: token id {} (entry {}) is not in the model's vocabulary of {}", origin, ids[i], i, vocab));
}

std::vector<ScriptChange> parse_script(const std::string& json_text, const std::string& origin, PolicySpec policy,
                                       double cache_ratio) {
  const Json root = parse_ordered(json_text, origin);
  if (!root.is_array())
    throw InputError(origin + ": not a list of changes; write [{\"at_token\": 12, \"policy\": \"lfu\"}, ...]");
  ScriptReader reader(std::move(policy), cache_ratio);
  for (std::size_t i = 0; i < root.size(); ++i) reader.read_entry(root[i], fmt::format("{}: entry {}", origin, i));
  return reader.take();
}

std::vector<ScriptChange> load_script(const std::filesystem::path& path, PolicySpec policy, double cache_ratio) {
  return parse_script(read_file(path), path.string(), std::move(policy), cache_ratio);
}

}  // namespace expertscope
