#include "engine/run/replay.h"

#include <algorithm>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "engine/error.h"
#include "engine/machines/emulated_machine.h"
#include "engine/run/epochs.h"
#include "engine/run/executor.h"
#include "engine/run/recorded_tokens.h"

namespace expertscope {
namespace {

// When each expert is demanded, from the recorded routes.
class RecordedFuture final : public Future {
 public:
  explicit RecordedFuture(const RecordedRun& run)
      : experts_(run.info.experts), ticks_(static_cast<std::size_t>(run.info.layers * run.info.experts)) {
    for (const RouteRecord& r : run.routes) {
      const std::uint64_t tick = std::uint64_t{r.step} * static_cast<std::uint64_t>(run.info.layers) + r.layer + 1;
      for (std::size_t k = 0; k < r.picks; ++k) {
        std::vector<std::uint64_t>& of = ticks_[static_cast<std::size_t>(r.layer * experts_ + r.expert[k])];
        if (of.empty() || of.back() != tick) of.push_back(tick);
      }
    }
  }

  std::uint64_t next_use(ExpertId id, std::uint64_t tick) const override {
    const std::vector<std::uint64_t>& of = ticks_[static_cast<std::size_t>(id.layer * experts_ + id.expert)];
    const auto next = std::upper_bound(of.begin(), of.end(), tick);
    return next == of.end() ? kNever : *next;
  }

 private:
  int experts_;
  std::vector<std::vector<std::uint64_t>> ticks_;
};

RunShape shape_of(const RecordedRun& run) {
  int most_tokens = 1;
  for (const StepRecord& s : run.steps) most_tokens = std::max<int>(most_tokens, s.tokens);
  RunShape shape{.layers = run.info.layers,
                 .experts = run.info.experts,
                 .top_k = run.info.top_k,
                 .context = run.info.context,
                 .max_step_tokens = most_tokens};
  // A host store smaller than all experts was a bounded one.
  const std::int64_t all = std::int64_t{run.info.layers} * run.info.experts * run.info.expert_bytes;
  if (run.info.memory.host_bytes > 0 && run.info.memory.host_bytes < all) shape.host_bytes = run.info.memory.host_bytes;
  return shape;
}

// The changes that a request makes: the recorded ones, or one from the start.
std::vector<EpochRecord> epochs_of(const RecordedRun& run, const ReplayRequest& request) {
  std::vector<EpochRecord> epochs;
  if (request.policy) {
    EpochRecord only;
    only.source = "replay";
    only.change = "start";
    only.policy_spec = to_string(*request.policy);
    only.cache_ratio = request.cache_ratio.value_or(run.info.cache_ratio);
    epochs.push_back(only);
    return epochs;
  }
  epochs = run.epochs;
  for (EpochRecord& e : epochs) e.cache_ratio = request.cache_ratio.value_or(e.cache_ratio);
  return epochs;
}

// Whether an epoch's own routes have what its policy used: a real machine records that, and no more unless asked to.
bool has_own_gates(const RecordedRun& run, std::uint32_t first_step, std::uint32_t end_step, int needed) {
  return std::ranges::all_of(run.routes, [&](const RouteRecord& r) {
    return r.step < first_step || r.step >= end_step || r.gates > std::min(needed, run.info.layers - 1 - r.layer);
  });
}

// `end_step`: of the epoch where it is the session's own, as it was recorded.
std::string why_not(const RecordedRun& run, const EpochRecord& epoch, std::optional<std::uint32_t> end_step) {
  const PolicySpec spec = parse_policy_spec(epoch.policy_spec);
  const Policy policy(spec);
  const int all_experts = run.info.layers * run.info.experts;
  const int needed = std::min(policy.lookahead(), run.info.layers - 1);
  const bool own = end_step && has_own_gates(run, epoch.step, *end_step, needed);
  if (needed > run.info.recorded_gates && !own) {
    return fmt::format("{} needs the gates of {} coming layer{}, the session has {}: record it with --record-gates {}",
                       epoch.policy_spec, needed, needed == 1 ? "" : "s", run.info.recorded_gates, needed);
  }
  try {
    check_fits(spec, static_cast<int>(epoch.cache_ratio * all_experts + 1e-9), all_experts);
  } catch (const InputError& e) {
    return e.what();
  }
  return "";
}

// The recorded routes of each step.
class StepRoutes {
 public:
  explicit StepRoutes(const RecordedRun& run) : run_(run) {
    for (std::size_t i = 0; i < run.routes.size(); ++i) {
      if (i == 0 || run.routes[i].step != run.routes[i - 1].step) first_.emplace_back(run.routes[i].step, i);
    }
  }
  // Throws InputError when a step's routes are not complete: rows of the file were lost or make no sense.
  std::span<const RouteRecord> of(const StepRecord& step) const {
    const auto it = std::lower_bound(first_.begin(), first_.end(), std::pair<std::uint32_t, std::size_t>{step.step, 0});
    const auto wanted = static_cast<std::size_t>(run_.info.layers) * step.tokens;
    const bool there = it != first_.end() && it->first == step.step && it->second + wanted <= run_.routes.size();
    const std::span<const RouteRecord> routes =
        there ? std::span(run_.routes).subspan(it->second, wanted) : std::span<const RouteRecord>{};
    bool complete = there;
    for (std::size_t i = 0; i < routes.size() && complete; ++i) {
      const RouteRecord& r = routes[i];
      complete = r.step == step.step && r.layer == i / step.tokens && r.token == i % step.tokens;
    }
    if (!complete)
      throw InputError(
          fmt::format("the session's routes of step {} are not complete, so it cannot be replayed", step.step));
    return routes;
  }

 private:
  const RecordedRun& run_;
  std::vector<std::pair<std::uint32_t, std::size_t>> first_;  // step, index of its first route
};

}  // namespace

std::string why_not(const RecordedRun& run, const ReplayRequest& request) {
  const std::vector<EpochRecord> epochs = epochs_of(run, request);
  for (std::size_t i = 0; i < epochs.size(); ++i) {
    std::optional<std::uint32_t> end_step;
    if (!request.policy)
      end_step = i + 1 < epochs.size() ? epochs[i + 1].step : std::numeric_limits<std::uint32_t>::max();
    if (std::string why = why_not(run, epochs[i], end_step); !why.empty()) return why;
  }
  return "";
}

void replay(const RecordedRun& run, const ReplayRequest& request, Observer& observer) {
  if (const std::string why = why_not(run, request); !why.empty()) throw InputError(why);
  const std::vector<EpochRecord> changes = epochs_of(run, request);
  if (changes.empty()) throw InputError("the session has no epochs, so it cannot be replayed");
  const std::unique_ptr<Machine> machine =
      make_emulated_machine(parse_profile(run.info.profile_json, "the session's machine profile"),
                            parse_cost_shape(run.info.cost_shape_json), shape_of(run), nullptr, nullptr);
  std::optional<Prior> prior = request.prior;
  if (!prior && !run.info.prior_json.empty())
    prior = parse_prior(run.info.prior_json, "the session's prior", run.info.layers, run.info.experts);
  const RecordedFuture future(run);
  const StepRoutes routes(run);
  RecordedTokens recorded_tokens(run.tokens, run.prompts, run.info.context);
  Executor executor(*machine, &observer,
                    {.layers = run.info.layers,
                     .experts = run.info.experts,
                     .top_k = run.info.top_k,
                     .recorded_gates = run.info.recorded_gates,
                     .sequences = run.info.sequences},
                    prior ? &*prior : nullptr, &future);
  Epochs epochs(executor, *machine, &observer, run.info.expert_bytes, run.info.layers * run.info.experts);

  RunInfo info = run.info;
  machine->describe(info);
  info.policy_spec = changes[0].policy_spec;
  info.cache_ratio = changes[0].cache_ratio;
  info.slots = static_cast<std::uint32_t>(epochs.slots_for(info.cache_ratio));
  info.cache_bytes = info.slots * info.expert_bytes;
  machine->set_observer(&observer);
  observer.on_start(info);

  std::size_t next_change = 0, next_prompt = 0;
  const auto apply_changes = [&](std::uint32_t step) {
    for (; next_change < changes.size() && changes[next_change].step <= step; ++next_change) {
      const EpochRecord& c = changes[next_change];
      epochs.begin({.policy = parse_policy_spec(c.policy_spec),
                    .cache_ratio = c.cache_ratio,
                    .cache_reset = c.cache_reset,
                    .source = c.source,
                    .text = c.change},
                   c.step, c.at_token);
      if (next_change == 0) executor.wait_for_placement();
    }
  };
  for (const StepRecord& recorded : run.steps) {
    apply_changes(recorded.step);
    for (; next_prompt < run.prompts.size() && run.prompts[next_prompt].first_step <= recorded.step; ++next_prompt) {
      executor.sequence_begins(static_cast<int>(run.prompts[next_prompt].sequence));
      PromptRecord prompt = run.prompts[next_prompt];
      prompt.at_ns = machine->now();
      observer.on_prompt(prompt);
    }
    StepRecord step = recorded;
    step.start_ns = machine->now();
    step.epoch = epochs.current();
    const std::vector<TokenInput> tokens = recorded_tokens.of(recorded);
    executor.run_step({.step = recorded.step, .tokens = tokens}, recorded.phase, routes.of(recorded));
    for (int i = 0; i < recorded.sampled; ++i) {
      machine->begin_host_work(WorkKind::sampling);
      machine->end_host_work();
    }
    step.end_ns = machine->now();
    observer.on_event(step);
  }
  info.memory = machine->memory();
  observer.on_start(info);
}

}  // namespace expertscope
