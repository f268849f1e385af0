#include "views/describe.h"

#include <algorithm>

#include <fmt/format.h>

#include "views/format.h"
#include "views/timeline_rows.h"

namespace expertscope {
namespace {

double per_second(std::int64_t amount, TimeNs ns) {
  return ns > 0 ? static_cast<double>(amount) * 1e9 / static_cast<double>(ns) : 0;
}

std::string rate_against(double rate, double ceiling) {
  std::string text = format_rate(rate);
  if (ceiling > 0) text += fmt::format(", {} of the ceiling", format_percent(rate / ceiling));
  return text;
}

}  // namespace

std::string expert_name(ExpertId id) {
  return fmt::format("L{}·E{}", id.layer, id.expert);
}

std::string step_name(const Trace& trace, std::uint32_t step) {
  if (step >= trace.steps.size()) return fmt::format("step {}", step);
  const StepRecord& record = trace.steps[step];
  if (record.phase == Phase::prefill) return fmt::format("prompt {}, {} tokens", record.prompt + 1, record.tokens);
  return fmt::format("token {}", record.first_generated);
}

std::string readable(std::string_view identifier) {
  std::string text(identifier);
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

std::string work_name(WorkKind kind) {
  switch (kind) {
    case WorkKind::wait_demand:
      return "wait for a demand copy";
    case WorkKind::wait_prefetch:
      return "wait for a prefetch";
    case WorkKind::wait_placement:
      return "wait for a placement";
    case WorkKind::wait_activation:
      return "wait for the CPU or another GPU";
    case WorkKind::routing_sync:
      return "routing";
    default:
      return readable(name(kind));
  }
}

std::string part_name(TimePart part) {
  switch (part) {
    case TimePart::gpu_compute:
      return "GPU compute";
    case TimePart::cpu_experts:
      return "CPU experts";
    case TimePart::demand_wait:
      return "Demand wait";
    case TimePart::prefetch_wait:
      return "Prefetch wait";
    case TimePart::routing_sync:
      return "Routing, sync";
    case TimePart::policy:
      return "Policy";
    case TimePart::sampling:
      return "Sampling";
    case TimePart::profiler:
      return "Profiler";
    case TimePart::remainder:
      return "Remainder";
  }
  return "?";
}

std::string epoch_text(const EpochRecord& epoch) {
  if (epoch.epoch == 0) return fmt::format("{}, cache {}", epoch.policy_spec, format_ratio(epoch.cache_ratio));
  std::string text = epoch.change;
  for (std::size_t arrow = text.find("->"); arrow != std::string::npos; arrow = text.find("->", arrow))
    text.replace(arrow, 2, "→");
  return text;
}

std::string prefetch_text(const PrefetchCounts& counts) {
  std::string text;
  const auto add = [&](std::uint32_t count, const char* what) {
    if (count == 0) return;
    if (!text.empty()) text += ", ";
    text += format_count(count) + " " + what;
  };
  add(counts.used, "useful");
  add(counts.late, "late");
  add(counts.wasted, "wasted");
  add(counts.pending, "open");
  return text;
}

Description describe_work(const Trace& trace, const WorkRecord& work, EarlyWork early) {
  Description d;
  const TimeNs ns = work.end_ns - work.start_ns;
  d.step = work.step;
  d.title = work_name(work.kind);
  d.title[0] = static_cast<char>(std::toupper(d.title[0]));
  if (work.layer != kNone16 && work.expert != kNone16) {
    d.expert = ExpertId{work.layer, work.expert};
    d.title += " " + expert_name(*d.expert);
  } else if (work.layer != kNone16) {
    d.title += fmt::format(", layer {}", work.layer);
  }
  d.lines = {{"took", format_duration(ns)},
             {"at", format_axis_time(work.start_ns, 1000)},
             {"in", step_name(trace, work.step)}};
  if (is_wait(work.kind)) return d;
  if (early != EarlyWork::none) {
    d.title += ", early";
    d.lines.emplace_back("early",
                         fmt::format("computed one layer early, on the input of layer {}", int{work.layer} - 1));
    if (early == EarlyWork::unasked) d.lines.emplace_back("router", "chose another expert after all");
  }
  if (work.precision != Precision::native) d.lines.emplace_back("precision", std::string(name(work.precision)));
  if (work.tokens > 0 && early == EarlyWork::none) d.lines.emplace_back("rows", format_count(work.tokens));
  if (work.bytes > 0)
    d.lines.emplace_back("memory", format_bytes(static_cast<double>(work.bytes)) + " at " +
                                       rate_against(per_second(work.bytes, ns),
                                                    work.lane == Lane::gpu ? trace.info.gpu_bytes_per_s : 0));
  if (work.flops > 0 && early == EarlyWork::none)
    d.lines.emplace_back("arithmetic", format_si(per_second(work.flops, ns), "FLOP/s"));
  return d;
}

Description describe_copy(const Trace& trace, const CopyRecord& copy, PrefetchFate fate) {
  Description d;
  const TimeNs ns = copy.end_ns - copy.start_ns;
  d.step = copy.step;
  d.title = readable(name(copy.reason)) + " copy";
  d.title[0] = static_cast<char>(std::toupper(d.title[0]));
  if (copy.layer != kNone16 && copy.expert != kNone16) {
    d.expert = ExpertId{copy.layer, copy.expert};
    d.title += " " + expert_name(*d.expert);
  }
  d.lines = {
      {"took", format_duration(ns)},
      {"queued", format_duration(std::max<TimeNs>(0, copy.start_ns - copy.issued_ns))},
      {"bytes", format_bytes(static_cast<double>(copy.bytes))},
      {"rate", rate_against(per_second(copy.bytes, ns),
                            copy.lane == Lane::h2d ? trace.info.h2d_bytes_per_s / std::max(1, trace.info.gpus) : 0)},
      {"issued in",
       step_name(trace, copy.step) + (copy.slot != kNone16 ? fmt::format(", for slot {}", copy.slot) : "")}};
  if (copy.precision != Precision::native) d.lines.emplace_back("precision", std::string(name(copy.precision)));
  if (copy.reason == CopyReason::prefetch)
    d.lines.emplace_back("prefetch", std::string(name(fate)));
  else if (!copy.last)
    d.lines.emplace_back("piece", "overtaken, more to come");
  return d;
}

Description describe_layer(const Trace& trace, std::uint32_t step, std::uint16_t layer) {
  Description d;
  d.step = step;
  d.title = fmt::format("Layer {} of {}", layer, step_name(trace, step));
  std::size_t demands = 0, hits = 0;
  std::string left_out;
  InexactCounts inexact;
  for (const DemandRecord& demand : trace.demands_of(step)) {
    if (demand.layer != layer) continue;
    ++demands;
    hits += demand.state == DemandState::hit;
    inexact.add(demand);
    if (demand.outcome != Outcome::skipped && demand.outcome != Outcome::substituted) continue;
    if (left_out.size() < 40)
      left_out += fmt::format("{}E{} {}", left_out.empty() ? "" : ", ", demand.expert, name(demand.outcome));
    else if (!left_out.ends_with("…"))
      left_out += " …";
  }
  d.lines.emplace_back("hits", fmt::format("{} of {}", hits, demands));
  if (inexact.any()) d.lines.emplace_back("inexact", inexact_text(inexact));
  if (!left_out.empty()) d.lines.emplace_back("left out", left_out);
  return d;
}

Description describe_step(const Trace& trace, const StepRecord& step, const InexactCounts& inexact,
                          const PrefetchCounts& prefetches) {
  Description d;
  d.step = step.step;
  d.title = step_name(trace, step.step);
  d.title[0] = static_cast<char>(std::toupper(d.title[0]));
  std::size_t hits = 0;
  const auto demands = trace.demands_of(step.step);
  for (const DemandRecord& demand : demands) hits += demand.state == DemandState::hit;
  d.lines = {{"took", format_duration(step.end_ns - step.start_ns)},
             {"at", format_axis_time(step.start_ns, 1000)},
             {"position", std::to_string(step.first_position)}};
  if (!demands.empty())
    d.lines.emplace_back("hits",
                         fmt::format("{} of {}, {}", hits, demands.size(),
                                     format_percent(static_cast<double>(hits) / static_cast<double>(demands.size()))));
  if (prefetches.all() > 0) d.lines.emplace_back("prefetches", prefetch_text(prefetches));
  if (inexact.any()) d.lines.emplace_back("inexact", inexact_text(inexact));
  if (step.epoch < trace.epochs.size()) d.lines.emplace_back("policy", trace.epochs[step.epoch].policy_spec);
  return d;
}

}  // namespace expertscope
