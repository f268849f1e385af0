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
#include "engine/policy/prior.h"
#include "engine/policy/registry.h"

namespace expertscope {

class ExpertCache;

// What the engine remembers of every expert, across policies, so that a policy chosen live starts informed. Ticks count
// (step, layer) pairs; all demands of one layer of one step share a tick.
struct ExpertUse {
  std::uint64_t last_use_tick = 0;     // 0: never
  std::uint64_t loaded_tick = 0;       // of its current stay in the cache
  std::uint64_t uses = 0;              // demands since the session began
  std::uint32_t uses_in_sequence = 0;  // demands since the current prompt began
};

// When each expert will be demanded again: known in replay alone.
class Future {
 public:
  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();
  virtual ~Future() = default;
  // First tick after `tick` at which the expert is demanded.
  virtual std::uint64_t next_use(ExpertId, std::uint64_t tick) const = 0;
};

struct PolicyContext {
  int layers = 0, experts = 0, top_k = 0;
  int slots = 0;                                // expert slots of the cache
  const Prior* prior = nullptr;                 // nullptr: starts uninformed
  const Future* future = nullptr;               // nullptr but in replay
  const std::vector<ExpertUse>* use = nullptr;  // [layer * experts + expert]
  const Machine* machine = nullptr;             // for its cost estimates

  std::uint64_t tick = 0;  // of the layer in work
  std::uint32_t step = 0;
  int layer = 0;
  Phase phase = Phase::prefill;

  const ExpertUse& use_of(ExpertId id) const {
    return (*use)[static_cast<std::size_t>(id.layer * experts + id.expert)];
  }
};

struct Candidate {  // an expert that a coming layer is predicted to want
  ExpertId expert;
  int distance = 1;       // layers ahead
  float probability = 0;  // of the gate that predicted it, summed over the step's tokens
};

// How the cache's slots are divided. Per layer: a layer's experts compete for its own slots. Global: all for all.
struct Pools {
  bool global = false;
  std::vector<int> slots;  // [layer], or one entry
};

class Component {
 public:
  virtual ~Component() = default;
  virtual void sequence_begins() {}
};

class Predictor : public Component {
 public:
  virtual bool uses_gates() const { return false; }  // needs the gates of coming layers (--record-gates)
  virtual void predict(const PolicyContext&, const LayerRoutes&, int depth, std::vector<Candidate>& out) = 0;
};

class Prefetcher : public Component {
 public:
  virtual int depth() const { return 0; }  // layers ahead that it wants predicted
  // What to copy early, first first.
  virtual void choose(const PolicyContext&, std::span<const Candidate>, std::vector<ExpertId>& out) = 0;
  virtual bool cancels_refuted() const { return false; }  // drop queued prefetches that the gate did not confirm
};

class Evictor : public Component {
 public:
  virtual bool evicts() const { return true; }
  // The resident with the smallest score goes; ties: older last use, then lower layer and expert.
  virtual double keep_score(const PolicyContext&, ExpertId) const = 0;
  // Keeps an incoming expert out when its own score is not above the victim's (it is streamed), and may give up experts
  // of the layer in work.
  virtual bool compares_incoming() const { return false; }
};

class Allocator : public Component {
 public:
  // What should be resident from the start, best first; no more than the pools hold is placed. `note` gets a sentence
  // for health when it had to do without something it wants.
  virtual std::vector<ExpertId> initial(const PolicyContext&, const Pools&, std::string& note) const = 0;
  virtual bool needs_all_resident() const { return false; }
};

enum class Placement : std::uint8_t { fetch, cpu };
class Placer : public Component {
 public:
  // Asked for the misses of a layer one by one, in the order in which they will be issued.
  virtual Placement place(const PolicyContext&, const Demand& missing) = 0;
};

class Gate : public Component {
 public:
  // The executed set is the router's own: the device may start resident experts before the host knows the route.
  virtual bool keeps_router() const = 0;
};

class PrecisionChooser : public Component {
 public:
  virtual Precision choose(const PolicyContext&, const Demand&) const = 0;
};

class CapacitySplitter : public Component {
 public:
  virtual Pools split(const PolicyContext&) const = 0;
};

// A demand of the layer in work as the planner sees it.
struct DemandView {
  const Demand* demand = nullptr;
  DemandState state = DemandState::miss;
};

class Scheduler : public Component {
 public:
  virtual void order(const PolicyContext&, std::span<DemandView>) const = 0;
};

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
