// How prompts are read and gone on with, step by step.
#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/run/runner_state.h"

namespace expertscope {
namespace {

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

Runner::State::Sequence Runner::State::begin_prompt(const PromptItem& item, int number) {
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

}  // namespace expertscope
