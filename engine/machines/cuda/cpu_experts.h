// Experts on the CPU beside a GPU: a layer's are noted as they are asked for and computed together, on the caller's
// thread pool, over the model's own blobs. Inputs come from and results go to page-locked memory that kernels read.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/machine.h"
#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_clock.h"
#include "engine/machines/cuda/timeline.h"
#include "engine/machines/operation_costs.h"
#include "engine/model/kernels.h"
#include "engine/model/model.h"

namespace expertscope::cuda {

class CpuExperts {
 public:
  // What it is given outlives it.
  CpuExperts(const Model&, ThreadPool&, int max_step_tokens, const DeviceClock&, Tickets&, const OperationCosts&);
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
  Ticket add(const Demand&);
  bool empty() const { return work_.empty(); }
  Ticket last() const { return work_.back().ticket; }
  // Computes what was noted; inputs that were asked for have arrived.
  void run();

  float* input() const { return input_.data(); }          // mapped, [tokens][width]
  const float* output() const { return output_.data(); }  // mapped, [tokens * top_k][width]
  // Which outputs are from here: a byte each in mapped memory, or for a single token a bit each.
  const std::uint8_t* from_host() const { return single() ? nullptr : from_host_.data(); }
  std::uint32_t host_bits() const { return host_bits_; }
  double cost_ns() const { return cost_ns_; }  // of one row, as lately measured

 private:
  struct CpuWork {
    const Demand* demand;
    Ticket ticket;
  };
  bool single() const { return tokens_ == 1; }
  void run_singles(std::span<const CpuWork>);
  void run_one(const Demand&);
  void ran(TimeNs begin, std::span<const CpuWork>, std::size_t rows);

  const Model& model_;
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
  bool input_asked_ = false;
  std::uint32_t host_bits_ = 0;
};

}  // namespace expertscope::cuda
