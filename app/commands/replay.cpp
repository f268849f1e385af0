#include "app/commands/replay.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "app/machine_profiles.h"
#include "app/options.h"
#include "app/prior_note.h"
#include "app/replay_list.h"
#include "app/trace_observer.h"
#include "engine/error.h"
#include "engine/policy/prior.h"
#include "engine/run/replay.h"
#include "profiler/health.h"
#include "profiler/metrics.h"
#include "profiler/report.h"
#include "profiler/trace.h"
#include "storage/reader.h"

namespace expertscope {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string file, policies, cache_ratios = "recorded", machine, prior;
  bool json = false;
};

// One run to simulate, and what came of it.
struct Job {
  ReplayRequest request;
  std::string policy;
  double cache_ratio = 0;
  bool from_all = false;
  std::string why_not;
  Json result;
};

// A run's policies and cache sizes, one after the other.
Json epochs_of(const Trace& trace, TimeRange range) {
  Json epochs = Json::array();
  for (std::size_t i = 0; i < trace.epochs.size(); ++i) {
    TimeRange part = range_of_epoch(trace, i);
    part.end_ns = std::min(part.end_ns, range.end_ns);
    Json decode = decode_block(trace, part);
    decode.erase("label");
    epochs.push_back({{"policy", valid_utf8(trace.epochs[i].policy_spec)},
                      {"cache_ratio", trace.epochs[i].cache_ratio},
                      {"decode", std::move(decode)},
                      {"attribution_seconds_per_token", attribution_block(trace, part)}});
  }
  return epochs;
}

Json blocks_of(const Trace& trace, const std::string& policy, double cache_ratio, Label label, TimeRange range = {}) {
  Json json = {{"policy", policy}, {"cache_ratio", cache_ratio}};
  json["memory"] = {{"work_bytes", trace.info.memory.work_bytes}};
  json["prefill"] = prefill_block(trace, range);
  json["experts"] = {{"prefill", experts_block(count_experts(trace, Phase::prefill, range))},
                     {"decode", experts_block(count_experts(trace, Phase::decode, range))}};
  json["transfers"] = transfers_block(trace, range);
  json["decode"] = decode_block(trace, range);
  json["attribution_seconds_per_token"] = attribution_block(trace, range);
  if (trace.info.gpus > 1) json["balance"] = balance_block(trace, range);
  json["epochs"] = epochs_of(trace, range);
  json["label"] = name(label);
  return json;
}

std::optional<Prior> choose_prior(const Options& options, const RecordedRun& run) {
  if (options.prior.empty()) return std::nullopt;
  try {
    return load_prior(options.prior, run.info.layers, run.info.experts);
  } catch (const InputError& error) {
    throw InputError(std::string("--prior: ") + error.what());
  }
}

std::vector<Job> list_jobs(const Options& options, const RecordedRun& run, const std::optional<Prior>& prior) {
  std::vector<Job> jobs;
  for (const ReplayPolicy& policy : parse_policies(options.policies)) {
    for (const std::optional<double>& ratio : parse_cache_ratios(options.cache_ratios)) {
      Job job;
      job.request = {policy.spec, ratio, prior};
      job.policy = policy.spec ? to_string(*policy.spec) : "recorded";
      job.cache_ratio = ratio.value_or(run.info.cache_ratio);
      job.from_all = policy.from_all;
      job.why_not = why_not(run, job.request);
      if (!job.why_not.empty() && !job.from_all)
        throw InputError(
            fmt::format("{} at cache ratio {} cannot be replayed: {}", job.policy, job.cache_ratio, job.why_not));
      jobs.push_back(std::move(job));
    }
  }
  return jobs;
}

void simulate(const RecordedRun& run, Job& job) {
  TraceObserver observer;
  replay(run, job.request, observer);
  job.result = blocks_of(observer.finish(), job.policy, job.cache_ratio, Label::simulated);
}

// Every job is independent of the others, so the number of threads changes no result.
void simulate_all(const RecordedRun& run, std::vector<Job>& jobs) {
  std::atomic<std::size_t> next{0};
  std::vector<std::exception_ptr> failures(jobs.size());
  const auto work = [&] {
    for (std::size_t i = next++; i < jobs.size(); i = next++) {
      if (!jobs[i].why_not.empty()) continue;
      try {
        simulate(run, jobs[i]);
      } catch (...) {
        failures[i] = std::current_exception();
      }
    }
  };
  std::vector<std::jthread> threads;
  for (int i = 1; i < core_count(); ++i) threads.emplace_back(work);
  work();
  threads.clear();
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

std::string row(const Json& result) {
  const auto number = [](const Json& value, double scale) {
    return value.is_number() ? fmt::format("{:.4g}", value.get<double>() * scale) : "-";
  };
  return fmt::format("  {:<32} {:>6} {:>10} {:>10} {:>12} {:>8}\n", result["policy"].get<std::string>(),
                     number(result["cache_ratio"], 1), number(result["decode"]["tokens_per_s"], 1),
                     number(result["experts"]["decode"]["hit_rate"], 100), number(result["transfers"]["bytes"], 1e-9),
                     result["transfers"]["count"].dump());
}

std::string table(const Json& recorded, const Json& results, const Json& skipped) {
  std::string text = fmt::format("  {:<32} {:>6} {:>10} {:>10} {:>12} {:>8}\n", "policy", "ratio", "tok/s", "hit %",
                                 "copied GB", "copies");
  text += row(recorded) +
          fmt::format("  {}\n", recorded["label"].get<std::string>() + " above: the session itself; SIMULATED below");
  for (const Json& result : results) text += row(result);
  for (const Json& entry : skipped)
    text += fmt::format("  {} at {}: left out, {}\n", entry["policy"].get<std::string>(), entry["cache_ratio"].dump(),
                        entry["why"].get<std::string>());
  return text;
}

// A killed run may end with steps whose routes are not there: both sides are compared without them.
TimeRange replayed_part(const Trace& trace, const RecordedRun& run) {
  TimeRange range;
  if (run.steps.size() < trace.steps.size()) range.end_ns = trace.steps[run.steps.size()].start_ns;
  return range;
}

// What the user has to know of the comparison.
std::vector<HealthNote> notes_of(const Trace& trace, const RecordedRun& run, const std::optional<Prior>& prior) {
  std::vector<HealthNote> notes;
  if (prior) {
    if (auto note = note_of_prior(*prior, run.info.model_sha256)) notes.push_back(*note);
  }
  if (run.steps.size() < trace.steps.size())
    notes.push_back(
        {"replay.incomplete", Severity::loss, trace.steps.size() - run.steps.size(),
         fmt::format("Routes of step {} were lost or damaged: the first {} of {} steps are replayed, and the "
                     "session's own numbers here are those of the same steps.",
                     trace.steps[run.steps.size()].step, run.steps.size(), trace.steps.size())});
  return notes;
}

Json health_json(const std::vector<HealthNote>& notes) {
  Json health = Json::object();
  for (const HealthNote& note : notes)
    health[note.code] = {{"severity", name(note.severity)}, {"count", note.count}, {"text", note.text}};
  return health;
}

std::string health_text(const std::vector<HealthNote>& notes) {
  std::string text;
  for (const HealthNote& note : notes)
    text += fmt::format("  health    {} ({}): {}\n", note.code, name(note.severity), note.text);
  return text;
}

int run_replay(const Options& options) {
  SessionReader reader(options.file);
  Trace trace;
  trace.append(reader.read_all());
  RecordedRun run = reader.read_recorded_run();
  if (!options.machine.empty()) run.info.profile_json = to_json(emulated_profile(options.machine));
  if (run.steps.empty()) throw InputError(options.file + ": holds no complete step, so there is nothing to replay");
  const std::optional<Prior> prior = choose_prior(options, run);
  std::vector<Job> jobs = list_jobs(options, run, prior);
  simulate_all(run, jobs);
  const Json recorded =
      blocks_of(trace, run.info.policy_spec, run.info.cache_ratio, run.info.label, replayed_part(trace, run));
  Json results = Json::array(), skipped = Json::array();
  for (Job& job : jobs) {
    if (job.why_not.empty())
      results.push_back(std::move(job.result));
    else
      skipped.push_back({{"policy", job.policy}, {"cache_ratio", job.cache_ratio}, {"why", job.why_not}});
  }
  const std::vector<HealthNote> notes = notes_of(trace, run, prior);
  if (options.json)
    print_json({{"recorded", recorded}, {"results", results}, {"skipped", skipped}, {"health", health_json(notes)}});
  else
    print(table(recorded, results, skipped) + health_text(notes));
  return kExitDone;
}

}  // namespace

void add_replay(CLI::App& program, Action& action) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("replay", "What a session's routing would have cost under other policies and cache sizes");
  command->add_option("FILE", options->file, "Session file")->required();
  command
      ->add_option("--policies", options->policies,
                   "Comma-separated presets; key=value items belong to the preset before them; recorded: the session's "
                   "own; all: every preset and belady")
      ->type_name("LIST")
      ->required();
  command
      ->add_option("--cache-ratios", options->cache_ratios,
                   "Comma-separated, each 0 to 1, or recorded: the session's own [recorded]")
      ->type_name("LIST");
  command
      ->add_option("--machine", options->machine,
                   "emulated:PROFILE, the machine to simulate, with the name of a profile or the path of a file [the "
                   "session's own]")
      ->type_name("MACHINE");
  command
      ->add_option("--prior", options->prior, "What a policy knows before it starts, a JSON file [the session's own]")
      ->type_name("FILE");
  command->add_flag("--json", options->json, "As JSON");
  command->callback([&action, options] { action = [options] { return run_replay(*options); }; });
}

}  // namespace expertscope
