#include <algorithm>
#include <array>

#include "engine/machines/cuda/cpu_experts.h"
#include "engine/machines/cuda/device_profile.h"
#include "engine/machines/cuda/kernels.h"

namespace expertscope::cuda {
namespace {

constexpr std::size_t kMostTogether = Kernels::kMostProducts / 2;  // experts of one row in one parallel loop

}  // namespace

CpuExperts::CpuExperts(const Model& model, ThreadPool& pool, int max_step_tokens, const DeviceClock& clock,
                       Tickets& tickets, const OperationCosts& costs)
    : model_(model),
      clock_(clock),
      tickets_(tickets),
      costs_(costs),
      kernels_(pool),
      cost_ns_(static_cast<double>(costs.shape().expert_bytes) / 40) {  // 40 GB/s until measured
  const ModelDescription& d = model.description();
  const std::int64_t tokens = max_step_tokens, picks = tokens * d.router.top_k;
  input_ = MappedArray<float>(tokens * d.width);
  output_ = MappedArray<float>(picks * d.width);
  from_host_ = MappedArray<std::uint8_t>(picks);
  check(cudaEventCreateWithFlags(&input_moved_, cudaEventDisableTiming), "making an event");
}

CpuExperts::~CpuExperts() {
  (void)cudaEventDestroy(input_moved_);
}

void CpuExperts::begin_layer(std::uint32_t step, std::size_t tokens) {
  step_ = step;
  tokens_ = tokens;
  work_.clear();
  input_asked_ = false;
  host_bits_ = 0;
}

void CpuExperts::ask_input(const float* device_input, cudaEvent_t routed) {
  input_asked_ = true;
  check(cudaStreamWaitEvent(moves_, routed, 0), "queueing a wait");
  move(device_input, input_.data(),
       static_cast<std::int64_t>(tokens_) * model_.description().width * static_cast<std::int64_t>(sizeof(float)),
       moves_);
  check(cudaEventRecord(input_moved_, moves_), "recording an event");
}

Ticket CpuExperts::add(const Demand& demand) {
  const Ticket ticket = tickets_.make();
  work_.push_back({&demand, ticket});
  return ticket;
}

void CpuExperts::run() {
  if (single()) {
    for (std::size_t i = 0; i < work_.size(); i += kMostTogether) {
      run_singles(std::span(work_).subspan(i, std::min(kMostTogether, work_.size() - i)));
    }
  } else {
    std::fill_n(from_host_.data(), tokens_ * static_cast<std::size_t>(model_.description().router.top_k),
                std::uint8_t{0});
    for (const CpuWork& work : work_) {
      const TimeNs begin = clock_.now();
      run_one(*work.demand);
      ran(begin, {&work, 1}, work.demand->rows.size());
    }
  }
}

void CpuExperts::ran(TimeNs begin, std::span<const CpuWork> works, std::size_t rows) {
  const TimeNs end = clock_.now();
  const ExpertId first = works[0].demand->expert;
  const auto experts = static_cast<std::int64_t>(works.size());
  const Work cost = costs_.expert(rows / works.size());
  if (observer_ != nullptr) {
    observer_->on_event(WorkRecord{.start_ns = begin,
                                   .end_ns = end,
                                   .bytes = experts * cost.bytes,
                                   .flops = experts * cost.flops,
                                   .step = step_,
                                   .layer = first.layer,
                                   .expert = works.size() == 1 ? first.expert : kNone16,
                                   .tokens = static_cast<std::uint16_t>(rows),
                                   .kind = WorkKind::expert,
                                   .lane = Lane::cpu});
  }
  for (const CpuWork& work : works) tickets_.complete(work.ticket, end);
  if (rows != works.size()) return;
  cost_ns_ += kSmoothing * (static_cast<double>(end - begin) / static_cast<double>(experts) - cost_ns_);
}

// Experts of one row each, together: a few small products would leave most threads waiting for each other.
void CpuExperts::run_singles(std::span<const CpuWork> works) {
  const ModelDescription& d = model_.description();
  const auto width = static_cast<std::size_t>(d.width), ff = static_cast<std::size_t>(d.expert_ff);
  hidden_.resize(std::max(hidden_.size(), 2 * works.size() * ff));
  const float* input = input_.data();
  std::array<const float*, kMostTogether> inner;
  std::array<float*, kMostTogether> hidden, up, to;
  std::array<Kernels::Product, 2 * kMostTogether> first;
  std::array<Kernels::Product, kMostTogether> second;
  const TimeNs begin = clock_.now();
  for (std::size_t i = 0; i < works.size(); ++i) {
    const Demand& demand = *works[i].demand;
    const std::byte* blob = model_.expert_blob(demand.expert).data();
    const ExpertBlobLayout& layout = model_.blob_layout(demand.expert.layer);
    const int rank = demand.rows[0].rank;
    inner[i] = hidden[i] = hidden_.data() + 2 * i * ff;
    up[i] = hidden[i] + ff;
    to[i] = output_.data() + static_cast<std::size_t>(rank) * width;
    host_bits_ |= 1u << rank;
    first[2 * i] = {matrix_in_blob(layout.gate, blob), {&input, 1}, {&hidden[i], 1}};
    first[2 * i + 1] = {matrix_in_blob(layout.up, blob), {&input, 1}, {&up[i], 1}};
    second[i] = {matrix_in_blob(layout.down, blob), {&inner[i], 1}, {&to[i], 1}};
  }
  kernels_.multiply_integers(std::span(first.data(), 2 * works.size()));
  for (std::size_t i = 0; i < works.size(); ++i) silu_multiply(up[i], d.expert_ff, hidden[i]);
  kernels_.multiply_integers(std::span(second.data(), works.size()));
  ran(begin, works, works.size());
}

void CpuExperts::run_one(const Demand& demand) {
  const ModelDescription& d = model_.description();
  const auto width = static_cast<std::size_t>(d.width), ff = static_cast<std::size_t>(d.expert_ff);
  const std::span<const std::byte> blob = model_.expert_blob(demand.expert);
  const ExpertBlobLayout& layout = model_.blob_layout(demand.expert.layer);
  const std::size_t rows = demand.rows.size();
  hidden_.resize(std::max(hidden_.size(), rows * ff));
  std::vector<const float*> from(rows), inner(rows);
  std::vector<float*> hidden(rows), to(rows);
  for (std::size_t i = 0; i < rows; ++i) {
    const auto token = static_cast<std::size_t>(demand.rows[i].token);
    const std::size_t output =
        token * static_cast<std::size_t>(d.router.top_k) + static_cast<std::size_t>(demand.rows[i].rank);
    from[i] = input_.data() + token * width;
    hidden[i] = hidden_.data() + i * ff;
    inner[i] = hidden[i];
    to[i] = output_.data() + output * width;
    from_host_[output] = 1;
  }
  kernels_.gated_multiply(matrix_in_blob(layout.gate, blob.data()), matrix_in_blob(layout.up, blob.data()), from,
                          hidden);
  kernels_.multiply(matrix_in_blob(layout.down, blob.data()), inner, to);
}

}  // namespace expertscope::cuda
