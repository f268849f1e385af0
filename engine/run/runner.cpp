#include "engine/run/runner.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/model/likelihood.h"
#include "engine/run/epochs.h"
#include "engine/run/exact_shadow.h"
#include "engine/run/executor.h"

namespace expertscope {
namespace {

// Teacher forcing needs the logits of every token, so its steps are shorter.
constexpr int kTextChunk = 64;

LogitsRecord best_logits(std::uint32_t prompt, std::span<const float> logits, int count) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto kept = std::min<std::ptrdiff_t>(count, static_cast<std::ptrdiff_t>(order.size()));
  std::partial_sort(order.begin(), order.begin() + kept, order.end(), [&](std::int32_t a, std::int32_t b) {
    const float la = logits[static_cast<std::size_t>(a)], lb = logits[static_cast<std::size_t>(b)];
    return la != lb ? la > lb : a < b;
  });
  LogitsRecord record{.prompt = prompt, .best = {}};
  for (std::ptrdiff_t i = 0; i < kept; ++i) {
    const std::int32_t id = order[static_cast<std::size_t>(i)];
    record.best.emplace_back(id, logits[static_cast<std::size_t>(id)]);
  }
  return record;
}

}  // namespace

struct Runner::State {
  State(const Model& m, Machine& ma, Observer* o, const RunOptions& opt)
      : model(m),
        machine(ma),
        observer(o),
        options(opt),
        sampler(opt.sampling),
        executor(ma, o,
                 {.layers = m.description().layers,
                  .experts = m.description().router.experts,
                  .top_k = m.description().router.top_k,
                  .recorded_gates = opt.record_gates},
                 options.prior ? &*options.prior : nullptr, nullptr) {}

  // --- set-up
  void describe();
  void start();
  void refuse_oracle(const PolicySpec& policy) const;
  void note_tokenizer() const;

  // --- prompts
  void check_ids(std::span<const std::int32_t> ids) const;
  void begin_prompt(const PromptItem& item);
  bool boundary() { return !hook || hook(generated, machine.now()); }
  void prefill(std::span<const std::int32_t> ids, bool logits_of_last);
  void shift_context();
  void step(std::span<const std::int32_t> ids, Phase phase, int wanted_logits, bool sample, std::int32_t forced);
  void forget_sequence();
  void compare_with_exact(int token);
  void report_quality(QualityRecord quality);
  void emit_token(const TokenRecord& token);
  void generate(const PromptItem& item, int tokens, std::span<const std::int32_t> forced);
  int context() const { return model.description().context; }

  // --- commands
  void change(const PolicySpec& policy, double ratio, bool reset, const std::string& source, const std::string& text);

  const Model& model;
  Machine& machine;
  Observer* observer;
  RunOptions options;
  Sampler sampler;
  Executor executor;
  std::unique_ptr<Epochs> epochs;
  RunInfo info;
  BoundaryHook hook;

  std::uint32_t next_step = 0, prompts = 0, generated = 0;
  std::set<std::int32_t> known_pieces;
  // The prompt in work.
  std::vector<std::int32_t> history;  // tokens forwarded in its sequence
  int position = 0;                   // of the next token in the KV cache
  std::vector<std::int32_t> output;
  std::function<void(int first)> after_logits;  // reads the machine's logits when a step is over
  ExactShadow* shadow = nullptr;
};

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

// --- prompts

void Runner::State::begin_prompt(const PromptItem& item) {
  forget_sequence();
  executor.sequence_begins();
  history.clear();
  position = 0;
  output.clear();
  if (observer != nullptr) {
    PromptRecord record{.prompt = prompts,
                        .first_step = next_step,
                        .at_ns = machine.now(),
                        .workload = item.workload,
                        .text = item.text};
    if (item.text.empty() && model.has_tokenizer()) record.text = model.tokenizer().decode(item.ids);
    observer->on_prompt(record);
  }
}

void Runner::State::emit_token(const TokenRecord& token) {
  if (observer == nullptr) return;
  if (model.has_tokenizer() && known_pieces.insert(token.id).second)
    observer->on_piece(token.id, model.tokenizer().bytes(token.id));
  observer->on_event(token);
}

void Runner::State::forget_sequence() {
  machine.reset_sequence(0);
  if (shadow != nullptr) shadow->reset_sequence(0);
}

// The machine's logits of a token of the last step beside the exact ones.
void Runner::State::compare_with_exact(int token) {
  if (shadow != nullptr && shadow->wants_more()) shadow->compare(token, machine.logits(token));
}

// What is known of a prompt, with what its shadow found since the last call.
void Runner::State::report_quality(QualityRecord quality) {
  if (shadow != nullptr) shadow->take(quality);
  if (observer != nullptr && (quality.tokens > 0 || quality.shadowed > 0)) observer->on_quality(quality);
}

// The KV cache is full: it is forgotten and filled again with the last half of what it held.
void Runner::State::shift_context() {
  const auto keep = std::min<std::size_t>(history.size(), static_cast<std::size_t>(context() / 2));
  const std::vector<std::int32_t> last(history.end() - static_cast<std::ptrdiff_t>(keep), history.end());
  forget_sequence();
  position = 0;
  history.clear();
  if (observer != nullptr) {
    observer->on_health({.code = "context.shifted",
                         .severity = Severity::info,
                         .count = 1,
                         .text = "the context was full: the run went on from its last half"});
  }
  prefill(last, false);
}

void Runner::State::step(std::span<const std::int32_t> ids, Phase phase, int wanted_logits, bool sample,
                         std::int32_t forced) {
  std::vector<TokenInput> tokens(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const bool wants = i + static_cast<std::size_t>(wanted_logits) >= ids.size();
    tokens[i] = {.id = ids[i], .sequence = 0, .position = position + static_cast<int>(i), .wants_logits = wants};
  }
  StepRecord record{.start_ns = machine.now(),
                    .step = next_step,
                    .prompt = prompts,
                    .epoch = epochs->current(),
                    .first_position = static_cast<std::uint32_t>(position),
                    .first_generated = generated,
                    .tokens = static_cast<std::uint16_t>(ids.size()),
                    .sampled = static_cast<std::uint16_t>(sample ? 1 : 0),
                    .logits = static_cast<std::uint16_t>(wanted_logits),
                    .phase = phase};
  executor.run_step({.step = next_step, .tokens = tokens}, phase, {});
  if (sample) {
    machine.begin_host_work(WorkKind::sampling);
    const std::int32_t id = forced >= 0 ? forced : sampler.sample(machine.logits(static_cast<int>(ids.size()) - 1));
    machine.end_host_work();
    output.push_back(id);
  }
  record.end_ns = machine.now();
  if (observer != nullptr) observer->on_event(record);
  if (sample) {
    emit_token({.at_ns = record.end_ns,
                .step = next_step,
                .prompt = prompts,
                .index = generated,
                .id = output.back(),
                .generated = true});
    ++generated;
  }
  if (shadow != nullptr && shadow->wants_more()) shadow->step(tokens);
  if (sample) compare_with_exact(static_cast<int>(ids.size()) - 1);
  if (after_logits) after_logits(static_cast<int>(ids.size()) - wanted_logits);
  ++next_step;
  position += static_cast<int>(ids.size());
  history.insert(history.end(), ids.begin(), ids.end());
}

// Forwards tokens in chunks; nothing is sampled.
void Runner::State::prefill(std::span<const std::int32_t> ids, bool logits_of_last) {
  while (!ids.empty()) {
    if (position == context()) shift_context();
    const auto n = std::min(
        {ids.size(), static_cast<std::size_t>(options.prefill_chunk), static_cast<std::size_t>(context() - position)});
    step(ids.first(n), Phase::prefill, logits_of_last && n == ids.size() ? 1 : 0, false, -1);
    ids = ids.subspan(n);
  }
}

void Runner::State::check_ids(std::span<const std::int32_t> ids) const {
  for (std::int32_t id : ids) {
    if (id < 0 || id >= model.description().vocab) {
      throw InputError(fmt::format("token id {} is not in the model's vocabulary: ids go from 0 to {}", id,
                                   model.description().vocab - 1));
    }
  }
}

void Runner::State::generate(const PromptItem& item, int tokens, std::span<const std::int32_t> forced) {
  if (item.ids.empty()) throw InputError("the prompt is empty: give at least one token");
  check_ids(item.ids);
  if (!boundary()) return;
  begin_prompt(item);
  for (std::size_t i = 0; i < item.ids.size(); ++i) {
    emit_token({.at_ns = machine.now(),
                .step = next_step,
                .prompt = prompts,
                .index = static_cast<std::uint32_t>(i),
                .id = item.ids[i]});
  }
  const auto forced_at = [&](int i) { return forced.empty() ? -1 : forced[static_cast<std::size_t>(i)]; };
  // All but the prompt's last chunk; the last one samples the first token.
  std::span<const std::int32_t> ids = item.ids;
  const auto last =
      std::min<std::size_t>(ids.size(), static_cast<std::size_t>(std::min(options.prefill_chunk, context())));
  const std::size_t before = (ids.size() - 1) / last * last;
  prefill(ids.first(before), false);
  ids = ids.subspan(before);
  if (position + static_cast<int>(ids.size()) > context()) shift_context();
  if (options.record_logits > 0) {
    after_logits = [&](int row) {
      if (observer != nullptr) observer->on_logits(best_logits(prompts, machine.logits(row), options.record_logits));
    };
  }
  step(ids, Phase::prefill, 1, true, forced_at(0));
  after_logits = nullptr;
  const auto eos = model.has_tokenizer() ? model.tokenizer().eos() : std::nullopt;
  for (int i = 1; i < tokens; ++i) {
    if (options.stop_at_eos && output.back() == eos) break;
    if (!boundary()) break;
    if (position == context()) shift_context();
    const std::int32_t id = output.back();
    step({&id, 1}, Phase::decode, 1, true, forced_at(i));
  }
  report_quality({.prompt = prompts});
  ++prompts;
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

std::vector<std::int32_t> Runner::run_prompt(const PromptItem& item, int tokens) {
  PromptItem with_ids = item;
  if (with_ids.ids.empty()) with_ids.ids = tokenize(item.text);
  state_->generate(with_ids, tokens, {});
  return state_->output;
}

void Runner::run_forced(const PromptItem& item, int tokens) {
  PromptItem given = item;
  if (given.ids.empty()) given.ids = tokenize(item.text);
  if (given.ids.size() < 2) throw InputError("--forced needs at least two token ids");
  const std::vector<std::int32_t> forced(given.ids.begin() + 1, given.ids.end());
  state_->check_ids(forced);
  given.ids.resize(1);
  state_->generate(given, std::min(tokens, static_cast<int>(forced.size())), forced);
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
    s.begin_prompt({.workload = item.workload, .text = begin == 0 ? item.text : std::string(), .ids = {}});
    for (std::size_t i = begin; i < end; ++i) {
      s.emit_token({.at_ns = s.machine.now(),
                    .step = s.next_step,
                    .prompt = s.prompts,
                    .index = static_cast<std::uint32_t>(i),
                    .id = ids[i]});
    }
    QualityRecord quality{.prompt = s.prompts};
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
      s.step({ids.data() + at, n}, Phase::prefill, static_cast<int>(n), false, -1);
      at += n;
    }
    s.after_logits = nullptr;
    s.report_quality(quality);
    scored = end;
    ++s.prompts;
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
