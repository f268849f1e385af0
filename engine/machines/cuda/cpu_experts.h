// Experts on the CPU beside a GPU: a layer's are noted as they are asked for and computed together, on the caller's
// thread pool, from host memory. Inputs come from and results go to page-locked memory that kernels read. Experts of
// the next layer may be computed a layer early, on this layer's input.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/machine.h"
#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_clock.h"
#include "engine/machines/cuda/host_experts.h"
#include "engine/machines/cuda/timeline.h"
#include "engine/machines/operation_costs.h"
#include "engine/model/kernels.h"
#include "engine/model/model.h"

namespace expertscope::cuda {

class CpuExperts {
 public:
  using Idle = std::function<void()>;  // called while it waits for an expert to be in host memory

  // What it is given outlives it.
  CpuExperts(const Model&, HostExperts&, ThreadPool&, int max_step_tokens, const DeviceClock&, Tickets&,
             const OperationCosts&);
  ~CpuExperts();
  CpuExperts(const CpuExperts&) = delete;
  CpuExperts& operator=(const CpuExperts&) = delete;
  void set_observer(Observer* observer) { observer_ = observer; }

  void begin_layer(std::uint32_t step, std::size_t tokens);
  // Steps of several tokens: fetches [tokens][width] inputs from the device once `routed` is over. A single token's
  // comes with the router's mail.
  void ask_input(const float* device_input, cudaEvent_t routed);
  bool input_asked() const { return input_asked_; }
  bool input_arrived() const { return cudaEventQuery(input_moved_) == cudaSuccess; }
  // Only noted. The demand stays where it is until run.
  Ticket add(const Demand&, Precision);
  bool empty() const { return work_.empty(); }
  // Computes what was noted; inputs that were asked for have arrived.
  void run(const Idle&);

  // --- experts of the next layer
  Ticket add_early(const Demand&);  // only noted; nothing of it is kept
  bool has_early() const { return !early_.empty(); }
  void keep_input();            // this layer's, which has arrived, for run_early
  void run_early(const Idle&);  // while the device goes on to the next layer
  void take_early();            // their layer is in work, and the device reads no results of the one before

  float* input() const { return input_.data(); }          // mapped, [tokens][width]
  const float* output() const { return output_.data(); }  // mapped, [tokens * top_k][width]
  // Which outputs are from here, if any: a byte each in mapped memory, or for a single token a bit each.
  bool any_output() const { return any_output_; }
  const std::uint8_t* from_host() const { return single() || !any_output_ ? nullptr : from_host_.data(); }
  std::uint32_t host_bits() const { return host_bits_; }
  Ticket last() const { return last_; }        // of those outputs
  double cost_ns() const { return cost_ns_; }  // of one row, as lately measured

 private:
  struct CpuWork {
    const Demand* demand;
    Ticket ticket;
    Precision precision;
    HostExperts::Held held;
  };
  struct EarlyWork {
    ExpertId expert;
    Ticket ticket;
    std::size_t first_row, rows;  // of early_rows_
  };
  bool single() const { return tokens_ == 1; }
  std::size_t width() const { return static_cast<std::size_t>(model_.description().width); }
  std::size_t output_of(const Arithmetic::ExpertRow&) const;
  HostExperts::Held hold(ExpertId, Precision, const Idle&);
  void wait_for(const HostExperts::Held&, const Idle&) const;
  void run_singles(std::span<const CpuWork>);
  void run_one(const CpuWork&);
  void compute(ExpertId, Precision, const std::byte* blob, std::span<const float* const> from,
               std::span<float* const> to);
  void mark(std::size_t output);
  struct Ran {
    ExpertId expert;  // kNone16: several of the layer
    Precision precision = Precision::native;
    std::size_t experts = 1, rows = 0;
  };
  TimeNs ran(TimeNs begin, const Ran&);

  const Model& model_;
  HostExperts& host_;
  const DeviceClock& clock_;
  Tickets& tickets_;
  const OperationCosts& costs_;
  Kernels kernels_;
  Observer* observer_ = nullptr;
  Stream moves_;
  cudaEvent_t input_moved_ = nullptr;
  MappedArray<float> input_, output_;
  MappedArray<std::uint8_t> from_host_;
  std::vector<float> hidden_;
  double cost_ns_;

  // The layer in work.
  std::uint32_t step_ = 0;
  std::size_t tokens_ = 0;
  std::vector<CpuWork> work_;
  bool input_asked_ = false, any_output_ = false;
  std::uint32_t host_bits_ = 0;
  Ticket last_ = 0;

  // Of the next layer.
  std::vector<EarlyWork> early_;
  std::vector<Arithmetic::ExpertRow> early_rows_;
  std::vector<float> early_input_, early_output_;  // [tokens][width], [early_rows_][width]
};

}  // namespace expertscope::cuda
