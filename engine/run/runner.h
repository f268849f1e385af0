// Runs prompts through a model on a machine under a policy: prefill, decode, sampling, epochs. The engine thread's only
// object; headless capture and the live window use it alike.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/command.h"
#include "engine/machine.h"
#include "engine/model/model.h"
#include "engine/model/sampler.h"
#include "engine/observer.h"
#include "engine/policy/component.h"
#include "engine/policy/prior.h"
#include "engine/policy/registry.h"

namespace expertscope {

class ExactShadow;
class Executor;

struct RunOptions {
  PolicySpec policy;
  double cache_ratio = 0.25;                // used when cache_bytes is not given
  std::optional<std::int64_t> cache_bytes;  // of the cost shape
  std::optional<Prior> prior;
  SamplingRule sampling;
  bool stop_at_eos = false;
  int record_gates = kMaxLookahead;
  int record_logits = 0;    // best logits of each prompt's last position, into the records
  int prefill_chunk = 512;  // tokens
  int sequences = 1;        // most prompts whose tokens share a decode step
};

struct PromptItem {
  std::string workload;  // name of its list, or ""
  std::string text;      // "" for raw ids
  std::vector<std::int32_t> ids;
};

struct BatchPrompt {
  PromptItem item;
  int tokens = 0;  // to generate
};

// KV caches that a machine must have for RunOptions::sequences: a policy's scheduler may divide them into batches.
constexpr int most_sequences(int sequences) {
  return sequences > 1 ? kMostBatches * sequences : 1;
}

// Called by the engine thread at every token boundary, before the next step. Applies commands through the runner (see
// Runner::apply); may block (pause, pacing). Returns false to end the run.
using BoundaryHook = std::function<bool(std::uint32_t generated, TimeNs now)>;

class Runner {
 public:
  // Checks that policy, cache and machine fit together (InputError). The observer gets on_start and the first epoch.
  Runner(const Model&, Machine&, Observer*, const RunOptions&);
  ~Runner();

  void set_boundary_hook(BoundaryHook);
  // The exact computation that runs beside the first tokens, outside of the steps' time; outlives the runner.
  void set_shadow(ExactShadow*);

  // Tokens of a text, BOS added as the model wants. InputError when the model has no tokenizer.
  std::vector<std::int32_t> tokenize(const std::string& text) const;

  // One prompt: KV reset, cache kept; exactly `tokens` generated (fewer only with stop_at_eos or when the hook ends the
  // run). Returns the generated ids.
  std::vector<std::int32_t> run_prompt(const PromptItem&, int tokens);
  // Decodes along the given ids one at a time instead of sampling: prefill of the first, one decode step for each
  // other.
  void run_forced(const PromptItem&, int tokens);
  // Several prompts: each is read on its own, then one decode step gives each of them a token; who has all its tokens
  // leaves. Returns the generated ids of each.
  std::vector<std::vector<std::int32_t>> run_batch(std::span<const BatchPrompt>, bool forced = false);
  // How many prompts run_batch may be given now: RunOptions::sequences, or more where the policy's scheduler divides
  // them into batches that take turns.
  int batch_prompts() const;
  // Teacher-forced over a long text in windows of the context with a stride of half; records the perplexity.
  void run_text(const PromptItem&);

  // Policy, component, parameter, cache size, reset, mark: applied now (between tokens), recorded as an epoch. Other
  // kinds are the caller's. InputError when refused; then nothing has changed.
  void apply(const Command&);

  const PolicySpec& policy() const;
  double cache_ratio() const;
  std::int64_t cache_bytes() const;
  std::uint32_t slots() const;
  std::uint32_t generated() const;
  const RunInfo& info() const;

 private:
  struct State;
  struct Job;
  Job job_of(const PromptItem&, int tokens) const;
  Job forced_job_of(const PromptItem&, int tokens) const;
  std::unique_ptr<State> state_;
};

}  // namespace expertscope
