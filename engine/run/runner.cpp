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

// A prompt in work, in the KV cache of its number.
struct Sequence {
  std::uint32_t prompt = 0;
  int number = 0;
  int position = 0;                   // of its next token in the KV cache
  std::vector<std::int32_t> history;  // tokens forwarded
  std::vector<std::int32_t> output;   // generated ones
};

// Tokens of one sequence that follow each other in a step.
struct Piece {
  Sequence* sequence = nullptr;
  std::span<const std::int32_t> ids;
  std::int32_t forced = -1;  // taken instead of a sampled one
};

}  // namespace

// A prompt and how it goes on.
struct Runner::Job {
  PromptItem item;
  int tokens = 0;
  std::vector<std::int32_t> forced;  // its tokens, where they are given

  std::int32_t forced_at(std::size_t i) const { return forced.empty() ? -1 : forced[i]; }
};

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
                  .recorded_gates = opt.record_gates,
                  .sequences = opt.sequences},
                 options.prior ? &*options.prior : nullptr, nullptr) {}

  // --- set-up
  void describe();
  void start();
  void refuse_oracle(const PolicySpec& policy) const;
  void note_tokenizer() const;

  // --- prompts
  void check_ids(std::span<const std::int32_t> ids) const;
  Sequence begin_prompt(const PromptItem& item, int number);
  bool boundary() { return !hook || hook(generated, machine.now()); }
  void prefill(Sequence& s, std::span<const std::int32_t> ids, bool logits_of_last);
  void shift_context(Sequence& s);
  void step(std::span<const Piece> pieces, Phase phase, int wanted_logits, bool sample);
  void forward(Sequence& s, std::span<const std::int32_t> ids, int wanted_logits);
  std::int32_t sample_for(const Piece& piece, int token);
  void forget(const Sequence& s);
  void compare_with_exact(int token);
  void report_quality(QualityRecord quality);
  void note_memory();
  void emit_token(const TokenRecord& token);
  std::vector<std::vector<std::int32_t>> generate(std::span<const Job> jobs);
  void read_prompt(Sequence& s, const Job& job);
  bool goes_on(const Sequence& s, const Job& job) const;
  std::vector<int> batches_of(std::span<const Piece> live);
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

// --- prompts

Sequence Runner::State::begin_prompt(const PromptItem& item, int number) {
  Sequence s;
  s.prompt = prompts++;
  s.number = number;
  forget(s);
  executor.sequence_begins(number);
  if (observer != nullptr) {
    PromptRecord record{.prompt = s.prompt,
                        .first_step = next_step,
                        .at_ns = machine.now(),
                        .workload = item.workload,
                        .text = item.text,
                        .sequence = static_cast<std::uint32_t>(number)};
    if (item.text.empty() && model.has_tokenizer()) record.text = model.tokenizer().decode(item.ids);
    observer->on_prompt(record);
  }
  return s;
}

void Runner::State::emit_token(const TokenRecord& token) {
  if (observer == nullptr) return;
  if (model.has_tokenizer() && known_pieces.insert(token.id).second)
    observer->on_piece(token.id, model.tokenizer().bytes(token.id));
  observer->on_event(token);
}

void Runner::State::forget(const Sequence& s) {
  machine.reset_sequence(s.number);
  if (shadow != nullptr) shadow->reset_sequence(s.number);
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

// What layers took for their rows is known afterwards.
void Runner::State::note_memory() {
  const std::int64_t work = machine.memory().work_bytes;
  if (work == info.memory.work_bytes) return;
  info.memory.work_bytes = work;
  if (observer != nullptr) observer->on_start(info);
}

// The KV cache is full: it is forgotten and filled again with the last half of what it held.
void Runner::State::shift_context(Sequence& s) {
  const auto keep = std::min<std::size_t>(s.history.size(), static_cast<std::size_t>(context() / 2));
  const std::vector<std::int32_t> last(s.history.end() - static_cast<std::ptrdiff_t>(keep), s.history.end());
  forget(s);
  s.position = 0;
  s.history.clear();
  if (observer != nullptr) {
    observer->on_health({.code = "context.shifted",
                         .severity = Severity::info,
                         .count = 1,
                         .text = "the context was full: the run went on from its last half"});
  }
  prefill(s, last, false);
}

std::int32_t Runner::State::sample_for(const Piece& piece, int token) {
  machine.begin_host_work(WorkKind::sampling);
  const std::int32_t id = piece.forced >= 0 ? piece.forced : sampler.sample(machine.logits(token));
  machine.end_host_work();
  return id;
}

// One forward pass. The last `wanted_logits` of all tokens get logits; `sample`: each sequence is given its next token.
void Runner::State::step(std::span<const Piece> pieces, Phase phase, int wanted_logits, bool sample) {
  std::vector<TokenInput> tokens;
  std::vector<int> last;  // token of each piece
  for (const Piece& p : pieces) {
    for (std::size_t i = 0; i < p.ids.size(); ++i) {
      tokens.push_back(
          {.id = p.ids[i], .sequence = p.sequence->number, .position = p.sequence->position + static_cast<int>(i)});
    }
    last.push_back(static_cast<int>(tokens.size()) - 1);
  }
  const std::size_t first_wanted = tokens.size() - static_cast<std::size_t>(wanted_logits);
  for (std::size_t i = first_wanted; i < tokens.size(); ++i) tokens[i].wants_logits = true;
  StepRecord record{.start_ns = machine.now(),
                    .step = next_step,
                    .prompt = pieces.size() == 1 ? pieces[0].sequence->prompt : kSeveralPrompts,
                    .epoch = epochs->current(),
                    .first_position = static_cast<std::uint32_t>(tokens[0].position),
                    .first_generated = generated,
                    .tokens = static_cast<std::uint16_t>(tokens.size()),
                    .sampled = static_cast<std::uint16_t>(sample ? pieces.size() : 0),
                    .logits = static_cast<std::uint16_t>(wanted_logits),
                    .phase = phase};
  executor.run_step({.step = next_step, .tokens = tokens}, phase, {});
  for (std::size_t i = 0; i < record.sampled; ++i) pieces[i].sequence->output.push_back(sample_for(pieces[i], last[i]));
  record.end_ns = machine.now();
  if (observer != nullptr) observer->on_event(record);
  for (std::size_t i = 0; i < record.sampled; ++i) {
    emit_token({.at_ns = record.end_ns,
                .step = next_step,
                .prompt = pieces[i].sequence->prompt,
                .index = generated++,
                .id = pieces[i].sequence->output.back(),
                .generated = true});
  }
  if (shadow != nullptr && shadow->wants_more()) shadow->step(tokens);
  for (std::size_t i = 0; i < record.sampled; ++i) compare_with_exact(last[i]);
  if (after_logits) after_logits(static_cast<int>(first_wanted));
  ++next_step;
  for (const Piece& p : pieces) {
    p.sequence->position += static_cast<int>(p.ids.size());
    p.sequence->history.insert(p.sequence->history.end(), p.ids.begin(), p.ids.end());
  }
}

// Forwards tokens in one step; nothing is sampled.
void Runner::State::forward(Sequence& s, std::span<const std::int32_t> ids, int wanted_logits) {
  const Piece piece{.sequence = &s, .ids = ids};
  step({&piece, 1}, Phase::prefill, wanted_logits, false);
}

// Forwards tokens in chunks; nothing is sampled.
void Runner::State::prefill(Sequence& s, std::span<const std::int32_t> ids, bool logits_of_last) {
  while (!ids.empty()) {
    if (s.position == context()) shift_context(s);
    const auto n = std::min({ids.size(), static_cast<std::size_t>(options.prefill_chunk),
                             static_cast<std::size_t>(context() - s.position)});
    forward(s, ids.first(n), logits_of_last && n == ids.size() ? 1 : 0);
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

// All but the prompt's last chunk; the last one samples the first token.
void Runner::State::read_prompt(Sequence& s, const Job& job) {
  for (std::size_t i = 0; i < job.item.ids.size(); ++i) {
    emit_token({.at_ns = machine.now(),
                .step = next_step,
                .prompt = s.prompt,
                .index = static_cast<std::uint32_t>(i),
                .id = job.item.ids[i]});
  }
  std::span<const std::int32_t> ids = job.item.ids;
  const auto last =
      std::min<std::size_t>(ids.size(), static_cast<std::size_t>(std::min(options.prefill_chunk, context())));
  const std::size_t before = (ids.size() - 1) / last * last;
  prefill(s, ids.first(before), false);
  ids = ids.subspan(before);
  if (s.position + static_cast<int>(ids.size()) > context()) shift_context(s);
  if (options.record_logits > 0) {
    after_logits = [&](int row) {
      if (observer != nullptr) observer->on_logits(best_logits(s.prompt, machine.logits(row), options.record_logits));
    };
  }
  const Piece piece{.sequence = &s, .ids = ids, .forced = job.forced_at(0)};
  step({&piece, 1}, Phase::prefill, 1, true);
  after_logits = nullptr;
}

bool Runner::State::goes_on(const Sequence& s, const Job& job) const {
  if (s.output.size() >= static_cast<std::size_t>(job.tokens)) return false;
  const auto eos = model.has_tokenizer() ? model.tokenizer().eos() : std::nullopt;
  return !options.stop_at_eos || s.output.back() != eos;
}

// Which batch each live sequence is in for its next token: as few batches as hold them all, of nearly equal size.
std::vector<int> Runner::State::batches_of(std::span<const Piece> live) {
  const std::size_t most = static_cast<std::size_t>(options.sequences);
  const std::size_t count = (live.size() + most - 1) / most;
  std::vector<int> batch(live.size());
  for (std::size_t i = 0; i < live.size(); ++i) batch[i] = static_cast<int>(i * count / live.size());
  if (count < 2) return batch;
  std::vector<TokenInput> next;
  for (const Piece& p : live)
    next.push_back({.id = p.ids[0], .sequence = p.sequence->number, .position = p.sequence->position});
  executor.regroup(next, batch);
  return batch;
}

// Reads the prompts one after the other, then decodes them together. Returns what was generated for each.
std::vector<std::vector<std::int32_t>> Runner::State::generate(std::span<const Job> jobs) {
  for (const Job& job : jobs) {
    if (job.item.ids.empty()) throw InputError("the prompt is empty: give at least one token");
    check_ids(job.item.ids);
  }
  std::vector<Sequence> sequences;
  sequences.reserve(jobs.size());  // pieces point to them
  bool ended = false;
  while (sequences.size() < jobs.size() && !ended) {
    if (ended = !boundary(); ended) break;
    const Job& job = jobs[sequences.size()];
    sequences.push_back(begin_prompt(job.item, static_cast<int>(sequences.size())));
    read_prompt(sequences.back(), job);
  }
  while (!ended) {
    std::vector<Piece> live;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      Sequence& s = sequences[i];
      if (goes_on(s, jobs[i]))
        live.push_back({.sequence = &s, .ids = {&s.output.back(), 1}, .forced = jobs[i].forced_at(s.output.size())});
    }
    if (live.empty()) break;
    const std::vector<int> batch = batches_of(live);
    for (int b = 0; b <= *std::ranges::max_element(batch) && !ended; ++b) {
      if (ended = !boundary(); ended) break;
      std::vector<Piece> together;
      std::vector<std::int32_t> ids;  // outputs grow while the step runs
      ids.reserve(live.size());
      for (std::size_t i = 0; i < live.size(); ++i) {
        if (batch[i] != b) continue;
        if (live[i].sequence->position == context()) shift_context(*live[i].sequence);
        ids.push_back(live[i].ids[0]);
        together.push_back(live[i]);
        together.back().ids = {&ids.back(), 1};
      }
      step(together, Phase::decode, static_cast<int>(together.size()), true);
    }
  }
  note_memory();
  if (!sequences.empty()) report_quality({.prompt = sequences.size() == 1 ? sequences[0].prompt : kSeveralPrompts});
  std::vector<std::vector<std::int32_t>> outputs;
  for (Sequence& s : sequences) outputs.push_back(std::move(s.output));
  outputs.resize(jobs.size());  // nothing for prompts that were not begun
  return outputs;
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
    Sequence text =
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
