#include <chrono>

#include "engine/machines/cost_shape.h"
#include "engine/machines/cuda/cuda_machine.h"
#include "engine/machines/cuda/device_profile.h"
#include "engine/machines/cuda_available.h"

namespace expertscope {
namespace cuda {
namespace {

constexpr std::int64_t kSpareBytes = 256 << 20;  // of device memory, left to the driver and to others
constexpr std::chrono::milliseconds kAwake{3};   // of CPU threads: a few layers of decode

Slots::Bytes slot_bytes(const HostExperts& host) {
  Slots::Bytes bytes{};
  for (Precision p : kPrecisions) bytes[static_cast<std::size_t>(p)] = host.blob_bytes(p);
  return bytes;
}

}  // namespace

// --- set-up

CudaMachine::CudaMachine(const Model& model, ThreadPool& pool, const CudaOptions& options)
    : model_(model),
      pool_(pool),
      calibrated_(options.profile),
      properties_(use_device(options.device)),
      clock_(compute_),
      host_(model, options.host_bytes, clock_),
      timeline_(clock_, tickets_),
      costs_(profile_of(properties_, pool.threads(), 20e9), own_shape(model),
             run_shape(model.description(), options.max_step_tokens)),
      cpu_(model, host_, pool, options.max_step_tokens, clock_, tickets_, costs_),
      device_(model, options.max_step_tokens, compute_),
      slots_(model.description().layers, model.description().router.experts, slot_bytes(host_)),
      copies_(clock_),
      table_copies_(std::int64_t{model.description().layers} * model.description().router.experts),
      mail_ready_(8),
      picks_(options.max_step_tokens, model.description().router),
      executed_weights_(std::int64_t{options.max_step_tokens} * model.description().router.top_k + 3) {
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
  h2d_bytes_per_s_ = measure_link(host_.page_locked(), clock_, compute_);
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
  m.staging_bytes = device_.work_bytes();
  for (Precision p : kPrecisions) {
    m.experts_bytes += slots_.expert_slots(p) * host_.blob_bytes(p);
    m.staging_bytes += (slots_.staging_slots(p) + slots_.spares(p)) * slots_.slot_bytes(p);
  }
  m.dense_bytes = device_.dense_bytes();
  m.kv_bytes = device_.kv_bytes();
  m.host_bytes = host_.bytes();
  const std::int64_t now = slots_.allocated_bytes() + device_.work_bytes() + m.dense_bytes + m.kv_bytes;
  m.gpu_peak_bytes = std::max(peak_bytes_, now);
  return m;
}

void CudaMachine::ensure_fits(const SlotCounts& counts) const {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free device memory");
  std::int64_t needed = 0, given_back = 0, slots_bytes = 0;
  int there = 0;
  for (Precision p : kPrecisions) {
    const int wanted =
        (p == counts.high_precision ? counts.main : 0) + (counts.low > 0 && p == counts.low_precision ? counts.low : 0);
    const int staging = p == Precision::native ? counts.staging : 0;
    const bool used = wanted + staging > 0;
    const std::int64_t more = std::max(0, wanted - slots_.expert_slots(p)) +
                              std::max(0, staging - slots_.staging_slots(p)) +
                              (used ? std::max(0, slots_.wanted_spares(p) - slots_.spares(p)) : 0);
    needed += more * slots_.slot_bytes(p);
    slots_bytes += wanted * slots_.slot_bytes(p);
    if (wanted == 0) given_back += slots_.expert_slots(p) * slots_.slot_bytes(p);  // by a change of precision, first
    there += slots_.expert_slots(p);
  }
  needed += std::max(0, counts.sequences - device_.sequences()) * device_.first_kv_bytes();
  if (needed > 0) needed += kSpareBytes;
  if (needed <= static_cast<std::int64_t>(free) + given_back) return;
  const auto gb = [](auto bytes) { return std::to_string(static_cast<double>(bytes) / 1e9).substr(0, 6); };
  throw InputError(std::string(properties_.name) + ": GPU memory has " + gb(free) + " GB free of " + gb(total) +
                   " GB, and " + gb(needed) + " GB more are needed for " + std::to_string(counts.main + counts.low) +
                   " expert slots of " + gb(slots_bytes) + " GB and KV caches of " + std::to_string(counts.sequences) +
                   " sequence" + (counts.sequences == 1 ? "" : "s") + " (dense weights take " +
                   gb(device_.dense_bytes()) + ", KV caches " + gb(device_.kv_bytes()) + ", " + std::to_string(there) +
                   " slots are there): lower the cache ratio" + (counts.sequences == 1 ? "" : " or --sequences") +
                   ", or close what else uses this GPU");
}

void CudaMachine::hold_sequences(int count) {
  device_.hold_sequences(count);
  peak_bytes_ = memory().gpu_peak_bytes;
}

std::vector<SlotId> CudaMachine::add_slots(int, int count, bool staging, Precision precision) {
  std::vector<SlotId> added = slots_.add(count, staging, precision);
  for (SlotId slot : added) read_on_.resize(std::max(read_on_.size(), slot + std::size_t{1}), 0);
  peak_bytes_ = memory().gpu_peak_bytes;
  return added;
}

// --- copies and completions

void CudaMachine::poll() {
  finish_reads();
  CopyQueue::Completed done;
  while (copies_.next_completed(done)) {
    tickets_.complete(done.ticket, done.at_ns);
    host_.release(done.held);
    if (done.request.publish) to_publish_.push_back(done.request);
    const double scale = static_cast<double>(slots_.slot_bytes(Precision::native)) / static_cast<double>(done.bytes);
    if (done.took_ns > 0 && done.bytes <= 4 << 20)
      copy_cost_ns_ += kSmoothing * (scale * static_cast<double>(done.took_ns) - copy_cost_ns_);
  }
  timeline_.collect();
}

// Tells of what was read from storage, and begins the copies that waited for it.
void CudaMachine::finish_reads() {
  StorageTier::Read read;
  while (host_.next_read(read)) {
    if (observer_ == nullptr) continue;
    observer_->on_event(CopyRecord{.issued_ns = read.issued_ns,
                                   .start_ns = read.start_ns,
                                   .end_ns = read.end_ns,
                                   .bytes = host_.layout(read.expert.layer, read.precision).bytes,
                                   .step = step_,
                                   .copy = copy_count_++,
                                   .layer = read.expert.layer,
                                   .expert = read.expert.expert,
                                   .reason = read.reason,
                                   .lane = Lane::storage,
                                   .precision = read.precision});
  }
  if (reading_.empty()) return;
  const auto waits = std::stable_partition(reading_.begin(), reading_.end(),
                                           [&](const CopyQueue::Job& job) { return host_.there(job.held); });
  for (auto job = reading_.begin(); job != waits; ++job) copies_.add(*job);
  reading_.erase(reading_.begin(), waits);
}

Ticket CudaMachine::copy_expert(const ExpertCopy& request) {
  std::optional<HostExperts::Held> held;
  spin_until([&] { return (held = host_.hold(request.expert, request.precision, request.reason)).has_value(); },
             "waiting for room in host memory");
  CopyQueue::Job job;
  job.ticket = tickets_.make();
  job.request = request;
  job.from = held->blob;
  job.held = *held;
  job.bytes = host_.layout(request.expert.layer, request.precision).bytes;
  ES_ASSERT(job.bytes <= slots_.bytes_of(request.slot), "a slot that is large enough");
  job.record = {.issued_ns = now(),
                .step = step_,
                .copy = copy_count_++,
                .layer = request.expert.layer,
                .expert = request.expert.expert,
                .slot = request.slot,
                .reason = request.reason,
                .lane = Lane::h2d,
                .precision = request.precision};
  if (request.after != 0 && !tickets_.done(request.after)) {
    timeline_.collect();
    if (!tickets_.done(request.after)) job.after = exchange_buffer(request.slot, request.after);
  }
  job.to = slots_.address(request.slot);
  if (host_.there(job.held))
    copies_.add(job);
  else
    reading_.push_back(job);
  return job.ticket;
}

void CudaMachine::raise_copy(Ticket t) {
  const auto job = std::ranges::find(reading_, t, &CopyQueue::Job::ticket);
  if (job == reading_.end()) return copies_.raise(t);
  job->urgent = true;
  host_.raise(job->held);
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
  const auto reading = std::ranges::find(reading_, t, &CopyQueue::Job::ticket);
  if (reading != reading_.end()) {
    // The read goes on, and the expert stays in host memory.
    if (reading->after != nullptr) copies_.give_event(reading->after);
    host_.release(reading->held);
    reading_.erase(reading);
  } else {
    const std::optional<CopyQueue::Job> cancelled = copies_.cancel(t);
    if (!cancelled) return false;
    host_.release(cancelled->held);
  }
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

Work CudaMachine::expert_work(std::size_t rows, Precision precision) const {
  Work work = costs_.expert(rows, precision);
  // Two bits are kept in four here.
  if (precision != Precision::native) work.bytes += host_.blob_bytes(precision) - costs_.expert_bytes(precision);
  return work;
}

Stamp CudaMachine::begin_expert(int layer, std::uint16_t expert, std::size_t rows, Precision precision, Ticket ticket,
                                Ticket after, WorkKind wait, int stream) {
  const Work work = expert_work(rows, precision);
  return timeline_.begin({.work = {.bytes = work.bytes,
                                   .flops = work.flops,
                                   .step = step_,
                                   .layer = static_cast<std::uint16_t>(layer),
                                   .expert = expert,
                                   .tokens = static_cast<std::uint16_t>(std::min<std::size_t>(rows, 65535)),
                                   .kind = WorkKind::expert,
                                   .lane = Lane::gpu,
                                   .precision = precision},
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
