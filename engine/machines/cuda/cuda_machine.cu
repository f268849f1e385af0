#include <algorithm>
#include <array>
#include <exception>
#include <mutex>
#include <optional>

#include <emmintrin.h>

#include "engine/assert.h"
#include "engine/machines/cost_shape.h"
#include "engine/machines/cuda/copy_queue.h"
#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_model.h"
#include "engine/machines/cuda/slots.h"
#include "engine/machines/cuda/timeline.h"
#include "engine/machines/cuda_available.h"
#include "engine/machines/cuda_machine.h"
#include "engine/machines/layer_routing.h"
#include "engine/machines/operation_costs.h"
#include "engine/model/kernels.h"
#include "engine/model/model.h"
#include "engine/model/routing.h"

namespace expertscope {
namespace {

using namespace cuda;

constexpr std::int64_t kSpareBytes = 256 << 20;                    // of device memory, left to the driver and to others
constexpr std::size_t kMostTogether = Kernels::kMostProducts / 2;  // experts of one row in one parallel loop
constexpr double kSmoothing = 0.1;                                 // of measured costs

WorkKind waiting_for(CopyReason reason) {
  switch (reason) {
    case CopyReason::prefetch:
    case CopyReason::promotion:
      return WorkKind::wait_prefetch;
    case CopyReason::placement:
      return WorkKind::wait_placement;
    default:
      return WorkKind::wait_demand;
  }
}

// A stream of its own, without the default stream's waiting.
class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"); }
  ~Stream() {
    (void)cudaStreamSynchronize(stream_);
    (void)cudaStreamDestroy(stream_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// The host store, page-locked for as long as this lives.
class PageLock {
 public:
  explicit PageLock(std::span<const std::byte> bytes) : bytes_(bytes) {
    if (bytes.empty()) return;
    check(cudaHostRegister(const_cast<std::byte*>(bytes.data()), bytes.size(), cudaHostRegisterPortable),
          "page-locking the host store of experts");
  }
  ~PageLock() {
    if (!bytes_.empty()) (void)cudaHostUnregister(const_cast<std::byte*>(bytes_.data()));
  }
  PageLock(const PageLock&) = delete;
  PageLock& operator=(const PageLock&) = delete;

 private:
  std::span<const std::byte> bytes_;
};

WeightView matrix_in_blob(const ExpertMatrix& m, const std::byte* blob) {
  return {m.type, m.rows, m.cols, blob + m.quants_offset, has_scales_plane(m.type) ? blob + m.scales_offset : nullptr};
}

class CudaMachine final : public Machine {
 public:
  CudaMachine(const Model& model, ThreadPool& pool, const CudaOptions& options);
  ~CudaMachine() override;

  void describe(RunInfo&) const override;
  void set_observer(Observer* observer) override {
    // Who stops listening has heard of everything that was under way.
    if (observer_ != nullptr) spin_until([&] { return copies_.empty() && timeline_.empty(); }, "ending");
    observer_ = observer;
    copies_.set_observer(observer);
    timeline_.set_observer(observer);
  }
  int gpus() const override { return 1; }
  TimeNs now() const override { return clock_.now(); }

  void ensure_fits(int slots, int staging_slots) const override;
  std::vector<SlotId> add_slots(int device, int count, bool staging) override;
  void remove_slot(SlotId slot) override { slots_.remove(slot); }
  MemoryUse memory() const override;

  Ticket copy_expert(const ExpertCopy&) override;
  void raise_copy(Ticket t) override { copies_.raise(t); }
  bool cancel_copy(Ticket) override;
  void unpublish(ExpertId) override;
  bool is_done(Ticket) override;
  TimeNs wait(Ticket) override;

  void begin_step(const StepInput&) override;
  void attention(int layer) override;
  void router(const RouterRequest&) override;
  LayerRoutes wait_routes() override;
  Ticket expert_on_gpu(const Demand&, SlotId, Ticket after) override;
  Ticket expert_on_cpu(const Demand&) override;
  void combine(int layer, std::span<const Ticket>) override;
  void head() override;
  void wait_logits() override;
  std::span<const float> logits(int token) const override { return device_.logits(token); }
  void reset_sequence(int) override {}  // the cache is written from position 0 again

  void begin_host_work(WorkKind kind) override {
    host_until(now());
    host_work_ = kind;
  }
  void end_host_work() override { host_record(host_work_, now()); }

  TimeNs completed_ns(Ticket t) const override { return tickets_.at(t); }
  TimeNs copy_cost_ns() const override { return static_cast<TimeNs>(copy_cost_ns_); }
  TimeNs gpu_expert_cost_ns(int rows) const override;
  TimeNs cpu_expert_cost_ns(int rows) const override { return static_cast<TimeNs>(cpu_cost_ns_ * std::max(1, rows)); }

 private:
  struct Launch;  // tells the observer what the launches in its scope are for
  struct CpuWork {
    const Demand* demand;
    Ticket ticket;
  };
  bool single() const { return tokens_.size() == 1; }
  Stamp begin_op(WorkKind, int layer, Work, std::size_t rows, std::uint16_t expert = kNone16, Ticket ticket = 0,
                 Ticket after = 0, WorkKind wait = WorkKind::wait_demand);
  void poll();
  template <typename Ready>
  void spin_until(Ready ready, const char* what);
  void measure_link();
  void route_single();
  void route_several();
  void fill_route(const float* logits, int token, RouteRecord&) const;
  void note_started(std::span<Demand>);
  void start_resident_of_many();
  int first_pick(const Demand& d) const { return static_cast<int>(d.rows.data() - first_row_); }
  void run_cpu_experts();
  void run_singles(std::span<const CpuWork>);
  void run_on_cpu(const Demand&);
  void ran_on_cpu(TimeNs begin, std::span<const CpuWork>, std::size_t rows);
  void host_record(WorkKind, TimeNs until);
  void host_until(TimeNs t) { host_record(WorkKind::routing_sync, t); }

  const Model& model_;
  ThreadPool& pool_;
  Kernels cpu_kernels_;
  Observer* observer_ = nullptr;
  cudaDeviceProp properties_{};
  PageLock host_store_;
  Stream compute_, moves_;
  DeviceClock clock_;
  Tickets tickets_;
  Timeline timeline_;
  OperationCosts costs_;
  DeviceModel device_;
  Slots slots_;
  CopyQueue copies_;
  cudaEvent_t routed_ = nullptr, input_moved_ = nullptr, logits_ready_ = nullptr;
  std::vector<cudaEvent_t> slot_read_;  // by slot: staging slots' last readers
  std::vector<ExpertCopy> to_publish_;
  std::uint32_t copy_count_ = 0;
  std::int64_t peak_bytes_ = 0;
  double h2d_bytes_per_s_ = 0, copy_cost_ns_ = 0, cpu_cost_ns_ = 0;

  // The step and layer in work.
  std::uint32_t step_ = 0;
  std::vector<TokenInput> tokens_;
  RouterRequest request_;
  std::vector<RouteRecord> routes_;
  DemandGroups groups_;
  const Arithmetic::ExpertRow* first_row_ = nullptr;
  Ticket started_ = 0;  // the experts that the device starts by itself
  std::uint32_t router_stamp_ = 0;
  DeviceArray<std::uint64_t> table_copy_;
  DeviceArray<Tile> own_tiles_;
  DeviceArray<PickRow> own_picks_;
  std::uint64_t mails_ = 0;
  MappedArray<std::uint64_t> mail_ready_;
  MappedArray<float> host_router_logits_, host_input_, host_output_;
  MappedArray<std::byte> upload_;  // picks and tiles of a layer, on their way to the device
  DeviceArray<std::byte> uploaded_;
  MappedArray<std::uint8_t> from_host_;
  std::uint32_t host_bits_ = 0;
  std::vector<CpuWork> cpu_work_;
  bool input_asked_ = false;
  std::vector<float> cpu_hidden_;
  WorkKind host_work_ = WorkKind::policy;
  TimeNs host_mark_ = 0;
  bool wants_logits_ = false;
};

struct CudaMachine::Launch {
  Launch(Observer* o, std::uint32_t step, int layer, WorkKind kind, std::uint16_t expert = kNone16) : observer(o) {
    if (observer == nullptr) return;
    observer->on_launch_begin({.step = step,
                               .layer = layer < 0 ? kNone16 : static_cast<std::uint16_t>(layer),
                               .expert = expert,
                               .kind = kind});
  }
  ~Launch() {
    if (observer != nullptr) observer->on_launch_end();
  }
  Observer* observer;
};

// --- set-up

std::int64_t largest_blob(const Model& model) {
  std::int64_t bytes = 0;
  for (const ExpertBlobLayout& blob : model.description().expert_blob) bytes = std::max(bytes, blob.bytes);
  return bytes;
}

cudaDeviceProp use_device(int device) {
  check(cudaSetDevice(device), "choosing the GPU");
  check(
      cudaSetDeviceFlags(cudaDeviceMapHost | cudaDeviceScheduleSpin) == cudaSuccess ? cudaSuccess : cudaGetLastError(),
      "choosing the GPU");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "asking for the GPU's properties");
  return properties;
}

double attribute(cudaDeviceAttr what, int device) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, what, device) == cudaSuccess ? value : 0;
}

// What a session needs to be replayed on an emulated machine: the link is measured at the start, the rest is what the
// device says of itself and common values; `expertscope calibrate` measures all of it.
MachineProfile profile_of(const cudaDeviceProp& p, int threads, double h2d_bytes_per_s) {
  MachineProfile profile;
  profile.name = p.name;
  profile.source = "the device's own description, and the link as measured when the run began";
  GpuProfile gpu;
  gpu.name = p.name;
  gpu.memory_bytes = static_cast<std::int64_t>(p.totalGlobalMem);
  const double peak =
      2e3 * attribute(cudaDevAttrMemoryClockRate, 0) * attribute(cudaDevAttrGlobalMemoryBusWidth, 0) / 8;
  gpu.memory_bytes_per_s = peak > 0 ? 0.9 * peak : 500e9;
  gpu.flops_per_s = 1e9 * p.multiProcessorCount * 1000;
  gpu.launch_s = 8e-6;  // an operation is several kernels
  gpu.sync_s = 3e-6;
  profile.gpus = {gpu};
  profile.link = {.h2d_bytes_per_s = h2d_bytes_per_s,
                  .d2h_bytes_per_s = h2d_bytes_per_s,
                  .latency_s = 5e-6,
                  .chunk_bytes = 4 << 20};
  profile.host.memory_bytes = std::int64_t{1} << 40;
  profile.host.memory_bytes_per_s = profile.host.shared_memory_bytes_per_s = 60e9;
  profile.host.flops_per_s = 20e9 * threads;
  profile.host.threads = threads;
  profile.host.task_s = 10e-6;
  profile.host.policy_s = 3e-6;
  profile.host.sampling_s = 50e-6;
  profile.storage = {.read_bytes_per_s = 3e9, .latency_s = 1e-4};
  return profile;
}

RunShape run_shape(const Model& model, int max_step_tokens) {
  const ModelDescription& d = model.description();
  return {.layers = d.layers,
          .experts = d.router.experts,
          .top_k = d.router.top_k,
          .context = d.context,
          .max_step_tokens = max_step_tokens};
}

CudaMachine::CudaMachine(const Model& model, ThreadPool& pool, const CudaOptions& options)
    : model_(model),
      pool_(pool),
      cpu_kernels_(pool),
      properties_(use_device(options.device)),
      host_store_(model.expert_store()),
      clock_(compute_),
      timeline_(clock_, tickets_),
      costs_(profile_of(properties_, pool.threads(), 20e9), own_shape(model),
             run_shape(model, options.max_step_tokens)),
      device_(model, options.max_step_tokens, compute_),
      slots_(model.description().layers, model.description().router.experts, largest_blob(model)),
      copies_(clock_),
      table_copy_(model.description().router.experts),
      own_tiles_(kMaxTopK),
      own_picks_(kMaxTopK),
      mail_ready_(8) {
  const ModelDescription& d = model.description();
  const std::int64_t tokens = options.max_step_tokens, picks = tokens * d.router.top_k;
  host_router_logits_ = MappedArray<float>(tokens * d.router.experts * (1 + kMaxLookahead) + 3);
  host_input_ = MappedArray<float>(tokens * d.width);
  host_output_ = MappedArray<float>(picks * d.width);
  from_host_ = MappedArray<std::uint8_t>(picks);
  const std::int64_t most_tiles = picks / kSmallTile + d.router.experts + 1;
  const std::int64_t upload =
      picks * static_cast<std::int64_t>(sizeof(PickRow)) + most_tiles * static_cast<std::int64_t>(sizeof(Tile)) + 32;
  upload_ = MappedArray<std::byte>(upload);
  uploaded_ = DeviceArray<std::byte>(upload);
  for (cudaEvent_t* event : {&routed_, &input_moved_, &logits_ready_}) {
    check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "making an event");
  }
  measure_link();
  cpu_cost_ns_ = static_cast<double>(largest_blob(model)) / 40;  // 40 GB/s until measured
  check(cudaStreamSynchronize(compute_), "starting");
}

CudaMachine::~CudaMachine() {
  (void)cudaDeviceSynchronize();
  for (cudaEvent_t event : {routed_, input_moved_, logits_ready_}) (void)cudaEventDestroy(event);
  for (cudaEvent_t event : slot_read_) {
    if (event != nullptr) (void)cudaEventDestroy(event);
  }
}

// The rate of page-locked copies: the best of a few, of so many bytes that a copy's latency does not count.
void CudaMachine::measure_link() {
  const std::span<const std::byte> store = model_.expert_store();
  const std::size_t bytes = std::min<std::size_t>(store.size(), 64 << 20);
  DeviceArray<std::byte> to(static_cast<std::int64_t>(bytes));
  TimeNs best = INT64_MAX;
  for (int i = 0; i < 4; ++i) {
    const TimeNs begin = now();
    check(cudaMemcpyAsync(to.data(), store.data(), bytes, cudaMemcpyHostToDevice, compute_), "measuring the link");
    check(cudaStreamSynchronize(compute_), "measuring the link");
    best = std::min(best, now() - begin);
  }
  h2d_bytes_per_s_ = static_cast<double>(bytes) * 1e9 / static_cast<double>(std::max<TimeNs>(best, 1));
  copy_cost_ns_ = static_cast<double>(largest_blob(model_)) * 1e9 / h2d_bytes_per_s_ + 5000;
}

void CudaMachine::describe(RunInfo& info) const {
  const MachineProfile profile = profile_of(properties_, pool_.threads(), h2d_bytes_per_s_);
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
  m.staging_bytes = slots_.staging_slots() * slots_.slot_bytes() + device_.work_bytes();
  m.dense_bytes = device_.dense_bytes();
  m.kv_bytes = device_.kv_bytes();
  m.host_bytes = static_cast<std::int64_t>(model_.expert_store().size());
  const std::int64_t now = slots_.allocated_bytes() + device_.work_bytes() + m.dense_bytes + m.kv_bytes;
  m.gpu_peak_bytes = std::max(peak_bytes_, now);
  return m;
}

void CudaMachine::ensure_fits(int slots, int staging_slots) const {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free device memory");
  const std::int64_t more =
      std::max(0, slots - slots_.experts_slots()) + std::max(0, staging_slots - slots_.staging_slots());
  const std::int64_t needed = more * slots_.slot_bytes() + (more > 0 ? kSpareBytes : 0);
  if (needed <= static_cast<std::int64_t>(free)) return;
  const auto gb = [](auto bytes) { return std::to_string(static_cast<double>(bytes) / 1e9).substr(0, 6); };
  throw InputError(std::string(properties_.name) + ": GPU memory has " + gb(free) + " GB free of " + gb(total) +
                   " GB, and " + gb(needed) + " GB more are needed for " + std::to_string(slots) + " expert slots of " +
                   gb(slots_.slot_bytes()) + " GB (dense weights take " + gb(device_.dense_bytes()) +
                   ", the KV cache " + gb(device_.kv_bytes()) + ", " + std::to_string(slots_.experts_slots()) +
                   " slots are there): " + "lower the cache ratio, or close what else uses this GPU");
}

std::vector<SlotId> CudaMachine::add_slots(int, int count, bool staging) {
  std::vector<SlotId> added = slots_.add(count, staging);
  for (SlotId slot : added) {
    if (slot >= slot_read_.size()) slot_read_.resize(slot + std::size_t{1}, nullptr);
    if (staging && slot_read_[slot] == nullptr) {
      check(cudaEventCreateWithFlags(&slot_read_[slot], cudaEventDisableTiming), "making an event");
    }
  }
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

// Waits without sleeping; copies that wait are handed over meanwhile. A device that fails ends the wait.
template <typename Ready>
void CudaMachine::spin_until(Ready ready, const char* what) {
  for (std::uint32_t spins = 1; !ready(); ++spins) {
    if (spins % 16 == 0) poll();
    if (spins % 65536 == 0) {
      const cudaError_t state = cudaStreamQuery(compute_);
      if (state != cudaErrorNotReady) check(state, what);
    }
    _mm_pause();
  }
}

Ticket CudaMachine::copy_expert(const ExpertCopy& request) {
  const std::span<const std::byte> blob = model_.expert_blob(request.expert);
  CopyQueue::Job job;
  job.ticket = tickets_.make();
  job.request = request;
  job.from = blob.data();
  job.to = slots_.address(request.slot);
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
    // Slots that are kept were read before the last router, which the host has waited for; staging slots may be in use.
    if (!tickets_.done(request.after)) {
      if (slots_.is_staging(request.slot))
        job.after = slot_read_[request.slot];
      else
        wait(request.after);
    }
  }
  copies_.add(job);
  return job.ticket;
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
                            Ticket after, WorkKind wait) {
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
                          .wait = wait});
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

// --- a step

void CudaMachine::begin_step(const StepInput& input) {
  poll();
  tickets_.forget_done();
  host_mark_ = now();
  step_ = input.step;
  tokens_.assign(input.tokens.begin(), input.tokens.end());
  wants_logits_ = std::ranges::any_of(tokens_, &TokenInput::wants_logits);
  const Launch launch(observer_, step_, -1, WorkKind::embed);
  device_.begin_step(tokens_, begin_op(WorkKind::embed, -1, costs_.embed(tokens_.size()), tokens_.size()));
}

void CudaMachine::attention(int layer) {
  const Launch launch(observer_, step_, layer, WorkKind::attention);
  device_.attention(layer, begin_op(WorkKind::attention, layer, costs_.attention(tokens_), tokens_.size()));
}

void CudaMachine::router(const RouterRequest& request) {
  ES_ASSERT(request.given.empty(), "a real machine computes its routes");
  request_ = request;
  cpu_work_.clear();
  input_asked_ = false;
  host_bits_ = 0;
  poll();
  for (const ExpertCopy& copy : to_publish_) slots_.publish(copy.expert, copy.slot);
  to_publish_.clear();
  single() ? route_single() : route_several();
}

void CudaMachine::route_single() {
  const int layer = request_.layer, gates = 1 + request_.lookahead_recorded;
  {
    const Launch launch(observer_, step_, layer, WorkKind::router);
    const Stamp stamp = begin_op(WorkKind::router, layer, costs_.router(gates, 1), 1);
    router_stamp_ = timeline_.last_stamp();
    route_one(device_.gates(layer, request_.lookahead_recorded), device_.router_outputs(),
              {.ready = mail_ready_.data(),
               .number = ++mails_,
               .logits = host_router_logits_.data(),
               .input = host_input_.data()},
              slots_.table(layer), table_copy_.data(), own_tiles_.data(), own_picks_.data(), stamp, compute_);
  }
  started_ = 0;
  if (!request_.start_resident || !slots_.any_published(layer)) return;
  // The device looks up which of its picks are there; the host learns later which they were.
  started_ = tickets_.make();
  const Launch launch(observer_, step_, layer, WorkKind::expert);
  ExpertRun run = device_.expert_run(layer);
  run.tiles = own_tiles_.data();
  run.tile_count = model_.description().router.top_k;
  run.picks = own_picks_.data();
  const Stamp stamp = timeline_.begin(
      {.work = {.step = step_, .layer = static_cast<std::uint16_t>(layer), .kind = WorkKind::expert, .lane = Lane::gpu},
       .ticket = started_,
       .open = true});
  run_experts(run, stamp, compute_);
}

void CudaMachine::route_several() {
  const int layer = request_.layer, gates = 1 + request_.lookahead_recorded;
  const int tokens = static_cast<int>(tokens_.size());
  const Launch launch(observer_, step_, layer, WorkKind::router);
  const Stamp stamp = begin_op(WorkKind::router, layer, costs_.router(gates, tokens_.size()), tokens_.size());
  router_stamp_ = timeline_.last_stamp();
  route_many(device_.gates(layer, request_.lookahead_recorded), device_.router_outputs(), tokens, stamp, compute_);
  move(device_.router_logits(), host_router_logits_.data(),
       std::int64_t{tokens} * gates * model_.description().router.experts * static_cast<std::int64_t>(sizeof(float)),
       compute_);
  check(cudaEventRecord(routed_, compute_), "recording an event");
}

void CudaMachine::fill_route(const float* logits, int token, RouteRecord& record) const {
  const RouterRule& rule = model_.description().router;
  const auto experts = static_cast<std::size_t>(rule.experts);
  std::array<float, kMaxExperts> storage;
  const std::span<float> probabilities(storage.data(), experts);
  record.step = step_;
  record.layer = static_cast<std::uint16_t>(request_.layer);
  record.token = static_cast<std::uint16_t>(token);
  record.picks = static_cast<std::uint8_t>(rule.top_k);
  record.gate_entries = static_cast<std::uint8_t>(std::min(rule.experts, kGateEntries));
  route(rule, {logits, experts}, {record.expert.data(), record.picks}, {record.weight.data(), record.picks},
        probabilities);
  store_gate(probabilities, record.gate[0]);
  record.gates = 1;
  for (int d = 1; d <= request_.lookahead_recorded; ++d) {
    gate_probabilities(rule, {logits + static_cast<std::size_t>(d) * experts, experts}, probabilities);
    store_gate(probabilities, record.gate[static_cast<std::size_t>(d)]);
    ++record.gates;
  }
}

LayerRoutes CudaMachine::wait_routes() {
  if (single()) {
    const volatile std::uint64_t* ready = mail_ready_.data();
    spin_until([&] { return *ready >= mails_; }, "waiting for the router");
  } else {
    spin_until([&] { return cudaEventQuery(routed_) == cudaSuccess; }, "waiting for the router");
  }
  if (single()) clock_.saw(timeline_.device_end(router_stamp_), now());
  const TimeNs asked = clock_.to_session(timeline_.device_end(router_stamp_));
  const auto gates = static_cast<std::size_t>(1 + request_.lookahead_recorded);
  const auto row = gates * static_cast<std::size_t>(model_.description().router.experts);
  routes_.assign(tokens_.size(), RouteRecord{});
  const int tokens = static_cast<int>(tokens_.size());
  std::exception_ptr failure;
  std::mutex guard;
  constexpr int kTokensOfItem = 16;
  pool_.parallel_for((tokens + kTokensOfItem - 1) / kTokensOfItem, [&](int item, int) {
    try {
      for (int t = item * kTokensOfItem; t < std::min(tokens, (item + 1) * kTokensOfItem); ++t)
        fill_route(host_router_logits_.data() + static_cast<std::size_t>(t) * row, t,
                   routes_[static_cast<std::size_t>(t)]);
    } catch (...) {
      const std::lock_guard lock(guard);
      failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
  const std::span<Demand> demands = groups_.group(request_.layer, model_.description().router.experts, routes_);
  first_row_ = demands.empty() ? nullptr : demands[0].rows.data();
  for (const Demand& d : demands) first_row_ = std::min(first_row_, d.rows.data());
  if (single()) {
    note_started(demands);
  } else {
    start_resident_of_many();
    for (Demand& d : demands) {
      if (request_.start_resident && slots_.is_published(d.expert)) d.started = started_;
    }
  }
  return {.asked_ns = asked, .tokens = routes_, .demands = demands};
}

// What the device started by itself, now that the host knows it too.
void CudaMachine::note_started(std::span<Demand> demands) {
  if (started_ == 0) return;
  std::size_t count = 0;
  std::uint16_t expert = kNone16;
  for (Demand& d : demands) {
    if (!slots_.is_published(d.expert)) continue;
    d.started = started_;
    expert = ++count == 1 ? d.expert.expert : kNone16;
  }
  const Work one = costs_.expert(1);
  const auto n = static_cast<std::int64_t>(count);
  timeline_.close({.bytes = n * one.bytes, .flops = n * one.flops}, count, expert);
}

// Picks of the layer go to the device, and with them a tile for every few rows of each expert that is there.
void CudaMachine::start_resident_of_many() {
  started_ = 0;
  const int tile_rows = device_.large() ? kLargeTile : kSmallTile;
  auto* picks = reinterpret_cast<PickRow*>(upload_.data());
  const auto count = tokens_.size() * static_cast<std::size_t>(model_.description().router.top_k);
  for (std::size_t i = 0; i < count; ++i) {
    picks[i] = {first_row_[i].token, first_row_[i].token * model_.description().router.top_k + first_row_[i].rank};
  }
  const std::size_t tiles_at = (count * sizeof(PickRow) + 15) / 16 * 16;
  auto* tiles = reinterpret_cast<Tile*>(upload_.data() + tiles_at);
  int tile_count = 0, most_rows = 1;
  std::size_t rows = 0;
  for (std::size_t i = 0; i < count;) {
    // Rows lie by expert: a run of equal experts is one demand.
    const RouteRecord& route = routes_[static_cast<std::size_t>(first_row_[i].token)];
    const std::uint16_t expert = route.expert[static_cast<std::size_t>(first_row_[i].rank)];
    std::size_t end = i + 1;
    while (end < count && routes_[static_cast<std::size_t>(first_row_[end].token)]
                                  .expert[static_cast<std::size_t>(first_row_[end].rank)] == expert) {
      ++end;
    }
    const std::uint64_t blob =
        request_.start_resident ? slots_.published({static_cast<std::uint16_t>(request_.layer), expert}) : 0;
    for (std::size_t first = i; blob != 0 && first < end; first += static_cast<std::size_t>(tile_rows)) {
      const int n = static_cast<int>(std::min(end - first, static_cast<std::size_t>(tile_rows)));
      tiles[tile_count++] = {blob, static_cast<std::int32_t>(first), n};
      most_rows = std::max(most_rows, n);
      rows += static_cast<std::size_t>(n);
    }
    i = end;
  }
  const Launch launch(observer_, step_, request_.layer, WorkKind::expert);
  move(upload_.data(), uploaded_.data(),
       static_cast<std::int64_t>(tiles_at + static_cast<std::size_t>(tile_count) * sizeof(Tile)), compute_);
  if (tile_count == 0) return;
  started_ = tickets_.make();
  ExpertRun run = device_.expert_run(request_.layer);
  run.picks = reinterpret_cast<const PickRow*>(uploaded_.data());
  run.tiles = reinterpret_cast<const Tile*>(uploaded_.data() + tiles_at);
  run.tile_count = tile_count;
  run.most_rows = most_rows;
  const Stamp stamp = begin_op(WorkKind::expert, request_.layer, costs_.expert(rows),
                               std::min<std::size_t>(rows, 65535), kNone16, started_);
  device_.large() ? run_experts_large(run, stamp, compute_) : run_experts(run, stamp, compute_);
}

Ticket CudaMachine::expert_on_gpu(const Demand& demand, SlotId slot, Ticket after) {
  Ticket waited = 0;
  WorkKind wait_kind = WorkKind::wait_demand;
  if (after != 0 && !tickets_.done(after)) {
    if (const std::optional<CopyReason> reason = copies_.make_wait(after, compute_)) {
      waited = after;
      wait_kind = waiting_for(*reason);
    }
  }
  const Ticket ticket = tickets_.make();
  const Launch launch(observer_, step_, demand.expert.layer, WorkKind::expert, demand.expert.expert);
  ExpertRun run = device_.expert_run(demand.expert.layer);
  const int rows = static_cast<int>(demand.rows.size()), first = first_pick(demand);
  run.one = {reinterpret_cast<std::uint64_t>(slots_.address(slot)), first, rows};
  run.most_rows = rows;
  if (single()) {
    run.one.first = demand.rows[0].rank;
    run.pick = {0, demand.rows[0].rank};
  } else {
    run.picks = reinterpret_cast<const PickRow*>(uploaded_.data());
  }
  const Stamp stamp = begin_op(WorkKind::expert, demand.expert.layer, costs_.expert(demand.rows.size()),
                               demand.rows.size(), demand.expert.expert, ticket, waited, wait_kind);
  device_.large() ? run_experts_large(run, stamp, compute_) : run_experts(run, stamp, compute_);
  if (slots_.is_staging(slot)) check(cudaEventRecord(slot_read_[slot], compute_), "recording an event");
  return ticket;
}

// --- experts on the CPU

// Only noted here: the CPU begins when everything that the GPU can do meanwhile is queued (see combine).
Ticket CudaMachine::expert_on_cpu(const Demand& demand) {
  if (!single() && !input_asked_) {
    input_asked_ = true;
    const Launch launch(observer_, step_, demand.expert.layer, WorkKind::router);
    check(cudaStreamWaitEvent(moves_, routed_, 0), "queueing a wait");
    move(device_.expert_input(), host_input_.data(),
         static_cast<std::int64_t>(tokens_.size()) * model_.description().width *
             static_cast<std::int64_t>(sizeof(float)),
         moves_);
    check(cudaEventRecord(input_moved_, moves_), "recording an event");
  }
  const Ticket ticket = tickets_.make();
  cpu_work_.push_back({&demand, ticket});
  return ticket;
}

void CudaMachine::run_cpu_experts() {
  if (input_asked_)
    spin_until([&] { return cudaEventQuery(input_moved_) == cudaSuccess; }, "fetching rows for the CPU");
  if (!single())
    std::fill_n(from_host_.data(), tokens_.size() * static_cast<std::size_t>(model_.description().router.top_k),
                std::uint8_t{0});
  host_until(now());
  if (single()) {
    for (std::size_t i = 0; i < cpu_work_.size(); i += kMostTogether) {
      run_singles(std::span(cpu_work_).subspan(i, std::min(kMostTogether, cpu_work_.size() - i)));
    }
  } else {
    for (const CpuWork& work : cpu_work_) {
      const TimeNs begin = now();
      run_on_cpu(*work.demand);
      ran_on_cpu(begin, {&work, 1}, work.demand->rows.size());
    }
  }
  host_mark_ = now();
}

void CudaMachine::ran_on_cpu(TimeNs begin, std::span<const CpuWork> works, std::size_t rows) {
  const TimeNs end = now();
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
  cpu_cost_ns_ += kSmoothing * (static_cast<double>(end - begin) / static_cast<double>(experts) - cpu_cost_ns_);
}

// Experts of one row each, together: a few small products would leave most threads waiting for each other.
void CudaMachine::run_singles(std::span<const CpuWork> works) {
  const ModelDescription& d = model_.description();
  const auto width = static_cast<std::size_t>(d.width), ff = static_cast<std::size_t>(d.expert_ff);
  cpu_hidden_.resize(std::max(cpu_hidden_.size(), 2 * works.size() * ff));
  const float* input = host_input_.data();
  std::array<const float*, kMostTogether> inner;
  std::array<float*, kMostTogether> hidden, up, to;
  std::array<Kernels::Product, 2 * kMostTogether> first;
  std::array<Kernels::Product, kMostTogether> second;
  const TimeNs begin = now();
  for (std::size_t i = 0; i < works.size(); ++i) {
    const Demand& demand = *works[i].demand;
    const std::byte* blob = model_.expert_blob(demand.expert).data();
    const ExpertBlobLayout& layout = model_.blob_layout(demand.expert.layer);
    const int rank = demand.rows[0].rank;
    inner[i] = hidden[i] = cpu_hidden_.data() + 2 * i * ff;
    up[i] = hidden[i] + ff;
    to[i] = host_output_.data() + static_cast<std::size_t>(rank) * width;
    host_bits_ |= 1u << rank;
    first[2 * i] = {matrix_in_blob(layout.gate, blob), {&input, 1}, {&hidden[i], 1}};
    first[2 * i + 1] = {matrix_in_blob(layout.up, blob), {&input, 1}, {&up[i], 1}};
    second[i] = {matrix_in_blob(layout.down, blob), {&inner[i], 1}, {&to[i], 1}};
  }
  cpu_kernels_.multiply(std::span(first.data(), 2 * works.size()));
  for (std::size_t i = 0; i < works.size(); ++i) silu_multiply(up[i], d.expert_ff, hidden[i]);
  cpu_kernels_.multiply(std::span(second.data(), works.size()));
  ran_on_cpu(begin, works, works.size());
}

void CudaMachine::run_on_cpu(const Demand& demand) {
  const ModelDescription& d = model_.description();
  const auto width = static_cast<std::size_t>(d.width), ff = static_cast<std::size_t>(d.expert_ff);
  const std::span<const std::byte> blob = model_.expert_blob(demand.expert);
  const ExpertBlobLayout& layout = model_.blob_layout(demand.expert.layer);
  const std::size_t rows = demand.rows.size();
  cpu_hidden_.resize(std::max(cpu_hidden_.size(), rows * ff));
  std::vector<const float*> from(rows), inner(rows);
  std::vector<float*> hidden(rows), to(rows);
  for (std::size_t i = 0; i < rows; ++i) {
    const auto token = static_cast<std::size_t>(demand.rows[i].token);
    const std::size_t output =
        token * static_cast<std::size_t>(d.router.top_k) + static_cast<std::size_t>(demand.rows[i].rank);
    from[i] = host_input_.data() + token * width;
    hidden[i] = cpu_hidden_.data() + i * ff;
    inner[i] = hidden[i];
    to[i] = host_output_.data() + output * width;
    from_host_[output] = 1;
  }
  cpu_kernels_.gated_multiply(matrix_in_blob(layout.gate, blob.data()), matrix_in_blob(layout.up, blob.data()), from,
                              hidden);
  cpu_kernels_.multiply(matrix_in_blob(layout.down, blob.data()), inner, to);
}

void CudaMachine::combine(int layer, std::span<const Ticket>) {
  const bool on_cpu = !cpu_work_.empty();
  if (on_cpu) run_cpu_experts();
  const Launch launch(observer_, step_, layer, WorkKind::combine);
  const ModelDescription& d = model_.description();
  const Stamp stamp = begin_op(WorkKind::combine, layer, costs_.combine(tokens_.size()), tokens_.size(), kNone16, 0,
                               on_cpu ? cpu_work_.back().ticket : 0, WorkKind::wait_activation);
  cuda::combine({.weights = device_.weights(),
                 .output = device_.output(),
                 .host_output = host_output_.data(),
                 .from_host = on_cpu && !single() ? from_host_.data() : nullptr,
                 .host_bits = host_bits_,
                 .top_k = d.router.top_k,
                 .width = d.width,
                 .x = device_.x()},
                static_cast<int>(tokens_.size()), stamp, compute_);
}

void CudaMachine::head() {
  if (wants_logits_) {
    const Launch launch(observer_, step_, -1, WorkKind::head);
    const auto wanted = static_cast<std::size_t>(std::ranges::count_if(tokens_, &TokenInput::wants_logits));
    device_.head(begin_op(WorkKind::head, -1, costs_.head(wanted), wanted));
    device_.fetch_logits();
  }
  check(cudaEventRecord(logits_ready_, compute_), "recording an event");
}

void CudaMachine::wait_logits() {
  spin_until([&] { return cudaEventQuery(logits_ready_) == cudaSuccess; }, "waiting for the logits");
  spin_until([&] { return timeline_.empty(); }, "waiting for time stamps");
  host_until(now());
}

}  // namespace

std::unique_ptr<Machine> make_cuda_machine(const Model& model, ThreadPool& pool, const CudaOptions& options) {
  if (cuda_device_count() == 0) {
    throw InputError("machine cuda: there is no usable CUDA device (" + cuda_build_description() +
                     "); choose --machine emulated:PROFILE, or look at what nvidia-smi says");
  }
  return std::make_unique<CudaMachine>(model, pool, options);
}

}  // namespace expertscope
