#include "app/progress_line.h"

#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

namespace expertscope {
namespace {

constexpr std::chrono::milliseconds kPeriod{100};

}  // namespace

bool stderr_is_terminal() {
  return isatty(STDERR_FILENO) == 1;
}

ProgressLine::ProgressLine(std::uint64_t planned_tokens, bool shown)
    : planned_(planned_tokens), shown_(shown), next_(std::chrono::steady_clock::now()) {}

ProgressLine::~ProgressLine() {
  if (visible_) std::fputs("\r\x1b[K", stderr);
}

void ProgressLine::add(const Batch& batch) {
  if (batch.start) label_ = name(batch.start->label);
  for (const TokenRecord& token : batch.tokens) ++(token.generated ? generated_ : forwarded_);
  for (const StepRecord& step : batch.steps) {
    if (step.phase != Phase::decode) continue;
    decoded_ += step.tokens;
    decode_ns_ += step.end_ns - step.start_ns;
  }
  demands_ += batch.demands.size();
  for (const DemandRecord& demand : batch.demands) hits_ += demand.state == DemandState::hit;
  if (shown_ && std::chrono::steady_clock::now() >= next_) show();
}

std::string ProgressLine::text() const {
  std::string line = planned_ > 0 ? fmt::format("token {} of {}", generated_, planned_)
                                  : fmt::format("token {}", generated_ + forwarded_);
  if (decode_ns_ > 0)
    line +=
        fmt::format("  {:.1f} tok/s {}", static_cast<double>(decoded_) * 1e9 / static_cast<double>(decode_ns_), label_);
  if (demands_ > 0)
    line += fmt::format("  hit rate {:.1f} %", 100.0 * static_cast<double>(hits_) / static_cast<double>(demands_));
  return line;
}

void ProgressLine::show() {
  std::fprintf(stderr, "\r\x1b[K%s", text().c_str());
  std::fflush(stderr);
  visible_ = true;
  next_ = std::chrono::steady_clock::now() + kPeriod;
}

}  // namespace expertscope
