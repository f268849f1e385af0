// A small made-up run whose records obey every accounting identity: what the tests of recording and storage feed on.
#pragma once

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "engine/observer.h"
#include "engine/run_info.h"
#include "profiler/batch.h"
#include "profiler/trace.h"

namespace expertscope::test {

// Collects what an observer hears into one batch, without threads.
class BatchObserver : public Observer {
 public:
  Batch batch;
  void on_start(const RunInfo& r) override { batch.start = r; }
  void on_event(const Event& e) override {
    switch (e.kind) {
      case EventKind::work:
        batch.works.push_back(e.work);
        break;
      case EventKind::copy:
        batch.copies.push_back(e.copy);
        break;
      case EventKind::demand:
        batch.demands.push_back(e.demand);
        break;
      case EventKind::residency:
        batch.residency.push_back(e.residency);
        break;
      case EventKind::step:
        batch.steps.push_back(e.step);
        break;
      case EventKind::token:
        batch.tokens.push_back(e.token);
        break;
    }
  }
  void on_route(const RouteRecord& r) override { batch.routes.push_back(r); }
  void on_epoch(const EpochRecord& r) override { batch.epochs.push_back(r); }
  void on_prompt(const PromptRecord& r) override { batch.prompts.push_back(r); }
  void on_mark(const MarkRecord& r) override { batch.marks.push_back(r); }
  void on_health(const HealthNote& r) override { batch.health.push_back(r); }
  void on_piece(std::int32_t id, std::string_view bytes) override { batch.pieces[id] = std::string(bytes); }
  void on_logits(const LogitsRecord& r) override { batch.logits.push_back(r); }
  void on_quality(const QualityRecord& r) override { batch.quality.push_back(r); }
};

// Two layers of eight experts, top-2, six slots, oldest load evicted first. Prompts of three tokens; every fourth token
// a prefetch of the next layer's expert 7 is made, which is used only when the router happens to want it.
class SampleRun {
 public:
  static constexpr int kLayers = 2, kExperts = 8, kTopK = 2, kSlots = 6;
  static constexpr std::int64_t kExpertBytes = 1'000'000;
  static constexpr TimeNs kCopyNs = 5'000;

  explicit SampleRun(Observer& observer) : out_(observer) {}

  static RunInfo info() {
    RunInfo info;
    info.model_name = "sample";
    info.model_arch = "llama";
    info.model_sha256 = std::string(64, 'a');
    info.layers = kLayers;
    info.experts = kExperts;
    info.top_k = kTopK;
    info.context = 512;
    info.vocab = 1000;
    info.machine_kind = "emulated";
    info.profile_name = "rtx4090-pcie4";
    info.profile_json = R"({"name": "rtx4090-pcie4"})";
    info.cost_shape = "own";
    info.cost_shape_json = "{}";
    info.expert_bytes = kExpertBytes;
    info.h2d_bytes_per_s = 2.5e11;
    info.gpu_bytes_per_s = 1e12;
    info.recorded_gates = 1;
    info.prefill_chunk = 512;
    info.policy_spec = "on-demand";
    info.cache_ratio = 0.375;
    info.cache_bytes = kSlots * kExpertBytes;
    info.slots = kSlots;
    info.sampling_json = R"({"seed": 0})";
    info.memory.experts_bytes = kSlots * kExpertBytes;
    return info;
  }

  void start() {
    out_.on_start(info());
    out_.on_epoch({0, 0, 0, 0, "start", "start", "on-demand", 0.375, kSlots * kExpertBytes, kSlots, false});
  }

  // One prefill and `tokens` - 1 decode steps.
  void prompt(int tokens) {
    out_.on_prompt({prompt_, step_, now_, "tale", "Once upon a time"});
    run_step(Phase::prefill, 3);
    for (int i = 1; i < tokens; ++i) run_step(Phase::decode, 1);
    out_.on_logits({prompt_, {{1, 2.5f}, {7, 1.25f}}});
    ++prompt_;
  }

  void change_policy(const std::string& spec) {
    ++epoch_;
    out_.on_epoch({epoch_, step_, generated_, now_, "user", "policy -> " + spec, spec, 0.375, kSlots * kExpertBytes,
                   kSlots, false});
  }

  TimeNs now() const { return now_; }

 private:
  struct Slot {
    std::uint16_t expert = kNone16, layer = kNone16;
    bool used = false, prefetched = false;
    CopyReason reason = CopyReason::demand;
  };

  std::uint32_t random() { return (random_ = random_ * 1664525 + 1013904223) >> 16; }

  void work(WorkKind kind, Lane lane, TimeNs length, int layer = -1, int expert = -1, int tokens = 1) {
    WorkRecord w;
    w.start_ns = now_;
    w.end_ns = now_ += length;
    w.bytes = lane == Lane::gpu && kind < WorkKind::routing_sync ? length * 500 : 0;
    w.step = step_;
    if (layer >= 0) w.layer = static_cast<std::uint16_t>(layer);
    if (expert >= 0) w.expert = static_cast<std::uint16_t>(expert);
    w.tokens = static_cast<std::uint16_t>(tokens);
    w.kind = kind;
    w.lane = lane;
    out_.on_event(w);
  }

  void lose(std::uint16_t slot, TimeNs at) {
    out_.on_event(ResidencyRecord{at, step_, slots_[slot].layer, slots_[slot].expert, slot, ResidencyChange::evicted,
                                  slots_[slot].reason, slots_[slot].used});
  }

  // Copies an expert into a slot, in two pieces; returns the slot.
  std::uint16_t load(int layer, int expert, CopyReason reason, TimeNs start) {
    std::uint16_t slot;
    if (order_.size() < kSlots) {
      slot = static_cast<std::uint16_t>(order_.size());
    } else {
      slot = order_.front();
      order_.pop_front();
      lose(slot, start);
    }
    order_.push_back(slot);
    CopyRecord c;
    c.issued_ns = now_;
    c.step = step_;
    c.copy = copy_++;
    c.layer = static_cast<std::uint16_t>(layer);
    c.expert = static_cast<std::uint16_t>(expert);
    c.slot = slot;
    c.reason = reason;
    c.bytes = kExpertBytes / 4;
    c.start_ns = start;
    c.end_ns = start + kCopyNs / 4;
    c.last = false;
    out_.on_event(c);
    c.start_ns = c.end_ns;
    c.end_ns = start + kCopyNs;
    c.bytes = kExpertBytes - kExpertBytes / 4;
    c.last = true;
    out_.on_event(c);
    slots_[slot] = {c.expert, c.layer, false, reason == CopyReason::prefetch, reason};
    out_.on_event(ResidencyRecord{c.end_ns, step_, c.layer, c.expert, slot, ResidencyChange::loaded, reason, false});
    return slot;
  }

  int find(int layer, int expert) const {
    for (int s = 0; s < static_cast<int>(order_.size()); ++s) {
      if (slots_[s].layer == layer && slots_[s].expert == expert) return s;
    }
    return -1;
  }

  void demand(int layer, int expert, int picks, int rank, float weight) {
    DemandRecord d;
    d.asked_ns = now_;
    d.step = step_;
    d.layer = static_cast<std::uint16_t>(layer);
    d.expert = static_cast<std::uint16_t>(expert);
    d.picks = static_cast<std::uint16_t>(picks);
    d.rank = static_cast<std::uint16_t>(rank);
    d.weight = weight;
    int slot = find(layer, expert);
    if (slot >= 0) {
      d.state = DemandState::hit;
      d.outcome = Outcome::gpu;
      d.prefetched = slots_[slot].prefetched && !slots_[slot].used;
    } else {
      d.state = DemandState::miss;
      d.outcome = Outcome::fetched;
      const TimeNs begin = std::max(now_, link_free_);
      slot = load(layer, expert, CopyReason::demand, begin);
      link_free_ = begin + kCopyNs;
      work(WorkKind::wait_demand, Lane::gpu, link_free_ - now_, layer, expert);
    }
    slots_[slot].used = true;
    work(WorkKind::expert, Lane::gpu, 700, layer, expert, picks);
    d.ready_ns = now_;
    out_.on_event(d);
  }

  void route(int layer, int token, int first, int second) {
    RouteRecord r;
    r.step = step_;
    r.layer = static_cast<std::uint16_t>(layer);
    r.token = static_cast<std::uint16_t>(token);
    r.picks = kTopK;
    r.gates = 2;
    r.gate_entries = kExperts;
    r.expert = {static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(second)};
    r.weight = {0.75f, 0.25f};
    for (std::uint16_t i = 0; i < kExperts; ++i) {
      r.gate[0][i] = {i, static_cast<std::uint16_t>(1000 - i)};
      r.gate[1][i] = {static_cast<std::uint16_t>(kExperts - 1 - i), 7};
    }
    out_.on_route(r);
  }

  void layer(int layer, int tokens) {
    work(WorkKind::attention, Lane::gpu, 1'000, layer, -1, tokens);
    work(WorkKind::router, Lane::gpu, 100, layer, -1, tokens);
    work(WorkKind::routing_sync, Lane::host, 200, layer);
    std::array<int, kExperts> picks{};
    for (int t = 0; t < tokens; ++t) {
      const int first = static_cast<int>(random() % kExperts);
      const int second = (first + 1 + static_cast<int>(random() % (kExperts - 1))) % kExperts;
      route(layer, t, first, second);
      ++picks[static_cast<std::size_t>(first)];
      ++picks[static_cast<std::size_t>(second)];
    }
    work(WorkKind::policy, Lane::host, 50, layer);
    for (int e = 0; e < kExperts; ++e) {
      if (picks[static_cast<std::size_t>(e)] > 0) demand(layer, e, picks[static_cast<std::size_t>(e)], 0, 0.75f);
    }
    work(WorkKind::combine, Lane::gpu, 150, layer, -1, tokens);
  }

  void token(std::int32_t id, std::uint32_t index, bool generated, TimeNs at) {
    if (std::find(told_.begin(), told_.end(), id) == told_.end()) {
      told_.push_back(id);
      out_.on_piece(id, " w" + std::to_string(id));
    }
    out_.on_event(TokenRecord{at, step_, prompt_, index, id, generated});
  }

  void run_step(Phase phase, int tokens) {
    now_ += 300;  // between steps
    StepRecord s;
    s.start_ns = now_;
    s.step = step_;
    s.prompt = prompt_;
    s.epoch = epoch_;
    s.first_position = phase == Phase::prefill ? 0 : position_;
    s.first_generated = generated_;
    s.tokens = static_cast<std::uint16_t>(tokens);
    s.sampled = s.logits = 1;
    s.phase = phase;
    if (phase == Phase::prefill) {
      for (int t = 0; t < tokens; ++t) token(100 + t, static_cast<std::uint32_t>(t), false, now_);
    }
    if (step_ % 4 == 3 && find(1, 7) < 0 && link_free_ <= now_) {
      load(1, 7, CopyReason::prefetch, now_);
      link_free_ = now_ + kCopyNs;
    }
    for (int l = 0; l < kLayers; ++l) layer(l, tokens);
    work(WorkKind::head, Lane::gpu, 400);
    work(WorkKind::sampling, Lane::host, 80);
    now_ += 10;  // belongs to nothing
    token(static_cast<std::int32_t>(200 + random() % 5), generated_++, true, now_);
    position_ = s.first_position + static_cast<std::uint32_t>(tokens);
    s.end_ns = now_;
    out_.on_event(s);
    ++step_;
  }

  Observer& out_;
  TimeNs now_ = 0, link_free_ = 0;
  std::uint32_t step_ = 0, prompt_ = 0, epoch_ = 0, generated_ = 0, copy_ = 0, position_ = 0, random_ = 1;
  std::array<Slot, kSlots> slots_{};
  std::deque<std::uint16_t> order_;
  std::vector<std::int32_t> told_;
};

// A finished run of two prompts with a change of policy between them.
inline void play_sample(Observer& observer, int tokens_per_prompt = 20) {
  SampleRun run(observer);
  run.start();
  run.prompt(tokens_per_prompt);
  run.change_policy("lfu");
  observer.on_mark({run.now(), static_cast<std::uint32_t>(tokens_per_prompt), "halfway"});
  run.prompt(tokens_per_prompt);
  observer.on_health({"sample.note", Severity::info, 2, "Something worth telling."});
  observer.on_quality({0, 12.5, 10, 0.75, 5, 4});
}

inline Batch sample_batch(int tokens_per_prompt = 20) {
  BatchObserver observer;
  play_sample(observer, tokens_per_prompt);
  observer.batch.ended = true;
  return observer.batch;
}

inline Trace sample_trace(int tokens_per_prompt = 20) {
  Trace trace;
  trace.append(sample_batch(tokens_per_prompt));
  return trace;
}

}  // namespace expertscope::test
