#include "engine/run/runner.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/model/likelihood.h"
#include "engine/run/runner_state.h"

namespace expertscope {
namespace {

// Teacher forcing needs the logits of every token, so its steps are shorter.
constexpr int kTextChunk = 64;

}  // namespace

// --- set-up

void Runner::State::describe() {
  const ModelDescription& d = model.description();
  info.model_name = d.name;
  info.model_arch = d.architecture;
  info.model_sha256 = model.file_sha256();
  info.layers = d.layers;
  info.experts = d.router.experts;
  info.top_k = d.router.top_k;
  info.context = d.context;
  info.vocab = d.vocab;
  info.recorded_gates = options.record_gates;
  info.prefill_chunk = options.prefill_chunk;
  info.sequences = options.sequences;
  info.policy_spec = to_string(options.policy);
  info.sampling_json = nlohmann::ordered_json{{"temperature", options.sampling.temperature},
                                              {"top_p", options.sampling.top_p},
                                              {"seed", options.sampling.seed}}
                           .dump();
  if (options.prior) info.prior_json = to_json(*options.prior);
  machine.describe(info);
}

void Runner::State::refuse_oracle(const PolicySpec& policy) const {
  if (!Policy(policy).needs_future()) return;
  throw InputError(fmt::format(
      "policy {}: an oracle knows the future and exists in replay alone: use expertscope replay", to_string(policy)));
}

void Runner::State::start() {
  const ModelDescription& d = model.description();
  ES_ASSERT(options.record_gates >= 0 && options.record_gates <= kMaxLookahead, "recorded gates out of range");
  refuse_oracle(options.policy);
  describe();
  const int all_experts = d.layers * d.router.experts;
  epochs = std::make_unique<Epochs>(executor, machine, observer, info.expert_bytes, all_experts);
  double ratio = options.cache_ratio;
  if (options.cache_bytes) {
    ratio = std::min(
        1.0, static_cast<double>(*options.cache_bytes) / (static_cast<double>(info.expert_bytes) * all_experts));
  }
  if (!std::isfinite(ratio) || ratio < 0 || ratio > 1)
    throw InputError(fmt::format("cache ratio {} is not allowed: give a share from 0 to 1", ratio));
  info.cache_ratio = ratio;
  info.slots = static_cast<std::uint32_t>(epochs->slots_for(ratio));
  info.cache_bytes = info.slots * info.expert_bytes;
  check_fits(options.policy, static_cast<int>(info.slots), all_experts);
  machine.set_observer(observer);
  if (observer != nullptr) observer->on_start(info);
  note_tokenizer();
  epochs->begin({.policy = options.policy, .cache_ratio = ratio, .source = "start", .text = "start"}, 0, 0);
  executor.wait_for_placement();
  info.memory = machine.memory();
  if (observer != nullptr) observer->on_start(info);
}

void Runner::State::note_tokenizer() const {
  if (observer == nullptr || !model.has_tokenizer() || !model.tokenizer().notice()) return;
  observer->on_health({.code = "tokenizer.default_rules",
                       .severity = Severity::warning,
                       .count = 1,
                       .text = *model.tokenizer().notice()});
}

// --- commands

void Runner::State::change(const PolicySpec& policy, double ratio, bool reset, const std::string& source,
                           const std::string& text) {
  refuse_oracle(policy);
  const std::int64_t peak_before = machine.memory().gpu_peak_bytes;
  epochs->begin({.policy = policy, .cache_ratio = ratio, .cache_reset = reset, .source = source, .text = text},
                next_step, generated);
  if (observer != nullptr && machine.memory().gpu_peak_bytes != peak_before) {
    info.memory.gpu_peak_bytes = machine.memory().gpu_peak_bytes;
    observer->on_start(info);
  }
}

// --- the public face

Runner::Runner(const Model& model, Machine& machine, Observer* observer, const RunOptions& options)
    : state_(std::make_unique<State>(model, machine, observer, options)) {
  state_->start();
}

Runner::~Runner() = default;

void Runner::set_boundary_hook(BoundaryHook hook) {
  state_->hook = std::move(hook);
}

void Runner::set_shadow(ExactShadow* shadow) {
  state_->shadow = shadow;
}

std::vector<std::int32_t> Runner::tokenize(const std::string& text) const {
  return state_->model.tokenizer().encode(text);
}

Runner::Job Runner::job_of(const PromptItem& item, int tokens) const {
  Job job{.item = item, .tokens = tokens, .forced = {}};
  if (job.item.ids.empty()) job.item.ids = tokenize(item.text);
  return job;
}

// Of a prompt whose own ids are what it goes on with.
Runner::Job Runner::forced_job_of(const PromptItem& item, int tokens) const {
  Job job = job_of(item, tokens);
  std::vector<std::int32_t>& ids = job.item.ids;
  if (ids.size() < 2) throw InputError("--forced needs at least two token ids");
  job.forced.assign(ids.begin() + 1, ids.end());
  state_->check_ids(job.forced);
  ids.resize(1);
  job.tokens = std::min(tokens, static_cast<int>(job.forced.size()));
  return job;
}

std::vector<std::int32_t> Runner::run_prompt(const PromptItem& item, int tokens) {
  const Job job = job_of(item, tokens);
  return state_->generate({&job, 1})[0];
}

void Runner::run_forced(const PromptItem& item, int tokens) {
  const Job job = forced_job_of(item, tokens);
  state_->generate({&job, 1});
}

std::vector<std::vector<std::int32_t>> Runner::run_batch(std::span<const BatchPrompt> prompts, bool forced) {
  ES_ASSERT(static_cast<int>(prompts.size()) <= most_sequences(state_->options.sequences),
            "more prompts than KV caches");
  std::vector<Job> jobs;
  for (const BatchPrompt& p : prompts)
    jobs.push_back(forced ? forced_job_of(p.item, p.tokens) : job_of(p.item, p.tokens));
  return state_->generate(jobs);
}

int Runner::batch_prompts() const {
  return state_->executor.sequences_held();
}

void Runner::run_text(const PromptItem& item) {
  State& s = *state_;
  const std::vector<std::int32_t> ids = item.ids.empty() ? tokenize(item.text) : item.ids;
  s.check_ids(ids);
  if (ids.size() < 2) throw InputError("the text is too short for a perplexity: give at least two tokens");
  if (!s.boundary()) return;
  const auto window = static_cast<std::size_t>(s.context()), stride = window / 2;
  // Every token but the first is scored once: in the first window all, in the others those that the window before did
  // not hold.
  for (std::size_t begin = 0, scored = 1; scored < ids.size(); begin += stride) {
    const std::size_t end = std::min(ids.size(), begin + window);
    State::Sequence text =
        s.begin_prompt({.workload = item.workload, .text = begin == 0 ? item.text : std::string(), .ids = {}}, 0);
    for (std::size_t i = begin; i < end; ++i) {
      s.emit_token({.at_ns = s.machine.now(),
                    .step = s.next_step,
                    .prompt = text.prompt,
                    .index = static_cast<std::uint32_t>(i),
                    .id = ids[i]});
    }
    QualityRecord quality{.prompt = text.prompt};
    for (std::size_t at = begin; at < end;) {
      if (at != begin && !s.boundary()) return;
      const std::size_t n = std::min<std::size_t>(kTextChunk, end - at);
      // The logits of token i score token i + 1.
      s.after_logits = [&](int first_row) {
        for (std::size_t i = static_cast<std::size_t>(first_row); i < n; ++i) {
          const std::size_t target = at + i + 1;
          if (target < std::max(scored, begin + 1) || target >= end) continue;
          quality.nll_sum += negative_log_likelihood(s.machine.logits(static_cast<int>(i)), ids[target]);
          ++quality.tokens;
          s.compare_with_exact(static_cast<int>(i));
        }
      };
      s.forward(text, {ids.data() + at, n}, static_cast<int>(n));
      at += n;
    }
    s.after_logits = nullptr;
    s.report_quality(quality);
    s.note_memory();
    scored = end;
    if (end == ids.size()) break;
  }
}

void Runner::apply(const Command& command) {
  State& s = *state_;
  PolicySpec policy = s.epochs->policy();
  const double ratio = s.epochs->cache_ratio();
  switch (command.kind) {
    case CommandKind::set_policy: {
      const std::string before = to_string(policy);
      policy = parse_policy_spec(command.text);
      s.change(policy, ratio, false, command.source, fmt::format("policy {} -> {}", before, to_string(policy)));
      break;
    }
    case CommandKind::set_component: {
      apply_setting(policy, command.text);
      s.change(policy, ratio, false, command.source, command.text);
      break;
    }
    case CommandKind::set_parameter: {
      apply_setting(policy, fmt::format("{}={}", command.text, command.value));
      s.change(policy, ratio, false, command.source, fmt::format("{} = {}", command.text, command.value));
      break;
    }
    case CommandKind::set_cache_ratio:
      s.change(policy, command.value, false, command.source, fmt::format("cache ratio {} -> {}", ratio, command.value));
      break;
    case CommandKind::reset_cache:
      s.change(policy, ratio, true, command.source, "cache reset");
      break;
    case CommandKind::mark:
      if (s.observer != nullptr)
        s.observer->on_mark({.at_ns = s.machine.now(), .at_token = s.generated, .text = command.text});
      break;
    default:
      ES_ASSERT(false, "this command is the caller's to carry out");
  }
}

const PolicySpec& Runner::policy() const {
  return state_->epochs->policy();
}
double Runner::cache_ratio() const {
  return state_->epochs->cache_ratio();
}
std::int64_t Runner::cache_bytes() const {
  return state_->epochs->cache_bytes();
}
std::uint32_t Runner::slots() const {
  return state_->epochs->slots();
}
std::uint32_t Runner::generated() const {
  return state_->generated;
}
const RunInfo& Runner::info() const {
  return state_->info;
}

}  // namespace expertscope
