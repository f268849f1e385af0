#include <chrono>

#include "engine/machines/cost_shape.h"
#include "engine/machines/cuda/cuda_machine.h"
#include "engine/machines/cuda/device_profile.h"
#include "engine/machines/cuda_available.h"

namespace expertscope {
namespace cuda {
namespace {

constexpr std::int64_t kSpareBytes = 256 << 20;  // of device memory, left to the driver and to others
constexpr std::chrono::milliseconds kAwake{3};    // of CPU threads: a few layers of decode

}  // namespace

// --- set-up

CudaMachine::CudaMachine(const Model& model, ThreadPool& pool, const CudaOptions& options)
    : model_(model),
      pool_(pool),
      calibrated_(options.profile),
      properties_(use_device(options.device)),
      host_store_(model.expert_store()),
      clock_(compute_),
      timeline_(clock_, tickets_),
      costs_(profile_of(properties_, pool.threads(), 20e9), own_shape(model),
             run_shape(model.description(), options.max_step_tokens)),
      cpu_(model, pool, options.max_step_tokens, clock_, tickets_, costs_),
      device_(model, options.max_step_tokens, compute_),
      slots_(model.description().layers, model.description().router.experts, costs_.shape().expert_bytes),
      copies_(clock_),
      table_copies_(std::int64_t{model.description().layers} * model.description().router.experts),
      mail_ready_(8),
      picks_(options.max_step_tokens, model.description().router) {
  pool_.stay_awake(kAwake);
  const ModelDescription& d = model.description();
  const std::int64_t tokens = options.max_step_tokens;
  host_router_logits_ = MappedArray<float>(tokens * d.router.experts * (1 + kMaxLookahead) + 3);
  for (cudaEvent_t* event : {&routed_, &logits_ready_, &picks_there_}) {
    check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "making an event");
  }
  int least = 0, most = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &most), "asking for the device");
  for (SideStream& side : side_) {
    check(cudaStreamCreateWithPriority(&side.stream, cudaStreamNonBlocking, most), "making a stream");
    check(cudaEventCreateWithFlags(&side.end, cudaEventDisableTiming), "making an event");
  }
  h2d_bytes_per_s_ = measure_link(model.expert_store(), clock_, compute_);
  copy_cost_ns_ = static_cast<double>(costs_.shape().expert_bytes) * 1e9 / h2d_bytes_per_s_ + 5000;
  check(cudaStreamSynchronize(compute_), "starting");
}

CudaMachine::~CudaMachine() {
  (void)cudaDeviceSynchronize();
  for (cudaEvent_t event : {routed_, logits_ready_, picks_there_}) (void)cudaEventDestroy(event);
  for (SideStream& side : side_) {
    (void)cudaEventDestroy(side.end);
    (void)cudaStreamDestroy(side.stream);
  }
}

void CudaMachine::describe(RunInfo& info) const {
  const MachineProfile profile = calibrated_.value_or(profile_of(properties_, pool_.threads(), h2d_bytes_per_s_));
  info.machine_kind = "cuda";
  info.profile_name = profile.name;
  info.profile_json = to_json(profile);
  info.cost_shape = costs_.shape().name;
  info.cost_shape_json = to_json(costs_.shape());
  info.label = Label::measured;
  info.gpus = 1;
  info.expert_bytes = costs_.shape().expert_bytes;
  info.h2d_bytes_per_s = h2d_bytes_per_s_;
  info.gpu_bytes_per_s = profile.gpus[0].memory_bytes_per_s;
  info.clock_origin_ns = clock_.origin_ns();
  info.memory = memory();
}

// --- memory

MemoryUse CudaMachine::memory() const {
  MemoryUse m;
  m.experts_bytes = slots_.experts_slots() * costs_.shape().expert_bytes;
  m.staging_bytes = (slots_.staging_slots() + slots_.spares()) * slots_.slot_bytes() + device_.work_bytes();
  m.dense_bytes = device_.dense_bytes();
  m.kv_bytes = device_.kv_bytes();
  m.host_bytes = static_cast<std::int64_t>(model_.expert_store().size());
  const std::int64_t now = slots_.allocated_bytes() + device_.work_bytes() + m.dense_bytes + m.kv_bytes;
  m.gpu_peak_bytes = std::max(peak_bytes_, now);
  return m;
}

void CudaMachine::ensure_fits(const SlotCounts& counts) const {
  const int slots = counts.main, staging_slots = counts.staging;
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free device memory");
  const std::int64_t more = std::max(0, slots - slots_.experts_slots()) +
                            std::max(0, staging_slots - slots_.staging_slots()) +
                            std::max(0, slots_.wanted_spares() - slots_.spares());
  const std::int64_t needed = more * slots_.slot_bytes() + (more > 0 ? kSpareBytes : 0);
  if (needed <= static_cast<std::int64_t>(free)) return;
  const auto gb = [](auto bytes) { return std::to_string(static_cast<double>(bytes) / 1e9).substr(0, 6); };
  throw InputError(std::string(properties_.name) + ": GPU memory has " + gb(free) + " GB free of " + gb(total) +
                   " GB, and " + gb(needed) + " GB more are needed for " + std::to_string(slots) + " expert slots of " +
                   gb(slots_.slot_bytes()) + " GB (dense weights take " + gb(device_.dense_bytes()) +
                   ", the KV cache " + gb(device_.kv_bytes()) + ", " + std::to_string(slots_.experts_slots()) +
                   " slots are there): " + "lower the cache ratio, or close what else uses this GPU");
}

std::vector<SlotId> CudaMachine::add_slots(int, int count, bool staging, Precision) {
  std::vector<SlotId> added = slots_.add(count, staging);
  for (SlotId slot : added) read_on_.resize(std::max(read_on_.size(), slot + std::size_t{1}), 0);
  peak_bytes_ = memory().gpu_peak_bytes;
  return added;
}

// --- copies and completions

void CudaMachine::poll() {
  CopyQueue::Completed done;
  while (copies_.next_completed(done)) {
    tickets_.complete(done.ticket, done.at_ns);
    if (done.request.publish) to_publish_.push_back(done.request);
    const double scale = static_cast<double>(slots_.slot_bytes()) /
                         static_cast<double>(model_.blob_layout(done.request.expert.layer).bytes);
    if (done.took_ns > 0 && model_.blob_layout(done.request.expert.layer).bytes <= 4 << 20)
      copy_cost_ns_ += kSmoothing * (scale * static_cast<double>(done.took_ns) - copy_cost_ns_);
  }
  timeline_.collect();
}

Ticket CudaMachine::copy_expert(const ExpertCopy& request) {
  const std::span<const std::byte> blob = model_.expert_blob(request.expert);
  CopyQueue::Job job;
  job.ticket = tickets_.make();
  job.request = request;
  job.from = blob.data();
  job.bytes = static_cast<std::int64_t>(blob.size());
  job.record = {.issued_ns = now(),
                .step = step_,
                .copy = copy_count_++,
                .layer = request.expert.layer,
                .expert = request.expert.expert,
                .slot = request.slot,
                .reason = request.reason,
                .lane = Lane::h2d};
  if (request.after != 0 && !tickets_.done(request.after)) {
    timeline_.collect();
    if (!tickets_.done(request.after)) job.after = exchange_buffer(request.slot, request.after);
  }
  job.to = slots_.address(request.slot);
  copies_.add(job);
  return job.ticket;
}

// The slot's old buffer is still read. Returns what the copy into the new one has to wait for.
cudaEvent_t CudaMachine::exchange_buffer(SlotId slot, Ticket reader) {
  const cudaEvent_t over = copies_.take_event();
  check(cudaEventRecord(over, stream_of(reader == started_ ? 0 : read_on_[slot])), "recording an event");
  const Slots::Reader of_new = slots_.exchange(slot, {reader, over});
  if (of_new.over == nullptr || !tickets_.done(of_new.ticket)) return of_new.over;
  copies_.give_event(of_new.over);
  return nullptr;
}

bool CudaMachine::cancel_copy(Ticket t) {
  if (!copies_.cancel(t)) return false;
  tickets_.complete(t, now());
  return true;
}

void CudaMachine::unpublish(ExpertId id) {
  slots_.unpublish(id);
  std::erase_if(to_publish_, [id](const ExpertCopy& c) { return c.expert == id; });
}

bool CudaMachine::is_done(Ticket t) {
  if (t == 0 || tickets_.done(t)) return true;
  poll();
  return tickets_.done(t);
}

TimeNs CudaMachine::wait(Ticket t) {
  if (t == 0) return now();
  spin_until([&] { return is_done(t); }, "waiting for an operation");
  return tickets_.at(t);
}

TimeNs CudaMachine::gpu_expert_cost_ns(int rows) const {
  return static_cast<TimeNs>(10'000 + 1e9 * static_cast<double>(costs_.expert(static_cast<std::size_t>(rows)).bytes) /
                                          costs_.profile().gpus[0].memory_bytes_per_s);
}

// --- records

Stamp CudaMachine::begin_op(WorkKind kind, int layer, Work work, std::size_t rows, std::uint16_t expert, Ticket ticket,
                            Ticket after, WorkKind wait, int stream) {
  return timeline_.begin({.work = {.bytes = work.bytes,
                                   .flops = work.flops,
                                   .step = step_,
                                   .layer = layer < 0 ? kNone16 : static_cast<std::uint16_t>(layer),
                                   .expert = expert,
                                   .tokens = static_cast<std::uint16_t>(rows),
                                   .kind = kind,
                                   .lane = Lane::gpu},
                          .ticket = ticket,
                          .after = after,
                          .wait = wait},
                         stream);
}

// All of the host's time in a step is told: what is not policy or sampling is queueing and waiting for the device.
void CudaMachine::host_record(WorkKind kind, TimeNs until) {
  if (observer_ != nullptr && until > host_mark_) {
    observer_->on_event(WorkRecord{.start_ns = host_mark_,
                                   .end_ns = until,
                                   .step = step_,
                                   .tokens = static_cast<std::uint16_t>(tokens_.size()),
                                   .kind = kind,
                                   .lane = Lane::host});
  }
  host_mark_ = until;
}

}  // namespace cuda

std::unique_ptr<Machine> make_cuda_machine(const Model& model, ThreadPool& pool, const CudaOptions& options) {
  if (const CudaStatus cuda = cuda_status(); cuda.state != CudaState::usable)
    throw InputError("machine cuda: there is no usable CUDA device: " + cuda.text +
                     ", or choose --machine emulated:PROFILE");
  return std::make_unique<cuda::CudaMachine>(model, pool, options);
}

}  // namespace expertscope
