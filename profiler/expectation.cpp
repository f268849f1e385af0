#include "profiler/expectation.h"

#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "engine/error.h"

namespace expertscope {
namespace {

constexpr auto kSigns = std::to_array<std::pair<std::string_view, Comparison>>({{">=", Comparison::at_least},
                                                                                {"<=", Comparison::at_most},
                                                                                {"==", Comparison::equal},
                                                                                {">", Comparison::more},
                                                                                {"<", Comparison::less}});

std::string_view trim(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

const nlohmann::ordered_json* child(const nlohmann::ordered_json& node, std::string_view key) {
  if (node.is_object()) {
    const auto found = node.find(std::string(key));
    return found == node.end() ? nullptr : &*found;
  }
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
  if (!node.is_array() || error != std::errc() || end != key.data() + key.size() || index >= node.size())
    return nullptr;
  return &node[index];
}

std::string keys_of(const nlohmann::ordered_json& node) {
  std::string list;
  if (node.is_object()) {
    for (const auto& [key, value] : node.items()) list += (list.empty() ? "" : ", ") + key;
  } else if (node.is_array()) {
    list = node.empty() ? "nothing" : fmt::format("0 to {}", node.size() - 1);
  }
  return list.empty() ? "nothing" : list;
}

const nlohmann::ordered_json& resolve(const Expectation& expectation, const nlohmann::ordered_json& report) {
  const nlohmann::ordered_json* node = &report;
  std::string_view rest = expectation.path;
  // A key may hold dots itself (health codes): the longest key that fits is taken.
  while (!rest.empty()) {
    const nlohmann::ordered_json* next = nullptr;
    std::size_t length = rest.size();
    while (!(next = child(*node, rest.substr(0, length)))) {
      length = length == 0 ? std::string_view::npos : rest.rfind('.', length - 1);
      if (length == std::string_view::npos) {
        throw InputError(fmt::format("--expect '{}': the report has no '{}'; at '{}' it has {}", expectation.text,
                                     expectation.path, rest, keys_of(*node)));
      }
    }
    node = next;
    rest = length == rest.size() ? std::string_view() : rest.substr(length + 1);
  }
  return *node;
}

bool compare(double is, Comparison comparison, double wanted) {
  switch (comparison) {
    case Comparison::at_least:
      return is >= wanted;
    case Comparison::at_most:
      return is <= wanted;
    case Comparison::more:
      return is > wanted;
    case Comparison::less:
      return is < wanted;
    case Comparison::equal:
      return is == wanted;
  }
  return false;
}

}  // namespace

Expectation parse_expectation(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return InputError(fmt::format("--expect '{}': {}; write it like 'decode.tokens_per_s >= 20'", text, why));
  };
  const std::size_t at = text.find_first_of("<>=");
  if (at == std::string_view::npos) throw refuse("no comparison (>= <= > < ==)");
  const std::string_view path = trim(text.substr(0, at));
  if (path.empty() || path.find_first_of(" \t") != std::string_view::npos || path.front() == '.' ||
      path.back() == '.') {
    throw refuse("no path of the report before the comparison");
  }
  for (const auto& [sign, comparison] : kSigns) {
    if (text.substr(at, sign.size()) != sign) continue;
    const std::optional<double> value = number(trim(text.substr(at + sign.size())));
    if (!value) throw refuse("no number after the comparison");
    return {std::string(text), std::string(path), comparison, *value};
  }
  throw refuse("no comparison (>= <= > < ==)");
}

Verdict judge(const Expectation& expectation, const nlohmann::ordered_json& report) {
  const nlohmann::ordered_json& found = resolve(expectation, report);
  if (found.is_null()) return {false, fmt::format("{}: this run did not compute it", expectation.text)};
  if (found.is_boolean()) {
    const double is = found.get<bool>() ? 1 : 0;
    return {compare(is, expectation.comparison, expectation.value), fmt::format("{}: is {}", expectation.text, is)};
  }
  if (!found.is_number()) {
    throw InputError(fmt::format("--expect '{}': '{}' is not a number in the report{}", expectation.text,
                                 expectation.path, found.is_structured() ? "; it has " + keys_of(found) : ""));
  }
  const double is = found.get<double>();
  return {compare(is, expectation.comparison, expectation.value),
          fmt::format("{}: is {}", expectation.text, found.dump())};
}

}  // namespace expertscope
