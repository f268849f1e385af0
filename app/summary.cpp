#include "app/summary.h"

#include <cmath>
#include <optional>

#include <fmt/format.h>

namespace expertscope {
namespace {

using Json = nlohmann::ordered_json;

std::optional<double> number(const Json& report, const char* path) {
  const Json::json_pointer pointer(path);
  if (!report.contains(pointer)) return {};
  const Json& value = report.at(pointer);
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}

std::string text(const Json& report, const char* path) {
  const Json::json_pointer pointer(path);
  return report.contains(pointer) && report.at(pointer).is_string() ? report.at(pointer).get<std::string>() : "?";
}

// Three significant digits and a unit in powers of ten; "-" for what was not computed.
std::string amount(std::optional<double> value, const char* unit) {
  if (!value) return "-";
  static constexpr struct {
    double scale;
    const char* prefix;
  } kScales[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}, {1e-3, "m"}, {1e-6, "\u00b5"}, {1e-9, "n"}};
  if (*value == 0) return fmt::format("0 {}", unit);
  for (const auto& [scale, prefix] : kScales)
    if (std::abs(*value) >= scale * 0.9995) return fmt::format("{:.3g} {}{}", *value / scale, prefix, unit);
  return fmt::format("{:.3g} {}", *value, unit);
}

std::string percent(std::optional<double> share) {
  return share ? fmt::format("{:.1f} %", *share * 100) : "-";
}
std::string plain(std::optional<double> value) {
  return value ? fmt::format("{:.4g}", *value) : "-";
}
std::string count(std::optional<double> value) {
  return value ? fmt::format("{:.0f}", *value) : "-";
}

std::string where_the_time_went(const Json& report) {
  const Json::json_pointer block("/attribution_seconds_per_token");
  std::string line;
  if (!report.contains(block) || !report.at(block).is_object()) return "-";
  for (const auto& [part, seconds] : report.at(block).items())
    if (seconds.is_number() && seconds.get<double>() > 0)
      line += fmt::format("{}{} {}", line.empty() ? "" : ", ", part, amount(seconds.get<double>(), "s"));
  return line.empty() ? "-" : line;
}

std::string health_lines(const Json& report) {
  std::string lines;
  if (!report.contains("health")) return lines;
  for (const auto& [code, note] : report["health"].items())
    lines += fmt::format("  health    {} ({}): {}\n", code, text(note, "/severity"), text(note, "/text"));
  return lines;
}

}  // namespace

std::string summary_of(const Json& report) {
  std::string out;
  out += fmt::format("  model     {} on {} {} (cost shape {}), {}\n", text(report, "/model/name"),
                     text(report, "/machine/kind"), text(report, "/machine/profile"),
                     text(report, "/machine/cost_shape"), text(report, "/machine/label"));
  out += fmt::format("  policy    {}, cache ratio {} = {} in {} slots\n", text(report, "/policy/spec"),
                     plain(number(report, "/cache/ratio")), amount(number(report, "/cache/bytes"), "B"),
                     count(number(report, "/cache/slots")));
  out += fmt::format("  prefill   {} tokens, {} tok/s, first token after {}\n",
                     count(number(report, "/prefill/tokens")), plain(number(report, "/prefill/tokens_per_s")),
                     amount(number(report, "/prefill/first_token_s"), "s"));
  out += fmt::format("  decode    {} tokens, {} tok/s, a token p50 {} p90 {} p99 {}\n",
                     count(number(report, "/decode/tokens")), plain(number(report, "/decode/tokens_per_s")),
                     amount(number(report, "/decode/token_seconds/p50"), "s"),
                     amount(number(report, "/decode/token_seconds/p90"), "s"),
                     amount(number(report, "/decode/token_seconds/p99"), "s"));
  out += fmt::format("  experts   hit rate {} of {} demands in decode\n",
                     percent(number(report, "/experts/decode/hit_rate")),
                     count(number(report, "/experts/decode/demands")));
  out += fmt::format("  transfers {} in {} copies: demand {}, prefetch {}, placement {}\n",
                     amount(number(report, "/transfers/bytes"), "B"), count(number(report, "/transfers/count")),
                     amount(number(report, "/transfers/demand_bytes"), "B"),
                     amount(number(report, "/transfers/prefetch_bytes"), "B"),
                     amount(number(report, "/transfers/placement_bytes"), "B"));
  out += fmt::format("  overlap   GPU busy {}, copies hidden {}\n", percent(number(report, "/overlap/gpu_busy_share")),
                     percent(number(report, "/overlap/copy_hidden_share")));
  out += "  a token   " + where_the_time_went(report) + "\n";
  if (const auto perplexity = number(report, "/quality/perplexity"))
    out += fmt::format("  quality   perplexity {:.4g}\n", *perplexity);
  if (const auto kl = number(report, "/quality/kl_mean"))
    out += fmt::format("  exact     KL {:.3g} nats, best token agrees {} over {} tokens; {} generated tokens inexact\n",
                       *kl, percent(number(report, "/quality/top1_agreement")),
                       count(number(report, "/quality/shadowed_tokens")),
                       count(number(report, "/quality/inexact_tokens")));
  return out + health_lines(report);
}

}  // namespace expertscope
