// The contract of a machine: one host with its GPUs, where the operations of a forward pass are queued on lanes and
// experts are copied between memories. EmulatedMachine (engine/machines/) implements it in modelled time; a CUDA
// machine implements it with streams. Everything above this header is the same code on both.
//
// How work is ordered. Every operation is queued at once and returns a Ticket, its completion. Operations of one lane
// run in the order in which they were queued, except copies, which run by class (see copy_expert). An operation waits
// on its lane for the tickets it is given. Only the wait_* calls block the host.
//
// A step is: begin_step; for each layer attention, router, wait_routes, [revise], [copy_expert | expert_on_gpu |
// expert_on_cpu | expert_on_cpu_early]…, combine; then head and wait_logits.
//
// Threads: one engine thread calls everything here. Failures of the world (out of memory, a lost device) throw
// RunError; what cannot fit is refused with InputError before anything runs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/assert.h"
#include "engine/ids.h"
#include "engine/model/arithmetic.h"
#include "engine/observer.h"
#include "engine/run_info.h"

namespace expertscope {

using Ticket = std::uint64_t;  // 0: nothing to wait for
using SlotId = std::uint16_t;  // expert slot in device memory; kNone16: none

// One distinct expert among the picks of a layer, with the rows it serves.
struct Demand {
  ExpertId expert;
  std::uint16_t rank = 0;  // best rank among its picks
  float weight = 0;        // largest weight among its picks
  std::span<const Arithmetic::ExpertRow> rows;
  std::uint16_t padded_rows = 0;  // a gate pads its rows to so many; 0: not at all
  std::size_t computed_rows() const { return rows.size() > padded_rows ? rows.size() : padded_rows; }
  // The device found it in a usable slot when the router finished and started it by itself (see router()): its
  // completion.
  Ticket started = 0;
};

// What the host learns of a layer's routing. Valid until the next router().
struct LayerRoutes {
  TimeNs asked_ns = 0;                  // when the router finished on the device
  std::span<const RouteRecord> tokens;  // the router's word, one for each token of the step
  std::span<const Demand> truth;        // its picks by expert: by best rank, then expert
  std::span<const Demand> demands;      // what is executed, in the same order: the truth unless a policy revised it
};

struct RouterRequest {
  int layer = 0;
  // Gates of this many coming layers, applied to this layer's input: what the policy uses is charged, what is only
  // recorded is not (the profiler's cost is 0 in modelled time), so a replay that uses fewer gates sees its own costs.
  int lookahead_used = 0, lookahead_recorded = 0;
  bool start_resident = true;  // start demanded experts that have a usable slot without asking the host
  // What the layer executes whatever its router says: decided by an inexact policy one layer earlier. Its own router is
  // then not charged; its word is still recorded. Empty: the router's picks.
  std::span<const RouteRecord> executed;
  std::span<const RouteRecord> given;  // replay: the recorded routes of the step's tokens; empty = compute them
};

struct ExpertCopy {
  ExpertId expert;
  Precision precision = Precision::native;
  std::uint8_t device = 0;
  SlotId slot = kNone16;
  CopyReason reason = CopyReason::demand;
  bool publish = true;  // enter the slot into the device's expert table when complete; false for staging
  Ticket after = 0;     // the last reader of what the slot held before
};

struct StepInput {
  std::uint32_t step = 0;
  std::span<const TokenInput> tokens;
};

// Expert slots that a policy wants on a GPU: those of the main pool, of a second one of lower precision, and for
// staging; and the sequences whose KV caches are held beside them.
struct SlotCounts {
  int device = 0;  // 0 holds the dense weights and the KV caches, too
  int main = 0, staging = 0;
  Precision high_precision = Precision::native;  // of the main pool
  int low = 0;
  Precision low_precision = Precision::native;
  int sequences = 1;
};

class Machine {
 public:
  virtual ~Machine() = default;

  // Fills the machine's part of the description of a run.
  virtual void describe(RunInfo&) const = 0;
  virtual void set_observer(Observer*) = 0;  // nullptr: nobody listens
  // GPU 0 runs the dense layers, the routers and the sums. Others run experts from slots of their own.
  virtual int gpus() const = 0;

  // The host's clock. Modelled time stands still between calls on an emulated machine.
  virtual TimeNs now() const = 0;

  // --- expert slots -------------------------------------------------------------------------------------------------
  // Slots hold one expert each, of the largest native size. ensure_fits refuses (InputError, with the sums) what the
  // memory cannot hold; add_slots asserts that it was asked.
  virtual void ensure_fits(const SlotCounts&) const = 0;
  virtual std::vector<SlotId> add_slots(int device, int count, bool staging, Precision) = 0;
  virtual void remove_slot(SlotId) = 0;  // nothing may be copying into it or reading it
  virtual MemoryUse memory() const = 0;
  // Versions of experts below native precision are made once, before anything asks for them; those that a machine
  // cannot run are refused (InputError).
  virtual void prepare(Precision) = 0;
  virtual std::int64_t expert_bytes(Precision) const = 0;  // of one slot

  // --- copies
  // Queued by reason: demand before promotion before prefetch before placement, in order within a reason. A copy is
  // made in chunks; a better class overtakes at the next chunk boundary. Small activation copies go before all of them.
  virtual Ticket copy_expert(const ExpertCopy&) = 0;
  virtual void raise_copy(Ticket) = 0;   // a demand waits for it: it joins the demand class, its recorded reason stays
  virtual bool cancel_copy(Ticket) = 0;  // false when it has begun: then it completes
  virtual void unpublish(ExpertId) = 0;  // the expert's slot is about to be reused: the device no longer starts from it
  virtual bool is_done(Ticket) = 0;      // at the host's now
  virtual TimeNs wait(Ticket) = 0;       // blocks the host; returns when it completed

  // --- a step
  virtual void begin_step(const StepInput&) = 0;
  virtual void attention(int layer) = 0;
  virtual void router(const RouterRequest&) = 0;
  virtual LayerRoutes wait_routes() = 0;
  // Inexact policies change what the layer executes: picks of expert kNone16 are left out, outputs are summed with the
  // given weights. Only where the device started nothing by itself. A machine that cannot says so in can_revise().
  virtual bool can_revise() const { return false; }
  // `padded_rows` above 0: every expert of the layer computes so many rows, whatever it was given; those that were
  // given none are demands without rows.
  virtual LayerRoutes revise(std::span<const RouteRecord>, int padded_rows) {
    (void)padded_rows;
    ES_ASSERT(false, "this machine revises nothing");
  }
  // The layer's experts on another GPU than the first work on so many rows: they are sent there, once a layer and
  // before the first of those experts. combine() has the results sent back.
  virtual void send_rows(int device, std::size_t rows) {
    (void)device, (void)rows;
    ES_ASSERT(false, "this machine has one GPU");
  }
  // Runs the expert's rows from a slot, after `after` (the copy that fills it).
  virtual Ticket expert_on_gpu(const Demand&, SlotId, Ticket after, Precision) = 0;
  // Runs them on the CPU from the host store; the machine moves the rows there and the results back.
  virtual Ticket expert_on_cpu(const Demand&, Precision) = 0;
  // Runs rows of an expert of the next layer on this layer's input; that layer's combine takes the results.
  virtual Ticket expert_on_cpu_early(const Demand&) { ES_ASSERT(false, "this machine computes nothing early"); }
  // Sums the experts' outputs in rank order into the residual stream, after all the tickets.
  virtual void combine(int layer, std::span<const Ticket> experts) = 0;
  virtual void head() = 0;         // of the tokens that want logits; nothing runs when none does
  virtual void wait_logits() = 0;  // also the end of a step without logits
  // Logits of a token that wanted them, after wait_logits(); empty where the arithmetic is switched off.
  virtual std::span<const float> logits(int token) const = 0;
  virtual void reset_sequence(int sequence) = 0;
  // KV caches of so many sequences are counted as memory from now on; ensure_fits was asked. A machine that decodes one
  // sequence at a time has nothing to do.
  virtual void hold_sequences(int) {}

  // Host work between the calls: an emulated machine charges the profile's constant, a real one takes the clock.
  virtual void begin_host_work(WorkKind) = 0;
  virtual void end_host_work() = 0;

  // When the given completion happened (completed tickets of the current step and layer only).
  virtual TimeNs completed_ns(Ticket) const = 0;

  // Estimates for policies, nanoseconds, refreshed by what was measured on a real machine.
  virtual TimeNs copy_cost_ns() const = 0;  // one expert over the link
  virtual TimeNs gpu_expert_cost_ns(int rows) const = 0;
  virtual TimeNs cpu_expert_cost_ns(int rows) const = 0;
};

}  // namespace expertscope
