#include "views/format.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

namespace expertscope {
namespace {

struct Prefix {
  double factor;
  std::string_view text;
};
constexpr std::array<Prefix, 9> kPrefixes = {
    {{1e-9, "n"}, {1e-6, "µ"}, {1e-3, "m"}, {1, ""}, {1e3, "k"}, {1e6, "M"}, {1e9, "G"}, {1e12, "T"}, {1e15, "P"}}};

// The prefix under which the value, once rounded to three digits, is still below 1000.
const Prefix& prefix_of(double magnitude, std::size_t first) {
  for (std::size_t i = first; i + 1 < kPrefixes.size(); ++i)
    if (magnitude < 999.5 * kPrefixes[i].factor) return kPrefixes[i];
  return kPrefixes.back();
}

}  // namespace

std::string format_significant(double value) {
  if (!std::isfinite(value)) return "-";
  const double magnitude = std::fabs(value);
  if (magnitude >= 99.95) return fmt::format("{:.0f}", value);
  if (magnitude >= 9.995) return fmt::format("{:.1f}", value);
  if (magnitude >= 0.9995) return fmt::format("{:.2f}", value);
  if (magnitude >= 0.09995) return fmt::format("{:.3f}", value);
  if (magnitude < 5e-7) return "0";
  return fmt::format("{:.{}f}", value, std::min(6, 2 + static_cast<int>(std::ceil(-std::log10(magnitude)))));
}

std::string format_si(double value, std::string_view unit) {
  if (!std::isfinite(value)) return "-";
  if (value == 0) return fmt::format("0 {}", unit);
  const bool divisible = unit != "B" && unit != "B/s";  // there is no such thing as a millibyte
  const Prefix& prefix = prefix_of(std::fabs(value), divisible ? 0 : 3);
  if (!divisible && std::fabs(value) < 999.5) return fmt::format("{:.0f} {}", value, unit);
  return fmt::format("{} {}{}", format_significant(value / prefix.factor), prefix.text, unit);
}

std::string format_duration(TimeNs ns) {
  const double magnitude = std::fabs(static_cast<double>(ns));
  if (magnitude < 999.5) return fmt::format("{} ns", ns);
  const double value = static_cast<double>(ns);
  if (magnitude < 999.5e3) return format_significant(value / 1e3) + " µs";
  if (magnitude < 999.5e6) return format_significant(value / 1e6) + " ms";
  return format_significant(value / 1e9) + " s";
}

std::string format_bytes(double bytes) {
  return format_si(bytes, "B");
}
std::string format_rate(double bytes_per_s) {
  return format_si(bytes_per_s, "B/s");
}

std::string format_percent(double share) {
  if (!std::isfinite(share)) return "- %";
  const double percent = share * 100;
  if (std::fabs(percent) >= 99.95 || percent == 0) return fmt::format("{:.0f} %", percent);
  if (std::fabs(percent) >= 9.995) return fmt::format("{:.1f} %", percent);
  if (std::fabs(percent) < 0.005) return percent > 0 ? "< 0.01 %" : "> -0.01 %";
  return fmt::format("{:.2f} %", percent);
}

std::string format_ratio(double ratio) {
  return fmt::format("{:.3g}", ratio);
}

std::string format_count(std::uint64_t count) {
  std::string digits = fmt::format("{}", count);
  for (std::size_t place = digits.size(); place > 3; place -= 3) digits.insert(place - 3, 1, ',');
  return digits;
}

std::string format_tokens_per_s(double rate) {
  if (rate >= 9999.5) return format_si(rate, "tok/s");
  return format_significant(rate) + " tok/s";
}

std::string format_axis_time(TimeNs t, TimeNs step_ns) {
  struct Unit {
    double ns;
    std::string_view text;
  };
  constexpr std::array<Unit, 4> kUnits = {{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}, {1, "ns"}}};
  const double largest = std::max(std::fabs(static_cast<double>(t)), static_cast<double>(step_ns));
  const Unit& unit = *std::find_if(kUnits.begin(), kUnits.end() - 1, [&](const Unit& u) { return largest >= u.ns; });
  const double step = static_cast<double>(step_ns) / unit.ns;
  const int digits = step >= 1 ? 0 : std::min(9, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
  return fmt::format("{:.{}f} {}", static_cast<double>(t) / unit.ns, digits, unit.text);
}

}  // namespace expertscope
