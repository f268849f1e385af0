// "decode.tokens_per_s >= 20": a number in a report and what it must be.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace expertscope {

enum class Comparison : std::uint8_t { at_least, at_most, more, less, equal };

struct Expectation {
  std::string text;  // as given
  std::string path;  // keys joined by dots; a number selects from a list: "epochs.0.decode.tokens"
  Comparison comparison = Comparison::at_least;
  double value = 0;
};

// InputError when it is not PATH, one of >= <= > < ==, and a number.
Expectation parse_expectation(std::string_view);

struct Verdict {
  bool holds = false;
  std::string text;  // for people: "decode.tokens_per_s >= 20: is 31.4"
};
// InputError when the report has no such path, or something else than a number there. A number that this run did not
// compute (null) fails the expectation.
Verdict judge(const Expectation&, const nlohmann::ordered_json& report);

}  // namespace expertscope
