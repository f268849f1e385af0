#include "storage/session_facts.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <string_view>

#include <fmt/format.h>

#include "engine/error.h"
#include "engine/observer.h"

namespace expertscope {
namespace {

// Bounds that keep everything computed from a file's numbers in range; far beyond any model.
constexpr double kMaxLayers = 1024, kMaxExperts = 4096;
constexpr double kMaxBytes = 1e15, kMaxBytesPerSecond = 1e15;
constexpr double kMaxClockNs = 1e18;  // more than thirty years since boot
constexpr double kAnyInt = std::numeric_limits<int>::max();

// Facts that came after the first schema: a session without them has their default.
constexpr std::string_view kLaterFacts[] = {"machine.clock_origin_ns", "recording.sequences", "memory.work_bytes"};

// Calls visit(key, member, smallest, largest) for each fact. Info is RunInfo or const RunInfo.
template <typename Info, typename Visit>
void for_each_fact(Info& info, Visit&& visit) {
  visit("model.name", info.model_name, 0, 0);
  visit("model.arch", info.model_arch, 0, 0);
  visit("model.sha256", info.model_sha256, 0, 0);
  visit("model.layers", info.layers, 1, kMaxLayers);
  visit("model.experts", info.experts, 1, kMaxExperts);
  visit("model.top_k", info.top_k, 1, kMaxPicks);
  visit("model.context_tokens", info.context, 0, kAnyInt);
  visit("model.vocab", info.vocab, 0, kAnyInt);
  visit("machine.kind", info.machine_kind, 0, 0);
  visit("machine.profile", info.profile_name, 0, 0);
  visit("machine.profile_json", info.profile_json, 0, 0);
  visit("machine.cost_shape", info.cost_shape, 0, 0);
  visit("machine.cost_shape_json", info.cost_shape_json, 0, 0);
  visit("machine.label", info.label, 0, 2);
  visit("machine.gpus", info.gpus, 0, 64);
  visit("machine.expert_bytes", info.expert_bytes, 0, kMaxBytes);
  visit("machine.h2d_bytes_per_s", info.h2d_bytes_per_s, 0, kMaxBytesPerSecond);
  visit("machine.gpu_bytes_per_s", info.gpu_bytes_per_s, 0, kMaxBytesPerSecond);
  visit("machine.clock_origin_ns", info.clock_origin_ns, 0, kMaxClockNs);
  visit("recording.gates", info.recorded_gates, 0, kMaxLookahead);
  visit("recording.sequences", info.sequences, 1, 1 << 16);
  visit("recording.prefill_chunk_tokens", info.prefill_chunk, 0, kAnyInt);
  visit("start.policy_spec", info.policy_spec, 0, 0);
  visit("start.cache_ratio", info.cache_ratio, 0, 1);
  visit("start.cache_bytes", info.cache_bytes, 0, kMaxBytes);
  visit("start.slots", info.slots, 0, kMaxLayers * kMaxExperts);
  visit("start.sampling_json", info.sampling_json, 0, 0);
  visit("start.prior_json", info.prior_json, 0, 0);
  visit("memory.experts_bytes", info.memory.experts_bytes, 0, kMaxBytes);
  visit("memory.dense_bytes", info.memory.dense_bytes, 0, kMaxBytes);
  visit("memory.kv_bytes", info.memory.kv_bytes, 0, kMaxBytes);
  visit("memory.staging_bytes", info.memory.staging_bytes, 0, kMaxBytes);
  visit("memory.profiler_bytes", info.memory.profiler_bytes, 0, kMaxBytes);
  visit("memory.gpu_peak_bytes", info.memory.gpu_peak_bytes, 0, kMaxBytes);
  visit("memory.work_bytes", info.memory.work_bytes, 0, kMaxBytes);
  visit("memory.host_bytes", info.memory.host_bytes, 0, kMaxBytes);
}

std::string to_text(const std::string& value) {
  return value;
}
std::string to_text(Label value) {
  return std::string(name(value));
}
template <typename Number>
std::string to_text(Number value) {
  return fmt::format("{}", value);  // shortest text that reads back as the same number
}

bool from_text(const std::string& text, double, double, std::string& value) {
  value = text;
  return true;
}

bool from_text(const std::string& text, double, double, Label& value) {
  for (const Label label : {Label::measured, Label::estimated, Label::simulated}) {
    if (text != name(label)) continue;
    value = label;
    return true;
  }
  return false;
}

template <typename Number>
bool from_text(const std::string& text, double smallest, double largest, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(static_cast<double>(value)) &&
         static_cast<double>(value) >= smallest && static_cast<double>(value) <= largest;
}

}  // namespace

SessionFacts facts_of(const RunInfo& info) {
  SessionFacts facts;
  for_each_fact(info, [&](const char* key, const auto& value, double, double) { facts[key] = to_text(value); });
  return facts;
}

RunInfo run_info_of(const SessionFacts& facts) {
  RunInfo info;
  for_each_fact(info, [&](const char* key, auto& value, double smallest, double largest) {
    const auto found = facts.find(key);
    if (found == facts.end() && std::ranges::find(kLaterFacts, key) != std::end(kLaterFacts)) return;
    if (found == facts.end()) throw InputError(fmt::format("it does not say '{}'", key));
    if (!from_text(found->second, smallest, largest, value)) {
      throw InputError(fmt::format("its '{}' is '{}'", key, found->second.substr(0, 100)));
    }
  });
  return info;
}

}  // namespace expertscope
