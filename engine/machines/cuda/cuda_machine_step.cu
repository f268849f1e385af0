// The operations of a step, in the order in which they are asked for.
#include <algorithm>
#include <exception>
#include <mutex>
#include <optional>

#include "engine/assert.h"
#include "engine/machines/cuda/cuda_machine.h"

namespace expertscope::cuda {

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
  started_ = 0, summed_ = false;
  executed_.assign(request.executed.begin(), request.executed.end());
  cpu_.begin_layer(step_, tokens_.size());
  poll();
  for (const ExpertCopy& copy : to_publish_) {
    slots_.publish(copy.expert, copy.slot);
    published_precision_ = copy.precision;
  }
  to_publish_.clear();
  single() ? route_single() : route_several();
}

void CudaMachine::route_single() {
  const int layer = request_.layer, gates = 1 + request_.lookahead_recorded;
  const int experts = model_.description().router.experts;
  std::uint64_t* table_copy = table_copies_.data() + std::int64_t{layer} * experts;
  const bool starts = request_.start_resident && executed_.empty() && slots_.any_published(layer);
  RouterMail mail{.ready = mail_ready_.data(),
                  .number = ++mails_,
                  .logits = host_router_logits_.data(),
                  .input = cpu_.input(),
                  .logits_from = device_.router_outputs().logits,
                  .input_from = device_.expert_input(),
                  .logit_count = gates * experts,
                  .width = model_.description().width};
  {
    const Launch launch(observer_, step_, layer, WorkKind::router);
    const Stamp stamp = begin_op(WorkKind::router, layer, costs_.router(gates, 1), 1);
    router_stamp_ = timeline_.last_stamp();
    route_one(device_.gates(layer, request_.lookahead_recorded), device_.router_outputs(), slots_.table(layer),
              table_copy, stamp, compute_);
    mail.routed = stamp.end;
    if (!starts) send_mail(device_.choice(table_copy), mail, compute_);
  }
  if (!executed_.empty()) start_decided();
  if (!starts) return;
  // The device looks up which of its picks are there; the host learns later which they were.
  started_ = tickets_.make();
  const Launch launch(observer_, step_, layer, WorkKind::expert);
  const Stamp stamp = timeline_.begin(
      {.work = {.step = step_, .layer = static_cast<std::uint16_t>(layer), .kind = WorkKind::expert, .lane = Lane::gpu},
       .ticket = started_,
       .open = true});
  run_chosen(device_.expert_run(layer), device_.choice(table_copy), mail, device_.x(), stamp, compute_);
}

// What one token executes was decided a layer ago: what of it is there is queued at once.
void CudaMachine::start_decided() {
  execute(executed_groups_.group(request_.layer, model_.description().router.experts, executed_));
  std::vector<Demand*> there;
  for (Demand& d : demands_) {
    if (request_.start_resident && slots_.is_published(d.expert)) there.push_back(&d);
  }
  if (there.empty()) return;
  started_ = tickets_.make();
  const Launch launch(observer_, step_, request_.layer, WorkKind::expert);
  const std::uint16_t expert = there.size() == 1 ? there[0]->expert.expert : kNone16;
  const Stamp stamp = begin_expert(request_.layer, expert, there.size(), published_precision_, started_);
  ExpertRun run = expert_run(request_.layer, published_precision_);
  for (Demand* d : there) {
    d->started = started_;
    run.one = {slots_.published(d->expert), d->rows[0].rank, 1};
    run.pick = {0, d->rows[0].rank};
    run_experts(run,
                {d == there.front() ? stamp.start : nullptr, d == there.back() ? stamp.end : nullptr, stamp.counter},
                compute_);
  }
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

RouteRecord CudaMachine::make_route(const float* logits, int token) const {
  const RouterRule& rule = model_.description().router;
  const auto experts = static_cast<std::size_t>(rule.experts);
  RouteRecord record = route_record(rule, step_, request_.layer, token, {logits, experts});
  for (int d = 1; d <= request_.lookahead_recorded; ++d) {
    add_gate(rule, {logits + static_cast<std::size_t>(d) * experts, experts}, record);
  }
  return record;
}

LayerRoutes CudaMachine::wait_routes() {
  if (cpu_.has_early()) run_early_experts();
  if (single()) {
    const volatile std::uint64_t* ready = mail_ready_.data();
    spin_until([&] { return *ready >= mails_; }, "waiting for the router");
  } else {
    spin_until([&] { return cudaEventQuery(routed_) == cudaSuccess; }, "waiting for the router");
  }
  if (single()) clock_.saw(timeline_.device_end(router_stamp_), now());
  asked_ns_ = clock_.to_session(timeline_.device_end(router_stamp_));
  const auto gates = static_cast<std::size_t>(1 + request_.lookahead_recorded);
  const auto row = gates * static_cast<std::size_t>(model_.description().router.experts);
  routes_.resize(tokens_.size());
  const int tokens = static_cast<int>(tokens_.size());
  std::exception_ptr failure;
  std::mutex guard;
  constexpr int kTokensOfItem = 16;
  pool_.parallel_for((tokens + kTokensOfItem - 1) / kTokensOfItem, [&](int item, int) {
    try {
      for (int t = item * kTokensOfItem; t < std::min(tokens, (item + 1) * kTokensOfItem); ++t)
        routes_[static_cast<std::size_t>(t)] =
            make_route(host_router_logits_.data() + static_cast<std::size_t>(t) * row, t);
    } catch (...) {
      const std::lock_guard lock(guard);
      failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
  if (cpu_.has_early()) cpu_.take_early();
  const int experts = model_.description().router.experts;
  truth_ = groups_.group(request_.layer, experts, routes_);
  if (executed_.empty()) {
    execute(truth_);
    if (single()) note_started(demands_);
  } else {
    if (!single()) execute(executed_groups_.group(request_.layer, experts, executed_));
    send_weights();
  }
  picks_sent_ = false;
  if (!single() && request_.start_resident) start_resident_of_many();
  return {.asked_ns = asked_ns_, .tokens = routes_, .truth = truth_, .demands = demands_};
}

LayerRoutes CudaMachine::revise(std::span<const RouteRecord> executed, int) {
  ES_ASSERT(!request_.start_resident, "revises what the device may have started");
  executed_.assign(executed.begin(), executed.end());
  execute(executed_groups_.group(request_.layer, model_.description().router.experts, executed_));
  send_weights();
  return {.asked_ns = asked_ns_, .tokens = routes_, .truth = truth_, .demands = demands_};
}

// These demands are what runs.
void CudaMachine::execute(std::span<Demand> demands) {
  demands_ = demands;
  rows_ = {};
  std::size_t count = 0;
  for (const Demand& d : demands) {
    count += d.rows.size();
    if (rows_.empty() || d.rows.data() < rows_.data()) rows_ = d.rows;
  }
  if (count > 0) rows_ = {rows_.data(), count};
}

// The weights of what runs take the place of the router's. The host waits for a later operation before the next ones.
void CudaMachine::send_weights() {
  const auto top_k = static_cast<std::size_t>(model_.description().router.top_k);
  for (std::size_t t = 0; t < executed_.size(); ++t)
    std::copy_n(executed_[t].weight.begin(), top_k, executed_weights_.data() + t * top_k);
  const Launch launch(observer_, step_, request_.layer, WorkKind::combine);
  move(executed_weights_.data(), device_.weights(), static_cast<std::int64_t>(executed_.size() * top_k * sizeof(float)),
       compute_);
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
  const RouterRule& rule = model_.description().router;
  const ExpertBlobLayout& blob = model_.blob_layout(request_.layer);
  summed_ = static_cast<int>(count) == rule.top_k && sums_by_itself({blob.gate, blob.up, blob.down}, rule);
}

// Picks of the layer go to the device, and with them tiles of the experts that are in `resident`.
void CudaMachine::send_picks(const Slots* resident) {
  picks_.lay_out(executed(), rows_, device_.large() ? kLargeTile : kSmallTile, resident);
  picks_.upload(compute_);
  check(cudaEventRecord(picks_there_, compute_), "recording an event");
  picks_sent_ = true;
}

// Of several tokens: what is there of what they execute.
void CudaMachine::start_resident_of_many() {
  const Launch launch(observer_, step_, request_.layer, WorkKind::expert);
  send_picks(&slots_);
  if (picks_.tile_count() == 0) return;
  started_ = tickets_.make();
  for (Demand& d : demands_) {
    if (slots_.is_published(d.expert)) d.started = started_;
  }
  ExpertRun run = expert_run(request_.layer, published_precision_);
  run.picks = picks_.picks();
  run.tiles = picks_.tiles();
  run.tile_count = picks_.tile_count();
  run.most_rows = picks_.most_rows();
  const std::size_t rows = picks_.tiled_rows();
  const Stamp stamp = begin_expert(request_.layer, kNone16, rows, published_precision_, started_);
  device_.large() ? run_experts_large(run, stamp, compute_) : run_experts(run, stamp, compute_);
}

int CudaMachine::next_side_stream() {
  next_side_ = (next_side_ + 1) % kSideStreams;
  SideStream& side = side_[next_side_];
  if (!side.used) check(cudaStreamWaitEvent(side.stream, picks_there_, 0), "queueing a wait");
  side.used = true;
  return static_cast<int>(next_side_) + 1;
}

void CudaMachine::join_side_streams() {
  for (SideStream& side : side_) {
    if (!side.used) continue;
    side.used = false;
    check(cudaEventRecord(side.end, side.stream), "recording an event");
    check(cudaStreamWaitEvent(compute_, side.end, 0), "queueing a wait");
  }
}

ExpertRun CudaMachine::expert_run(int layer, Precision precision) const {
  ExpertRun run = device_.expert_run(layer);
  if (precision == Precision::native) return run;
  const ExpertBlobLayout& blob = host_.layout(layer, precision);
  run.layout = {blob.gate, blob.up, blob.down};
  return run;
}

Ticket CudaMachine::expert_on_gpu(const Demand& demand, SlotId slot, Ticket after, Precision precision) {
  const auto is_read = [&](const CopyQueue::Job& job) { return job.ticket == after; };
  if (after != 0 && std::ranges::any_of(reading_, is_read)) {
    raise_copy(after);
    spin_until([&] { return std::ranges::none_of(reading_, is_read); }, "waiting for a read from storage");
  }
  if (!single() && !picks_sent_) {
    const Launch launch(observer_, step_, demand.expert.layer, WorkKind::expert);
    send_picks(nullptr);
  }
  const int number = single() ? 0 : next_side_stream();
  const cudaStream_t stream = stream_of(number);
  Ticket waited = 0;
  WorkKind wait_kind = WorkKind::wait_demand;
  if (after != 0 && !tickets_.done(after)) {
    if (const std::optional<CopyReason> reason = copies_.make_wait(after, stream)) {
      waited = after;
      wait_kind = waiting_for(*reason);
    }
  }
  const Ticket ticket = tickets_.make();
  const Launch launch(observer_, step_, demand.expert.layer, WorkKind::expert, demand.expert.expert);
  ExpertRun run = expert_run(demand.expert.layer, precision);
  const int rows = static_cast<int>(demand.rows.size()), first = first_pick(demand);
  run.one = {reinterpret_cast<std::uint64_t>(slots_.address(slot)), first, rows};
  run.most_rows = rows;
  if (single()) {
    run.one.first = demand.rows[0].rank;
    run.pick = {0, demand.rows[0].rank};
  } else {
    run.picks = picks_.picks();
  }
  const Stamp stamp = begin_expert(demand.expert.layer, demand.expert.expert, demand.rows.size(), precision, ticket,
                                   waited, wait_kind, number);
  device_.large() ? run_experts_large(run, stamp, stream) : run_experts(run, stamp, stream);
  read_on_[slot] = static_cast<std::uint8_t>(number);
  return ticket;
}

// --- experts on the CPU

// Only noted here: the CPU begins when everything that the GPU can do meanwhile is queued (see combine).
Ticket CudaMachine::expert_on_cpu(const Demand& demand, Precision precision) {
  ask_cpu_input();
  return cpu_.add(demand, precision);
}

// The CPU begins when all of this layer and the next one's router is queued (see wait_routes).
Ticket CudaMachine::expert_on_cpu_early(const Demand& of_next_layer) {
  ask_cpu_input();
  if (single() && !cpu_.has_early()) cpu_.keep_input();
  return cpu_.add_early(of_next_layer);
}

void CudaMachine::ask_cpu_input() {
  if (single() || cpu_.input_asked()) return;
  const Launch launch(observer_, step_, request_.layer, WorkKind::router);
  cpu_.ask_input(device_.expert_input(), routed_);
}

void CudaMachine::run_cpu_experts() {
  host_until(now());
  cpu_.run([this] { poll(); });
  host_mark_ = now();
}

void CudaMachine::run_early_experts() {
  host_until(now());
  cpu_.run_early([this] { poll(); });
  host_mark_ = now();
}

void CudaMachine::combine(int layer, std::span<const Ticket>) {
  if (summed_) return;
  if (cpu_.input_asked()) {
    spin_until([&] { return cpu_.input_arrived(); }, "fetching rows for the CPU");
    if (cpu_.has_early()) cpu_.keep_input();  // before the next router writes another one there
  }
  if (!cpu_.empty()) run_cpu_experts();
  join_side_streams();
  const Launch launch(observer_, step_, layer, WorkKind::combine);
  const ModelDescription& d = model_.description();
  const Stamp stamp = begin_op(WorkKind::combine, layer, costs_.combine(tokens_.size()), tokens_.size(), kNone16, 0,
                               cpu_.last(), WorkKind::wait_activation);
  cuda::combine({.weights = device_.weights(),
                 .output = device_.output(),
                 .host_output = cpu_.output(),
                 .from_host = cpu_.from_host(),
                 .host_bits = cpu_.host_bits(),
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

}  // namespace expertscope::cuda
