// Runs the layers of a step: takes a route, asks the policy for a plan and carries it out on the machine's lanes. The
// same code runs live on any machine and in replay, where the routes are given and the arithmetic is switched off.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/machine.h"
#include "engine/machines/layer_routing.h"
#include "engine/observer.h"
#include "engine/policy/policy.h"
#include "engine/run/expert_cache.h"
#include "engine/run/victims.h"

namespace expertscope {

struct ExecutorShape {
  int layers = 0, experts = 0, top_k = 0;
  int recorded_gates = 0;  // gates of coming layers recorded beyond what the policy uses
  int sequences = 1;       // whose tokens share a decode step
};

class Executor {
 public:
  // `prior` and `future` may be nullptr and outlive the executor.
  Executor(Machine&, Observer*, const ExecutorShape&, const Prior* prior, const Future* future);

  // Between steps. Takes the policy and so many slots into force; experts that no longer fit are dropped, what the
  // policy's allocator wants resident is queued for placement. InputError when the machine cannot hold the slots; then
  // nothing has changed. Returns sentences for health by code.
  void configure(const PolicySpec&, int slots, bool reset_cache);
  void wait_for_placement();

  // A prompt is about to be read into the KV cache of that number. Sequence 0 begins a batch of prompts that are
  // decoded together: for policies the batch is one sequence.
  void sequence_begins(int sequence);
  // How many sequences a new batch may hold: those of a step, times the batches among which the policy's scheduler
  // divides them.
  int sequences_held() const { return sequences_held(*policy_); }
  // Divides sequences into batches of at most shape.sequences for one token each: `batch` comes with the given order
  // cut into pieces of nearly equal size, and goes as the policy's scheduler wants it. `next`: each sequence's next
  // token.
  void regroup(std::span<const TokenInput> next, std::span<int> batch);
  // One forward pass; leaves the logits on the machine. `given`: recorded routes ordered by layer, then token; empty =
  // live.
  void run_step(const StepInput&, Phase, std::span<const RouteRecord> given);

  const Policy& policy() const { return *policy_; }
  int slots() const { return cache_.slot_count() + low_.slot_count(); }  // of both pools

 private:
  enum class Path : std::uint8_t { started, slot, fetch, stream, cpu, early };
  struct Planned {
    const Demand* demand = nullptr;
    ExpertCache* cache = nullptr;  // the pool of the version that serves it
    DemandState state = DemandState::miss;
    Path path = Path::started;
    SlotId slot = kNone16;
    bool slot_in_use = false;  // by an earlier demand of this plan: filled only after that has been issued
    bool prefetched = false;
    Ticket done = 0;  // when it has been issued
  };
  // An expert of a layer that computes on the CPU since the layer before.
  struct EarlyWork {
    ExpertId expert;
    Ticket done = 0;
  };
  struct PendingDemand {
    DemandRecord record;
    Ticket done = 0;
  };

  void run_layer(int layer, std::span<const RouteRecord> given);
  std::uint64_t first_tick(std::uint32_t step) const;
  int sequences_held(const Policy&) const;

  // --- plan
  void begin_plan();
  void plan(const LayerRoutes&);
  void count_uses(const LayerRoutes&);
  void order_views();
  void plan_swaps(const LayerRoutes&);
  void drop_refuted();
  DemandView view_of(const LayerRoutes&, const Demand&);
  void plan_demand(const DemandView&, Placement);
  void plan_slot(const Demand&, Planned&);
  void plan_miss(const Demand&, Placement, Planned&);
  void plan_prefetches(const LayerRoutes&);
  void plan_next_layer(const LayerRoutes&);
  Ticket early_result(ExpertId) const;

  // --- issue
  void carry_out(const LayerRoutes&);
  void send_rows();
  Ticket carry_out(const Planned&);
  void start_early_work();
  void note_demand(const LayerRoutes&, const Demand&);
  bool is_revised(const LayerRoutes&, const Demand&) const;
  void fetch(const Planned&);
  void issue_prefetches();
  void flush_demands();

  // --- cache
  std::optional<SlotId> slot_for(ExpertCache&, ExpertId incoming);
  bool make_room(ExpertCache&, ExpertId incoming);
  std::optional<ExpertId> victim_for(ExpertCache&, ExpertId incoming);
  Victims& victims_in(const ExpertCache&, ExpertId member);
  void look_for_victims(const ExpertCache&, ExpertId incoming);
  void offer_planned(const ExpertCache&, ExpertId);
  bool may_leave(const ExpertCache&, ExpertId) const;
  int hold_of(ExpertId) const;
  void start_loading(ExpertCache&, ExpertId, SlotId, CopyReason);
  void note_load(ExpertId);
  void evict(ExpertCache&, ExpertId, ResidencyChange);
  void empty(ExpertCache&);
  void note_loaded(ExpertCache&);
  void note_loaded();  // takes over what has been copied since
  void settle();       // no copy under way any more
  void shrink_to_pools(ExpertCache&);
  void place_initially();
  void place(ExpertCache&, const std::vector<ExpertId>& targets);
  struct PoolSizes {
    int high = 0, low = 0;
  };
  PoolSizes pool_sizes(const Policy&, int slots) const;
  // A cache's pools over all GPUs and on each.
  struct DividedPools {
    Pools all;
    std::vector<Pools> by_device;
    int slots_on(int device) const;
  };
  DividedPools divided(const Policy&, int slots, const std::vector<std::uint8_t>& homes) const;
  // What a policy wants of the machine: everything that can be refused is known before anything changes.
  struct Layout {
    PoolSizes sizes{};
    std::vector<std::uint8_t> homes{};
    DividedPools high{}, low{};
    int staged = 0;  // on each GPU
    int sequences = 1;
  };
  Layout layout_of(const Policy&, int slots) const;
  void ensure_fits(const Policy&, const Layout&) const;
  void start_over(const Layout&);
  void set_pools(ExpertCache&, DividedPools);
  void shrink_pool(ExpertCache&, ExpertId member);
  void add_staging();
  void resize(ExpertCache&, int device, int slots);
  void remove_slot(SlotId);
  void resize_staged(int slots);
  static std::vector<ExpertId> fitting(const ExpertCache&, std::vector<ExpertId> best_first);
  Ticket copy(const ExpertCache&, ExpertId, SlotId, CopyReason, bool keep);
  void emit(const ResidencyRecord&);
  bool is_demanded(ExpertId id) const { return id.layer == context_.layer && demanded_[id.expert] != 0; }
  ExpertUse& use(ExpertId id) { return use_[static_cast<std::size_t>(id.layer * shape_.experts + id.expert)]; }

  Machine& machine_;
  Observer* observer_;
  ExecutorShape shape_;
  ExpertCache cache_;  // the main pool
  ExpertCache low_;    // of a lower precision; without slots unless the policy has one
  LastReaders last_readers_;
  std::unique_ptr<Policy> policy_;
  PolicyContext context_;
  PolicyState state_;
  std::vector<ExpertUse> use_;
  std::uint64_t uses_planned_ = 0, loads_ = 0;
  int sequences_begun_ = 0;  // of the batch in work
  struct Staging {
    std::vector<SlotId> slots;
    std::size_t next = 0;
  };
  std::vector<Staging> staging_;  // by GPU

  // The layer in work.
  bool device_starts_ = false;          // residents, without asking the host
  std::vector<RouteRecord> executed_;   // where a gate does not keep the router's word
  std::vector<std::uint8_t> demanded_;  // by expert
  std::vector<std::uint16_t> planned_;  // by expert: 1 + its place in the plan; 0: not there
  std::vector<DemandView> views_;
  std::vector<Placement> placements_;  // of the views
  std::vector<Swap> swaps_;
  std::vector<Planned> plan_;
  std::vector<Candidate> candidates_;
  std::vector<EarlyCopy> wanted_;         // to prefetch
  std::uint64_t plans_ = 0;               // made so far, with the one in work
  std::vector<std::uint64_t> wanted_in_;  // [layer * experts + expert]: the last plan that wanted to prefetch it
  std::vector<Victims> victims_;          // [cache * pool_count() + pool_number()], the main cache first
  std::vector<double> scores_;            // what the evictor says of each member of the pool looked through
  std::vector<EarlyCopy> prefetches_;     // planned: have a slot
  std::vector<Ticket> tickets_;
  std::vector<EarlyWork> early_;  // of this layer
  // The next layer, where it is decided already.
  std::vector<RouteRecord> next_executed_;
  DemandGroups next_groups_;
  std::vector<const Demand*> next_on_cpu_;
  std::vector<EarlyWork> next_early_;
  std::vector<PendingDemand> pending_;  // demands whose completion is not known yet
};

}  // namespace expertscope
