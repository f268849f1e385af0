#include "app/replay_list.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "engine/error.h"

namespace expertscope {
namespace {

std::vector<std::string> split(std::string_view list, const char* option) {
  std::vector<std::string> items;
  std::size_t begin = 0;
  while (begin <= list.size()) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    std::string_view item = list.substr(begin, end - begin);
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
    if (item.empty())
      throw InputError(fmt::format("{}: an item of '{}' is empty; write a comma-separated list", option, list));
    items.emplace_back(item);
    begin = end + 1;
  }
  return items;
}

// "evictor=lcu" and "prefetcher.depth=2" go on with the preset before them; "hobbit:evictor=lcu" begins one.
bool is_setting(const std::string& item) {
  return item.find('=') != std::string::npos && item.find(':') == std::string::npos;
}

std::vector<std::string> join_settings(const std::vector<std::string>& items) {
  std::vector<std::string> specs;
  for (const std::string& item : items) {
    if (!is_setting(item)) {
      specs.push_back(item);
    } else if (specs.empty() || specs.back() == "recorded" || specs.back() == "all") {
      throw InputError(fmt::format("--policies: '{}' has no preset before it; write PRESET:{}", item, item));
    } else {
      specs.back() += (specs.back().find(':') == std::string::npos ? ":" : ",") + item;
    }
  }
  return specs;
}

}  // namespace

std::vector<ReplayPolicy> parse_policies(std::string_view list) {
  std::vector<ReplayPolicy> policies;
  for (const std::string& spec : join_settings(split(list, "--policies"))) {
    if (spec == "recorded") {
      policies.push_back({std::nullopt, false});
    } else if (spec == "all") {
      for (const PresetDecl& preset : preset_decls()) policies.push_back({parse_policy_spec(preset.name), true});
    } else {
      try {
        policies.push_back({parse_policy_spec(spec), false});
      } catch (const InputError& error) {
        throw InputError(std::string("--policies: ") + error.what());
      }
    }
  }
  return policies;
}

std::vector<std::optional<double>> parse_cache_ratios(std::string_view list) {
  std::vector<std::optional<double>> ratios;
  for (const std::string& item : split(list, "--cache-ratios")) {
    if (item == "recorded") {
      ratios.emplace_back();
      continue;
    }
    double ratio = -1;
    const auto [stop, error] = std::from_chars(item.data(), item.data() + item.size(), ratio);
    if (error != std::errc{} || stop != item.data() + item.size() || !(ratio >= 0 && ratio <= 1))
      throw InputError(fmt::format("--cache-ratios: '{}' is neither a number from 0 to 1 nor recorded", item));
    ratios.emplace_back(ratio);
  }
  return ratios;
}

}  // namespace expertscope
