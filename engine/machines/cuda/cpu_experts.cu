#include <algorithm>
#include <array>

#include "engine/machines/cuda/cpu_experts.h"
#include "engine/machines/cuda/device_profile.h"
#include "engine/machines/cuda/kernels.h"

namespace expertscope::cuda {
namespace {

constexpr std::size_t kMostTogether = Kernels::kMostProducts / 2;  // experts of one row in one parallel loop

}  // namespace

CpuExperts::CpuExperts(const Model& model, HostExperts& host, ThreadPool& pool, int max_step_tokens,
                       const DeviceClock& clock, Tickets& tickets, const OperationCosts& costs)
    : model_(model),
      host_(host),
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
  input_asked_ = any_output_ = false;
  host_bits_ = 0;
  last_ = 0;
}

void CpuExperts::ask_input(const float* device_input, cudaEvent_t routed) {
  input_asked_ = true;
  check(cudaStreamWaitEvent(moves_, routed, 0), "queueing a wait");
  move(device_input, input_.data(),
       static_cast<std::int64_t>(tokens_) * model_.description().width * static_cast<std::int64_t>(sizeof(float)),
       moves_);
  check(cudaEventRecord(input_moved_, moves_), "recording an event");
}

std::size_t CpuExperts::output_of(const Arithmetic::ExpertRow& row) const {
  return static_cast<std::size_t>(row.token) * static_cast<std::size_t>(model_.description().router.top_k) +
         static_cast<std::size_t>(row.rank);
}

// An output of the layer in work comes from here.
void CpuExperts::mark(std::size_t output) {
  if (single()) {
    host_bits_ |= 1u << output;
  } else {
    if (!any_output_)
      std::fill_n(from_host_.data(), tokens_ * static_cast<std::size_t>(model_.description().router.top_k),
                  std::uint8_t{0});
    from_host_[output] = 1;
  }
  any_output_ = true;
}

// --- of the layer in work

Ticket CpuExperts::add(const Demand& demand, Precision precision) {
  const Ticket ticket = tickets_.make();
  work_.push_back({&demand, ticket, precision, {}});
  last_ = ticket;
  return ticket;
}

HostExperts::Held CpuExperts::hold(ExpertId id, Precision precision, const Idle& idle) {
  std::optional<HostExperts::Held> held;
  while (!(held = host_.hold(id, precision, CopyReason::demand))) idle();
  return *held;
}

void CpuExperts::wait_for(const HostExperts::Held& held, const Idle& idle) const {
  host_.raise(held);
  while (!host_.there(held)) idle();
}

// As many at once as host memory may hold beside what is being copied from it.
void CpuExperts::run(const Idle& idle) {
  const std::size_t together = std::clamp<std::size_t>(host_.places() / 2, 1, kMostTogether);
  for (std::size_t i = 0; i < work_.size(); i += together) {
    const std::span<CpuWork> some = std::span(work_).subspan(i, std::min(together, work_.size() - i));
    for (CpuWork& work : some) work.held = hold(work.demand->expert, work.precision, idle);
    if (single()) {
      for (const CpuWork& work : some) wait_for(work.held, idle);
      run_singles(some);
    } else {
      for (const CpuWork& work : some) {
        wait_for(work.held, idle);
        run_one(work);
      }
    }
    for (const CpuWork& work : some) host_.release(work.held);
  }
}

// Tells of work and learns what it costs. Returns when it ended.
TimeNs CpuExperts::ran(TimeNs begin, const Ran& what) {
  const TimeNs end = clock_.now();
  const auto experts = static_cast<std::int64_t>(what.experts);
  const Work cost = costs_.expert(what.rows / what.experts, what.precision);
  if (observer_ != nullptr) {
    observer_->on_event(WorkRecord{.start_ns = begin,
                                   .end_ns = end,
                                   .bytes = experts * cost.bytes,
                                   .flops = experts * cost.flops,
                                   .step = step_,
                                   .layer = what.expert.layer,
                                   .expert = what.expert.expert,
                                   .tokens = static_cast<std::uint16_t>(what.rows),
                                   .kind = WorkKind::expert,
                                   .lane = Lane::cpu,
                                   .precision = what.precision});
  }
  if (what.rows == what.experts && what.precision == Precision::native)
    cost_ns_ += kSmoothing * (static_cast<double>(end - begin) / static_cast<double>(experts) - cost_ns_);
  return end;
}

// Experts of one row each, together: a few small products would leave most threads waiting for each other.
void CpuExperts::run_singles(std::span<const CpuWork> works) {
  const ModelDescription& d = model_.description();
  const auto ff = static_cast<std::size_t>(d.expert_ff);
  hidden_.resize(std::max(hidden_.size(), 2 * works.size() * ff));
  const float* input = input_.data();
  std::array<const float*, kMostTogether> inner;
  std::array<float*, kMostTogether> hidden, up, to;
  std::array<Kernels::Product, 2 * kMostTogether> first;
  std::array<Kernels::Product, kMostTogether> second;
  const TimeNs begin = clock_.now();
  for (std::size_t i = 0; i < works.size(); ++i) {
    const Demand& demand = *works[i].demand;
    const std::byte* blob = works[i].held.blob;
    const ExpertBlobLayout& layout = host_.layout(demand.expert.layer, works[i].precision);
    const auto rank = static_cast<std::size_t>(demand.rows[0].rank);
    inner[i] = hidden[i] = hidden_.data() + 2 * i * ff;
    up[i] = hidden[i] + ff;
    to[i] = output_.data() + rank * width();
    mark(rank);
    first[2 * i] = {matrix_in_blob(layout.gate, blob), {&input, 1}, {&hidden[i], 1}};
    first[2 * i + 1] = {matrix_in_blob(layout.up, blob), {&input, 1}, {&up[i], 1}};
    second[i] = {matrix_in_blob(layout.down, blob), {&inner[i], 1}, {&to[i], 1}};
  }
  kernels_.multiply_integers(std::span(first.data(), 2 * works.size()));
  for (std::size_t i = 0; i < works.size(); ++i) silu_multiply(up[i], d.expert_ff, hidden[i]);
  kernels_.multiply_integers(std::span(second.data(), works.size()));
  ExpertId id = works[0].demand->expert;
  if (works.size() > 1) id.expert = kNone16;
  const TimeNs end =
      ran(begin, {.expert = id, .precision = works[0].precision, .experts = works.size(), .rows = works.size()});
  for (const CpuWork& work : works) tickets_.complete(work.ticket, end);
}

void CpuExperts::run_one(const CpuWork& work) {
  const Demand& demand = *work.demand;
  std::vector<const float*> from;
  std::vector<float*> to;
  for (const Arithmetic::ExpertRow& row : demand.rows) {
    from.push_back(input_.data() + static_cast<std::size_t>(row.token) * width());
    to.push_back(output_.data() + output_of(row) * width());
    mark(output_of(row));
  }
  const TimeNs begin = clock_.now();
  compute(demand.expert, work.precision, work.held.blob, from, to);
  tickets_.complete(work.ticket,
                    ran(begin, {.expert = demand.expert, .precision = work.precision, .rows = demand.rows.size()}));
}

void CpuExperts::compute(ExpertId id, Precision precision, const std::byte* blob, std::span<const float* const> from,
                         std::span<float* const> to) {
  const auto ff = static_cast<std::size_t>(model_.description().expert_ff);
  const ExpertBlobLayout& layout = host_.layout(id.layer, precision);
  hidden_.resize(std::max(hidden_.size(), from.size() * ff));
  std::vector<const float*> inner;
  std::vector<float*> hidden;
  for (std::size_t i = 0; i < from.size(); ++i) {
    hidden.push_back(hidden_.data() + i * ff);
    inner.push_back(hidden.back());
  }
  kernels_.gated_multiply(matrix_in_blob(layout.gate, blob), matrix_in_blob(layout.up, blob), from, hidden);
  kernels_.multiply(matrix_in_blob(layout.down, blob), inner, to);
}

// --- of the next layer

Ticket CpuExperts::add_early(const Demand& demand) {
  const Ticket ticket = tickets_.make();
  early_.push_back({demand.expert, ticket, early_rows_.size(), demand.rows.size()});
  early_rows_.insert(early_rows_.end(), demand.rows.begin(), demand.rows.end());
  return ticket;
}

void CpuExperts::keep_input() {
  early_input_.assign(input_.data(), input_.data() + tokens_ * width());
}

void CpuExperts::run_early(const Idle& idle) {
  early_output_.resize(early_rows_.size() * width());
  for (const EarlyWork& work : early_) {
    std::vector<const float*> from;
    std::vector<float*> to;
    for (std::size_t i = work.first_row; i < work.first_row + work.rows; ++i) {
      from.push_back(early_input_.data() + static_cast<std::size_t>(early_rows_[i].token) * width());
      to.push_back(early_output_.data() + i * width());
    }
    const HostExperts::Held held = hold(work.expert, Precision::native, idle);
    wait_for(held, idle);
    const TimeNs begin = clock_.now();
    compute(work.expert, Precision::native, held.blob, from, to);
    tickets_.complete(work.ticket, ran(begin, {.expert = work.expert, .rows = work.rows}));
    host_.release(held);
  }
}

void CpuExperts::take_early() {
  for (std::size_t i = 0; i < early_rows_.size(); ++i) {
    std::copy_n(early_output_.data() + i * width(), width(), output_.data() + output_of(early_rows_[i]) * width());
    mark(output_of(early_rows_[i]));
  }
  if (!early_.empty()) last_ = early_.back().ticket;
  early_.clear();
  early_rows_.clear();
}

}  // namespace expertscope::cuda
