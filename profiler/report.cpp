#include "profiler/report.h"

#include <cmath>
#include <optional>

#include "engine/error.h"
#include "engine/inexact.h"
#include "engine/policy/registry.h"
#include "profiler/attribution.h"
#include "profiler/cupti_metrics.h"
#include "profiler/health.h"

namespace expertscope {
namespace {

using Json = nlohmann::ordered_json;

double seconds(TimeNs ns) {
  return static_cast<double>(ns) * 1e-9;
}

Json policy_block(const std::string& spec_text) {
  Json block;
  block["preset"] = spec_text.substr(0, spec_text.find(':'));
  block["spec"] = spec_text;
  block["components"] = Json::object();
  try {
    const PolicySpec spec = parse_policy_spec(spec_text);
    block["preset"] = spec.preset;
    for (std::size_t i = 0; i < kComponentKinds; ++i) {
      if (!spec.components[i].empty()) {
        block["components"][std::string(name(static_cast<ComponentKind>(i)))] = spec.components[i];
      }
    }
  } catch (const InputError&) {
    // A session may name a policy that this version does not have: its components are then unknown.
  }
  return block;
}

Json memory_block(const MemoryUse& m) {
  return {{"gpu_peak_bytes", m.gpu_peak_bytes}, {"experts_bytes", m.experts_bytes},
          {"dense_bytes", m.dense_bytes},       {"kv_bytes", m.kv_bytes},
          {"staging_bytes", m.staging_bytes},   {"profiler_bytes", m.profiler_bytes},
          {"host_bytes", m.host_bytes},         {"work_bytes", m.work_bytes}};
}

Json overlap_block(const Overlap& o) {
  return {{"gpu_busy_share", o.gpu_busy_share()},
          {"copy_hidden_share", o.copy_hidden_share()},
          {"cpu_hidden_share", o.cpu_hidden_share()}};
}

// Generated tokens whose step changed what an expert adds, or skipped, replaced, or ran one ahead or below native
// precision.
std::uint64_t inexact_tokens(const Trace& trace) {
  std::uint64_t tokens = 0;
  for (const StepRecord& step : trace.steps) {
    for (const DemandRecord& d : trace.demands_of(step.step)) {
      if (!is_inexact(d)) continue;
      tokens += step.sampled;
      break;
    }
  }
  return tokens;
}

Json quality_block(const Trace& trace) {
  double nll_sum = 0;
  double kl_sum = 0;
  std::uint64_t scored = 0, shadowed = 0, agreed = 0;
  for (const QualityRecord& q : trace.quality) {
    nll_sum += q.nll_sum;
    scored += q.tokens;
    kl_sum += q.kl_sum;
    shadowed += q.shadowed;
    agreed += q.agreed;
  }
  const auto mean = [&](double sum) { return shadowed ? Json(sum / static_cast<double>(shadowed)) : Json(nullptr); };
  Json block;
  block["perplexity"] = scored ? Json(std::exp(nll_sum / static_cast<double>(scored))) : Json(nullptr);
  block["kl_mean"] = mean(kl_sum);
  block["top1_agreement"] = mean(static_cast<double>(agreed));
  block["inexact_tokens"] = inexact_tokens(trace);
  block["shadowed_tokens"] = shadowed;
  return block;
}

Json output_block(const Trace& trace) {
  std::map<std::uint32_t, Json> ids;
  std::map<std::uint32_t, std::string> texts;
  for (const TokenRecord& token : trace.tokens) {
    if (!token.generated) continue;
    ids[token.prompt].push_back(token.id);
    texts[token.prompt] += trace.piece(token.id);
  }
  Json prompts = Json::array();
  for (const PromptRecord& prompt : trace.prompts) {
    Json entry;
    entry["workload"] = valid_utf8(prompt.workload);
    entry["text"] = valid_utf8(texts[prompt.prompt]);
    entry["token_ids"] = ids.contains(prompt.prompt) ? ids[prompt.prompt] : Json::array();
    for (const LogitsRecord& logits : trace.logits) {
      if (logits.prompt != prompt.prompt) continue;
      entry["logits"] = Json::array();
      for (const auto& [id, logit] : logits.best) entry["logits"].push_back(Json::array({id, logit}));
    }
    prompts.push_back(std::move(entry));
  }
  Json block;
  if (prompts.size() == 1) {
    block["text"] = prompts[0]["text"];
    block["token_ids"] = prompts[0]["token_ids"];
  }
  block["prompts"] = std::move(prompts);
  return block;
}

Json experts_blocks(const Trace& trace, TimeRange range) {
  return {{"prefill", experts_block(count_experts(trace, Phase::prefill, range))},
          {"decode", experts_block(count_experts(trace, Phase::decode, range))}};
}

Json epochs_block(const Trace& trace) {
  Json list = Json::array();
  for (std::size_t i = 0; i < trace.epochs.size(); ++i) {
    const EpochRecord& epoch = trace.epochs[i];
    const TimeRange range = range_of_epoch(trace, i);
    Json entry;
    entry["epoch"] = epoch.epoch;
    entry["step"] = epoch.step;
    entry["at_token"] = epoch.at_token;
    entry["at_s"] = seconds(epoch.at_ns);
    entry["source"] = valid_utf8(epoch.source);
    entry["change"] = valid_utf8(epoch.change);
    entry["policy"] = policy_block(valid_utf8(epoch.policy_spec));
    entry["cache"] = {{"ratio", epoch.cache_ratio},
                      {"bytes", epoch.cache_bytes},
                      {"slots", epoch.slots},
                      {"reset", epoch.cache_reset}};
    entry["prefill"] = prefill_block(trace, range);
    entry["decode"] = decode_block(trace, range);
    entry["experts"] = experts_blocks(trace, range);
    entry["overlap"] = overlap_block(overlap(trace, range));
    entry["attribution_seconds_per_token"] = attribution_block(trace, range);
    list.push_back(std::move(entry));
  }
  return list;
}

Json health_block(const Trace& trace) {
  Json block = Json::object();
  for (const HealthNote& note : health_of(trace)) {
    block[valid_utf8(note.code)] = {
        {"severity", std::string(name(note.severity))}, {"count", note.count}, {"text", valid_utf8(note.text)}};
  }
  return block;
}

// Only in sessions that CUPTI took part in.
void add_cupti_block(const Trace& trace, Json& report) {
  const CuptiNumbers n = cupti_numbers(trace);
  if (!n.recorded) return;
  const CuptiResidual residual = cupti_residual(trace);
  const auto us = [](TimeNs ns) { return static_cast<double>(ns) * 1e-3; };
  const GpuTotals& totals = trace.gpu_totals;
  report["cupti"] = {{"kernels", n.kernels},
                     {"copies", n.copies},
                     {"memsets", totals.memsets},
                     {"synchronizations", totals.syncs},
                     {"joined_kernels", n.joined_kernels},
                     {"joined_copies", n.joined_copies},
                     {"joined_share", n.joined_share()},
                     {"expert_copy_bytes", n.expert_copy_bytes},
                     {"engine_expert_copy_bytes", n.engine_copy_bytes},
                     {"expert_copy_bytes_equal", n.bytes_are_comparable ? Json(n.bytes_are_equal()) : Json(nullptr)},
                     {"dropped", n.dropped},
                     {"kernel_seconds", seconds(totals.kernel_ns)},
                     {"synchronization_seconds", seconds(totals.sync_ns)},
                     {"overhead_seconds", seconds(totals.overhead_ns)},
                     {"clock_residual_us",
                      {{"copies", residual.copies},
                       {"median", us(residual.median_ns)},
                       {"max", us(residual.max_ns)},
                       {"shift_median", us(residual.shift_median_ns)}}}};
}

// Facts are stored as text; those that are numbers become numbers again.
Json wall_block(const Trace& trace) {
  Json block = Json::object();
  for (const auto& [key, value] : trace.wall) {
    const Json parsed = Json::parse(value, nullptr, false);
    block[valid_utf8(key)] = parsed.is_number() ? parsed : Json(valid_utf8(value));
  }
  return block;
}

}  // namespace

Json attribution_block(const Trace& trace, TimeRange range) {
  const Attribution attribution = attribute_decode(trace, range);
  Json block = Json::object();
  for (int i = 0; i < kTimeParts; ++i) {
    const auto part = static_cast<TimePart>(i);
    block[std::string(name(part))] =
        attribution.tokens ? seconds(attribution[part]) / static_cast<double>(attribution.tokens) : 0.0;
  }
  return block;
}

Json experts_block(const ExpertCounts& c) {
  return {{"picks", c.picks},
          {"demands", c.demands},
          {"hits", c.hits},
          {"late", c.late},
          {"misses", c.misses},
          {"hit_rate", c.demands ? Json(c.hit_rate()) : Json(nullptr)},
          {"gpu", c.gpu},
          {"fetched", c.fetched},
          {"streamed", c.streamed},
          {"cpu", c.cpu},
          {"cpu_early", c.cpu_early},
          {"skipped", c.skipped},
          {"substituted", c.substituted},
          {"low_precision", c.low_precision},
          {"revised", c.revised}};
}

Json prefill_block(const Trace& trace, TimeRange range) {
  const PrefillNumbers n = prefill_numbers(trace, range);
  return {{"tokens", n.tokens},
          {"seconds", seconds(n.prefill_ns)},
          {"tokens_per_s", n.tokens_per_s()},
          {"first_token_s", n.first_token_ns * 1e-9}};
}

Json balance_block(const Trace& trace, TimeRange range) {
  if (trace.info.gpus < 2) return nullptr;
  const auto phase_block = [&](Phase phase) {
    const DeviceLoad load = device_load(trace, phase, range);
    return Json{{"mean_largest_load", load.mean_largest()}, {"maximum_load", load.largest}};
  };
  return {{"gpus", trace.info.gpus}, {"prefill", phase_block(Phase::prefill)}, {"decode", phase_block(Phase::decode)}};
}

Json transfers_block(const Trace& trace, TimeRange range) {
  const TransferTotals t = count_transfers(trace, range);
  const LinkUse link = link_while_fetching(trace, range);
  const double ceiling = trace.info.h2d_bytes_per_s;
  return {{"count", t.count},
          {"bytes", t.bytes},
          {"demand_bytes", t.demand_bytes},
          {"prefetch_bytes", t.prefetch_bytes},
          {"promotion_bytes", t.promotion_bytes},
          {"placement_bytes", t.placement_bytes},
          {"wasted_prefetch_bytes", t.wasted_prefetch_bytes},
          {"other_h2d_bytes", t.other_h2d_bytes},
          {"d2h_bytes", t.d2h_bytes},
          {"storage_bytes", t.storage_bytes},
          {"seconds", seconds(t.copy_ns)},
          {"link_bytes_per_s_while_fetching", link.bytes_per_s()},
          {"link_utilisation", ceiling > 0 ? Json(link.bytes_per_s() / ceiling) : Json(nullptr)}};
}

Json decode_block(const Trace& trace, TimeRange range) {
  const DecodeNumbers n = decode_numbers(trace, range);
  const Overlap o = overlap(trace, range);
  const double reachable = seconds(o.gpu_busy_ns) * trace.info.gpu_bytes_per_s;
  return {{"tokens", n.tokens},
          {"seconds", seconds(n.decode_ns)},
          {"tokens_per_s", n.tokens_per_s()},
          {"token_seconds", {{"p50", seconds(n.p50_ns)}, {"p90", seconds(n.p90_ns)}, {"p99", seconds(n.p99_ns)}}},
          {"gpu_bytes_per_s_share", reachable > 0 ? Json(static_cast<double>(o.gpu_bytes) / reachable) : Json(nullptr)},
          {"label", std::string(name(trace.info.label))}};
}

nlohmann::ordered_json make_report(const Trace& trace) {
  const RunInfo& info = trace.info;
  const TimeRange whole;
  Json report;
  report["schema_version"] = kReportSchemaVersion;
  report["model"] = {{"name", valid_utf8(info.model_name)},
                     {"arch", valid_utf8(info.model_arch)},
                     {"file_sha256", valid_utf8(info.model_sha256)}};
  report["machine"] = {{"kind", valid_utf8(info.machine_kind)},
                       {"profile", valid_utf8(info.profile_name)},
                       {"cost_shape", valid_utf8(info.cost_shape)},
                       {"label", std::string(name(info.label))}};
  report["policy"] = policy_block(valid_utf8(info.policy_spec));
  report["cache"] = {{"ratio", info.cache_ratio}, {"bytes", info.cache_bytes}, {"slots", info.slots}};
  report["memory"] = memory_block(info.memory);
  report["prefill"] = prefill_block(trace, whole);
  report["decode"] = decode_block(trace, whole);
  report["experts"] = experts_blocks(trace, whole);
  report["transfers"] = transfers_block(trace, whole);
  report["overlap"] = overlap_block(overlap(trace, whole));
  report["attribution_seconds_per_token"] = attribution_block(trace, whole);
  if (info.gpus > 1) report["balance"] = balance_block(trace, whole);
  report["quality"] = quality_block(trace);
  report["output"] = output_block(trace);
  report["epochs"] = epochs_block(trace);
  add_cupti_block(trace, report);
  report["health"] = health_block(trace);
  report["wall"] = wall_block(trace);
  return report;
}

std::string valid_utf8(std::string_view bytes) {
  std::string result;
  result.reserve(bytes.size());
  std::size_t i = 0;
  while (i < bytes.size()) {
    const auto at = [&](std::size_t k) -> unsigned {
      return i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u;
    };
    const unsigned lead = at(0);
    const std::size_t length = lead < 0x80                   ? 1
                               : lead >= 0xc2 && lead < 0xe0 ? 2
                               : lead >= 0xe0 && lead < 0xf0 ? 3
                               : lead >= 0xf0 && lead < 0xf5 ? 4
                                                             : 0;
    bool valid = length > 0;
    for (std::size_t k = 1; k < length; ++k) valid = valid && (at(k) & 0xc0) == 0x80;
    // Overlong forms, surrogates, and what lies beyond U+10FFFF.
    if (lead == 0xe0) valid = valid && at(1) >= 0xa0;
    if (lead == 0xed) valid = valid && at(1) < 0xa0;
    if (lead == 0xf0) valid = valid && at(1) >= 0x90;
    if (lead == 0xf4) valid = valid && at(1) < 0x90;
    if (valid) {
      result.append(bytes.substr(i, length));
      i += length;
    } else {
      result += "\xef\xbf\xbd";
      ++i;
    }
  }
  return result;
}

}  // namespace expertscope
