// The nine kinds of components that a policy is composed of, and what they see. Each component is a small class in a
// file of its own under components/. They decide; the executor carries out. All calls come from the engine thread.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/machine.h"
#include "engine/policy/balance.h"
#include "engine/policy/prior.h"
#include "engine/policy/registry.h"

namespace expertscope {

class ExpertCache;
class Parameters;

// What the engine remembers of every expert, across policies, so that a policy chosen live starts informed. Ticks count
// (step, layer) pairs; all demands of one layer of one step share a tick. Numbers order what ticks leave tied.
struct ExpertUse {
  std::uint64_t last_use_tick = 0;           // 0: never
  std::uint64_t last_use_number = 0;         // of its last demand, in the order in which a layer's demands were planned
  std::uint64_t previous_use_tick = 0;       // of the use before its last
  std::uint64_t loaded_tick = 0;             // when its current stay in the cache was decided
  std::uint64_t load_number = 0;             // of that load, counting all loads
  std::uint64_t uses = 0;                    // demands since the session began
  std::uint32_t uses_in_sequence = 0;        // demands since the current prompt began
  std::uint32_t uses_since_load = 0;         // demands since it was last loaded
  std::uint32_t tokens_in_sequence = 0;      // picks since the current prompt began
  std::uint32_t low_tokens_in_sequence = 0;  // of them, run below native precision
  std::uint32_t last_token = 0;  // number in the current prompt's text, from 1, of the last token that picked it
};

// When each expert will be demanded again: known in replay alone.
class Future {
 public:
  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();
  virtual ~Future() = default;
  // First tick after `tick` at which the expert is demanded.
  virtual std::uint64_t next_use(ExpertId, std::uint64_t tick) const = 0;
};

// What the components of one policy tell each other.
struct PolicyState {
  // [layer * experts + expert]: how probably the expert is demanded when its layer runs next, by the predictor's word;
  // empty where nothing is forecast.
  std::vector<float> forecast;
  // [layer * experts + expert]: the tick until whose end an expert should stay, predicted but not yet used. What is
  // held is evicted only when nothing else is left, that of the farthest layer first.
  std::vector<std::uint64_t> held_until;
  // [layer * experts + expert]: smoothed recent router score, kept by evictors that judge by it (mrs); else empty.
  std::vector<double> router_score;
};

struct PolicyContext {
  int layers = 0, experts = 0, top_k = 0;
  int slots = 0;                                // expert slots of the cache
  int devices = 1;                              // GPUs
  const Prior* prior = nullptr;                 // nullptr: starts uninformed
  const Future* future = nullptr;               // nullptr but in replay
  const std::vector<ExpertUse>* use = nullptr;  // [layer * experts + expert]
  const ExpertCache* cache = nullptr;           // the main pool
  const ExpertCache* low_cache = nullptr;       // of the policy's low precision; empty where it has none
  const Machine* machine = nullptr;             // for its cost estimates
  PolicyState* state = nullptr;

  std::uint64_t tick = 0;  // of the layer in work
  std::uint32_t step = 0;
  int layer = 0;  // -1: the step begins
  Phase phase = Phase::prefill;
  std::uint32_t tokens = 0;  // of the current prompt's text so far, those of the step included

  std::size_t index(ExpertId id) const { return static_cast<std::size_t>(id.layer * experts + id.expert); }
  const ExpertUse& use_of(ExpertId id) const { return (*use)[index(id)]; }
  // Layers from the one in work to that of an expert, in the order of execution: 0 is the layer in work.
  int layers_ahead(ExpertId id) const { return layer < 0 ? id.layer + 1 : (id.layer - layer + layers) % layers; }
};

struct Candidate {  // an expert that a coming layer is predicted to want
  ExpertId expert;
  int distance = 1;       // layers ahead
  float probability = 0;  // by what predicted it, summed over the step's tokens
};

struct EarlyCopy {
  ExpertId expert;
  bool low = false;  // the version of the policy's low precision
};

// A demand of the layer in work as the planner sees it.
struct DemandView {
  const Demand* demand = nullptr;
  DemandState state = DemandState::miss;
  bool low = false;  // served by the version of the policy's low precision
};

class Component {
 public:
  virtual ~Component() = default;
  // A sentence for health when it has to do without something of the prior that it wants.
  virtual std::string misses(const PolicyContext&) const { return ""; }
  virtual void sequence_begins(const PolicyContext&) {}
  // A step's tokens are known; ctx.layer is -1. Their ids are 0 where a replayed session did not record them.
  virtual void step_begins(const PolicyContext&, std::span<const TokenInput>) {}
  // A layer's true routes are known; nothing is decided for it yet. ctx.use_of counts them already.
  virtual void routed(const PolicyContext&, const LayerRoutes&) {}
  // What it does without since the prior lacks it: a sentence for health, empty when it wants nothing.
  virtual std::string uninformed(const PolicyContext&) const { return {}; }
};

class Predictor : public Component {
 public:
  virtual bool uses_gates() const { return false; }              // needs the gates of coming layers (--record-gates)
  virtual bool predicts_at_step_start() const { return false; }  // also before a step's first layer, without routes
  virtual bool needs_future() const { return false; }
  // What the token that a sequence goes on with will want, [layer * experts + expert] as in PolicyState; before it is
  // forwarded. Empty where nothing is forecast for a single token.
  virtual std::vector<float> forecast(const PolicyContext&, const TokenInput&) { return {}; }
  // Candidates for up to `depth` coming layers, nearest layer first, most probable first.
  virtual void predict(const PolicyContext&, const LayerRoutes&, int depth, std::vector<Candidate>& out) = 0;
};

class Prefetcher : public Component {
 public:
  virtual int depth() const { return 0; }  // layers ahead that it wants predicted
  // What to copy early, first first. What is there or on its way is left out by the executor.
  virtual void choose(const PolicyContext&, std::span<const Candidate>, std::vector<EarlyCopy>& out) = 0;
  virtual bool cancels_refuted() const { return false; }  // drop queued prefetches that the gate did not confirm
  // Early copies wait in so many staging slots of their own until they are used, and displace nothing; 0: they take
  // slots of the cache.
  virtual int staging_slots() const { return 0; }
};

class Evictor : public Component {
 public:
  virtual bool evicts() const { return true; }
  // The resident with the smallest score goes; ties: older last use, then lower layer and expert. It does not change
  // from when a layer was routed until its prefetches are planned, but for what is loaded meanwhile.
  virtual double keep_score(const PolicyContext&, ExpertId) const = 0;
  // The same of many.
  virtual void keep_scores(const PolicyContext& ctx, std::span<const ExpertId> ids, std::span<double> out) const {
    for (std::size_t i = 0; i < ids.size(); ++i) out[i] = keep_score(ctx, ids[i]);
  }
  // Keeps an incoming expert out when its own score is not above the victim's (it is streamed).
  virtual bool compares_incoming() const { return false; }
  // May give up experts of the layer in work once their own work is planned: for a scan in waves.
  virtual bool evicts_demanded() const { return compares_incoming(); }
  virtual bool needs_future() const { return false; }
};

// An evictor that scores many experts without a virtual call for each: `class Lru final : public ScoringEvictor<Lru>`.
template <typename Final>
class ScoringEvictor : public Evictor {
 public:
  void keep_scores(const PolicyContext& ctx, std::span<const ExpertId> ids, std::span<double> out) const override {
    const Final& self = static_cast<const Final&>(*this);
    for (std::size_t i = 0; i < ids.size(); ++i) out[i] = self.keep_score(ctx, ids[i]);
  }
};

struct Swap {
  ExpertId in, out;
};

class Allocator : public Component {
 public:
  // What should be resident from the start, best first; no more than the pools hold is placed. `note` gets a sentence
  // for health when it had to do without something it wants.
  virtual std::vector<ExpertId> initial(const PolicyContext&, const Pools&, std::string& note) const = 0;
  virtual bool needs_all_resident() const { return false; }
  // Whether reallocate is asked in this phase; then the device starts nothing before the host has decided.
  virtual bool reallocates(Phase) const { return false; }
  // Residents of the layer that make room for others of it before the layer runs (copies with reason promotion).
  virtual void reallocate(const PolicyContext&, const LayerRoutes&, std::vector<Swap>&) {}
};

enum class Placement : std::uint8_t { slot, fetch, stream, cpu };
class Placer : public Component {
 public:
  // Where each demand of the layer runs, in the order in which they will be issued. `out` comes filled: slot for what
  // is resident or on its way, fetch for what is missing. A miss may become stream (run from staging, not kept) or cpu;
  // a fetch for which the evictor gives no slot is streamed.
  virtual void place(const PolicyContext&, std::span<const DemandView>, std::span<Placement> out) = 0;
  // Of a layer that was decided one layer ahead, what is missing runs on the CPU at once.
  virtual bool runs_early() const { return false; }
  // May send residents to the CPU: then the device starts nothing before the host has decided.
  virtual bool moves_residents() const { return false; }
};

class Gate : public Component {
 public:
  // The executed set is the router's own: the device may start resident experts before the host knows the route. All
  // others are inexact.
  virtual bool keeps_router() const = 0;
  virtual int lookahead() const { return 0; }  // gates of coming layers that it reads
  // Changes what the layer executes; `executed` comes as the router's word. A pick that is left out becomes kNone16
  // with weight 0; a substitute must be resident.
  virtual void decide(const PolicyContext&, const LayerRoutes&, std::span<RouteRecord> executed) { (void)executed; }
  // Decides in this layer what the next one will execute, whatever its own router will say.
  virtual bool decides_next(const PolicyContext&) const { return false; }
  virtual void decide_next(const PolicyContext&, const LayerRoutes&, std::span<RouteRecord> next) { (void)next; }
  // Rows that every expert of a layer computes in a step of so many tokens, also where it was given fewer or none; 0:
  // exactly those that it was given.
  virtual int padded_rows(std::size_t tokens) const { return (void)tokens, 0; }
};

class PrecisionChooser : public Component {
 public:
  // The versions in the main pool and in a second one, which pays from the same budget of bytes; native in `low`: there
  // is no second pool. Anything but native is inexact.
  virtual Precision high(const PolicyContext&) { return Precision::native; }
  virtual Precision low(const PolicyContext&) { return Precision::native; }
  virtual bool exact() const { return true; }                   // whether both are native, whatever the context
  virtual double low_share(const PolicyContext&) { return 0; }  // of the budget
  // Whether the low version is the only one that this expert is ever copied in: early copies and placement too.
  virtual bool only_low(const PolicyContext&, ExpertId) { return false; }
  // Whether the low version will do for a demand that the main pool cannot serve.
  virtual bool wants_low(const PolicyContext&, const LayerRoutes&, const Demand&) { return false; }
};

class CapacitySplitter : public Component {
 public:
  explicit CapacitySplitter(const Parameters&);
  // Over the layers; every layer's slots are then divided over the GPUs as its experts are.
  virtual Pools split(const PolicyContext&) const = 0;
  // How experts are divided over the GPUs. With one there is nothing to divide.
  Balance balance() const { return balance_; }
  std::string misses(const PolicyContext&) const override;

 private:
  Balance balance_;
};

class Scheduler : public Component {
 public:
  virtual void order(const PolicyContext&, std::span<DemandView>) const = 0;
  // So many times --sequences are held, and take turns: each round gives every sequence one token, a batch a step.
  virtual int batches() const { return 1; }
  // Before a round: which batch each sequence joins. `batch` comes in the given order; the sizes must stay.
  // `forecasts`: of each next token, empty where its predictor has none.
  virtual void regroup(const PolicyContext&, std::span<const TokenInput> next,
                       std::span<const std::vector<float>> forecasts, std::span<int> batch) {
    (void)next, (void)forecasts, (void)batch;
  }
};
inline constexpr int kMostBatches = 2;

// Values of one component's parameters, checked against its declaration.
class Parameters {
 public:
  Parameters(const PolicySpec& spec, ComponentKind kind) : spec_(spec), kind_(kind) {}
  double operator()(std::string_view parameter) const { return spec_.parameter(kind_, parameter); }
  int integer(std::string_view parameter) const { return static_cast<int>((*this)(parameter)); }
  bool flag(std::string_view parameter) const { return (*this)(parameter) != 0; }

 private:
  const PolicySpec& spec_;
  ComponentKind kind_;
};

// A component as the registry lists it.
struct ComponentEntry {
  ComponentDecl decl;
  std::function<std::unique_ptr<Component>(const Parameters&)> make;
};
const ComponentEntry* find_entry(ComponentKind, std::string_view name);

}  // namespace expertscope
