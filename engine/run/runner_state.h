// What a Runner is made of, for its own files: set-up, commands and the public face are in runner.cpp, the steps of
// prompts in runner_steps.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "engine/run/epochs.h"
#include "engine/run/exact_shadow.h"
#include "engine/run/executor.h"
#include "engine/run/runner.h"

namespace expertscope {

// A prompt and how it goes on.
struct Runner::Job {
  PromptItem item;
  int tokens = 0;
  std::vector<std::int32_t> forced;  // its tokens, where they are given

  std::int32_t forced_at(std::size_t i) const { return forced.empty() ? -1 : forced[i]; }
};

struct Runner::State {
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

}  // namespace expertscope
