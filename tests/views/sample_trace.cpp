#include "tests/views/sample_trace.h"

#include <algorithm>
#include <array>
#include <map>

namespace expertscope::sample {
namespace {

constexpr TimeNs kAttention_ns = 240'000, kRouter_ns = 18'000, kSync_ns = 26'000, kExpert_ns = 175'000,
                 kCombine_ns = 12'000, kCpuExpert_ns = 1'650'000;
constexpr TimeNs kPolicy_ns = 6'000, kSampling_ns = 60'000, kHead_ns = 420'000;
constexpr std::int64_t kExpert_bytes = 99'000'000;
constexpr double kLink_bytes_per_s = 25e9;
constexpr TimeNs kCopy_ns = static_cast<TimeNs>(kExpert_bytes / kLink_bytes_per_s * 1e9);

constexpr const char* kStory =
    "and every evening when the tide went out she walked down to the pools to see what the sea had left behind . One "
    "night she found a lantern , still burning under the water . \" Who "
    "put you here ? \" she asked , and the light moved a little , as if it had heard her . The next day the fisherman "
    "told her that long ago a ship had come so near to the rocks that "
    "its lamps could be seen from the village , and that nobody had ever found the ship . So she took the lantern home "
    ", set it in the window , and waited for somebody to come .";

class Dice {
 public:
  double next() {
    state_ += 0x9e3779b97f4a7c15ull;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
  }
  int below(int n) { return std::min(n - 1, static_cast<int>(next() * n)); }

 private:
  std::uint64_t state_ = 20260501;
};

struct Slot {
  std::uint16_t number = 0;  // over all layers
  int expert = -1;
  TimeNs ready_ns = 0;
  std::uint64_t used_at = 0;
  bool used = false;
  CopyReason reason = CopyReason::demand;
};

class Session {
 public:
  explicit Session(const Options& options) : o_(options) {
    slots_.resize(static_cast<std::size_t>(o_.layers));
    std::uint16_t number = 0;
    for (auto& layer : slots_) {
      layer.resize(static_cast<std::size_t>(o_.experts / 4));
      for (Slot& slot : layer) slot.number = number++;
    }
    last_picks_.resize(static_cast<std::size_t>(o_.layers), {0, 1});
  }

  std::vector<Batch> run() {
    start();
    for (int prompt = 0; prompt < o_.prompts; ++prompt) {
      begin_prompt(prompt);
      step(Phase::prefill, o_.prompt_tokens, prompt);
      for (int i = 1; i < o_.tokens_each; ++i) step(Phase::decode, 1, prompt);
      now_ += 40'000'000;
    }
    batches_.back().ended = true;
    // Records of one list come in time order, whatever step they belong to.
    return std::move(batches_);
  }

 private:
  Batch& batch() { return batches_.back(); }

  void start() {
    batches_.emplace_back();
    RunInfo info;
    info.model_name = "tidepool-42m-moe";
    info.model_arch = "llama";
    info.layers = o_.layers;
    info.experts = o_.experts;
    info.top_k = 2;
    info.context = 512;
    info.machine_kind = "emulated";
    info.profile_name = "rtx4090-pcie4";
    info.cost_shape = "mixtral-8x7b-q4";
    info.label = Label::estimated;
    info.expert_bytes = kExpert_bytes;
    info.h2d_bytes_per_s = kLink_bytes_per_s;
    info.gpu_bytes_per_s = 1008e9;
    info.policy_spec = "on-demand";
    info.cache_ratio = 0.25;
    info.slots = static_cast<std::uint32_t>(o_.layers * o_.experts / 4);
    info.cache_bytes = info.slots * kExpert_bytes;
    batch().start = info;
    add_epoch("start", "", "on-demand", 0.25);
    batch().health.push_back(
        {"cost_shape.layers", Severity::info, 1,
         "Times describe a model of 12 such layers with 16 such experts each, not the whole mixtral-8x7b."});
  }

  void add_epoch(const char* source, const char* change, const char* spec, double ratio) {
    EpochRecord epoch;
    epoch.epoch = epochs_++;
    epoch.step = step_;
    epoch.at_token = generated_;
    epoch.at_ns = now_;
    epoch.source = source;
    epoch.change = change;
    epoch.policy_spec = spec;
    epoch.cache_ratio = ratio;
    epoch.slots = static_cast<std::uint32_t>(ratio * o_.layers * o_.experts);
    epoch.cache_bytes = epoch.slots * kExpert_bytes;
    batch().epochs.push_back(epoch);
  }

  void begin_prompt(int prompt) {
    if (prompt > 0) batches_.emplace_back();
    batch().prompts.push_back({static_cast<std::uint32_t>(prompt), step_, now_, prompt % 2 ? "prose" : "tale",
                               "Once upon a time there was a little girl who lived in a cottage near the sea,"});
  }

  void change_if_due() {
    if (static_cast<int>(generated_) == o_.policy_change_at && !lookahead_) {
      lookahead_ = true;
      add_epoch("user", "policy on-demand -> lookahead", "lookahead", 0.25);
    }
    if (static_cast<int>(generated_) == o_.cache_change_at && !small_) {
      small_ = true;
      add_epoch("user", "cache ratio 0.25 -> 0.125", "lookahead", 0.125);
      for (int layer = 0; layer < o_.layers; ++layer)
        while (static_cast<int>(slots_of(layer).size()) > o_.experts / 8) {
          const Slot lost = slots_of(layer).back();
          slots_of(layer).pop_back();
          if (lost.expert >= 0) note_change(layer, lost, ResidencyChange::dropped, std::max(now_, lost.ready_ns));
        }
    }
  }

  std::vector<Slot>& slots_of(int layer) { return slots_[static_cast<std::size_t>(layer)]; }

  void note_change(int layer, const Slot& slot, ResidencyChange change, TimeNs at) {
    changes_.push_back({at, step_, static_cast<std::uint16_t>(layer), static_cast<std::uint16_t>(slot.expert),
                        slot.number, change, slot.reason, slot.used, 0});
  }

  void work(WorkKind kind, Lane lane, TimeNs begin, TimeNs end, int layer = -1, int expert = -1, int tokens = 1) {
    WorkRecord r;
    r.start_ns = begin;
    r.end_ns = end;
    r.step = step_;
    r.kind = kind;
    r.lane = lane;
    r.tokens = static_cast<std::uint16_t>(tokens);
    if (layer >= 0) r.layer = static_cast<std::uint16_t>(layer);
    if (expert >= 0) r.expert = static_cast<std::uint16_t>(expert);
    if (kind == WorkKind::expert) r.bytes = kExpert_bytes, r.flops = 2 * kExpert_bytes * tokens;
    if (kind == WorkKind::attention) r.bytes = 80'000'000;
    batch().works.push_back(r);
  }

  void on_gpu(WorkKind kind, TimeNs length, int layer = -1, int expert = -1, int tokens = 1) {
    work(kind, Lane::gpu, now_, now_ + length, layer, expert, tokens);
    now_ += length;
  }

  // Copies into the least recently used slot; returns it.
  Slot& fetch(int layer, int expert, CopyReason reason, TimeNs issued) {
    auto& slots = slots_of(layer);
    Slot& victim = *std::min_element(slots.begin(), slots.end(),
                                     [](const Slot& a, const Slot& b) { return a.used_at < b.used_at; });
    if (victim.expert >= 0) note_change(layer, victim, ResidencyChange::evicted, std::max(issued, victim.ready_ns));
    CopyRecord copy;
    copy.issued_ns = issued;
    copy.start_ns = std::max(issued, link_free_);
    copy.end_ns = link_free_ = copy.start_ns + kCopy_ns;
    copy.bytes = kExpert_bytes;
    copy.step = step_;
    copy.copy = copies_++;
    copy.layer = static_cast<std::uint16_t>(layer);
    copy.expert = static_cast<std::uint16_t>(expert);
    copy.slot = victim.number;
    copy.reason = reason;
    batch().copies.push_back(copy);
    victim = {victim.number, expert, copy.end_ns, ++uses_, false, reason};
    note_change(layer, victim, ResidencyChange::loaded, copy.end_ns);
    return victim;
  }

  // Experts that many tokens choose: half the time those of the token before, else skewed towards low numbers of a
  // rotation.
  std::vector<int> choose(int layer, int count) {
    std::vector<int> picks;
    auto& last = last_picks_[static_cast<std::size_t>(layer)];
    while (static_cast<int>(picks.size()) < count) {
      const double skewed = dice_.next() * dice_.next();
      int expert = (static_cast<int>(skewed * o_.experts) + layer * 5) % o_.experts;
      if (picks.size() < 2 && dice_.next() < 0.5) expert = last[picks.size()];
      if (std::find(picks.begin(), picks.end(), expert) == picks.end()) picks.push_back(expert);
    }
    last = {picks[0], picks[1]};
    return picks;
  }

  void demand(int layer, int expert, int rank, TimeNs asked, int tokens) {
    DemandRecord r;
    r.asked_ns = asked;
    r.step = step_;
    r.layer = static_cast<std::uint16_t>(layer);
    r.expert = static_cast<std::uint16_t>(expert);
    r.picks = static_cast<std::uint16_t>(std::max(1, tokens / 4));
    r.rank = static_cast<std::uint16_t>(std::min(rank, 1));
    r.weight = rank == 0 ? 0.68f : 0.32f;
    auto& slots = slots_of(layer);
    auto slot = std::find_if(slots.begin(), slots.end(), [&](const Slot& s) { return s.expert == expert; });
    if (slot == slots.end() && rank > 0 && lookahead_ && dice_.next() < 0.45) {
      r.state = DemandState::miss;
      r.outcome = Outcome::cpu;
      const TimeNs begin = std::max(asked, cpu_free_);
      cpu_free_ = r.ready_ns = begin + kCpuExpert_ns;
      work(WorkKind::expert, Lane::cpu, begin, cpu_free_, layer, expert, tokens);
      batch().demands.push_back(r);
      return;
    }
    if (slot == slots.end()) {
      r.state = DemandState::miss;
      r.outcome = Outcome::fetched;
      fetch(layer, expert, CopyReason::demand, asked);
      slot = std::find_if(slots.begin(), slots.end(), [&](const Slot& s) { return s.expert == expert; });
    } else if (slot->ready_ns > asked) {
      r.state = DemandState::late;
    }
    r.prefetched = !slot->used && slot->reason == CopyReason::prefetch;
    if (slot->ready_ns > now_) {
      work(r.state == DemandState::miss ? WorkKind::wait_demand : WorkKind::wait_prefetch, Lane::gpu, now_,
           slot->ready_ns, layer, expert);
      now_ = slot->ready_ns;
    }
    slot->used = true;
    slot->used_at = ++uses_;
    on_gpu(WorkKind::expert, kExpert_ns, layer, expert, tokens);
    r.ready_ns = now_;
    batch().demands.push_back(r);
  }

  void prefetch(int layer, const std::vector<int>& coming, TimeNs at) {
    for (std::size_t i = 0; i < 2; ++i) {
      const int expert = dice_.next() < 0.8 ? coming[i] : dice_.below(o_.experts);
      const auto& slots = slots_of(layer);
      if (std::none_of(slots.begin(), slots.end(), [&](const Slot& s) { return s.expert == expert; }))
        fetch(layer, expert, CopyReason::prefetch, at);
    }
  }

  void step(Phase phase, int tokens, int prompt) {
    if (step_ > 0 && batch().steps.size() > 0) batches_.emplace_back();
    change_if_due();
    StepRecord r;
    r.start_ns = now_;
    r.step = step_;
    r.prompt = static_cast<std::uint32_t>(prompt);
    r.epoch = epochs_ - 1;
    r.first_generated = generated_;
    r.first_position = phase == Phase::prefill ? 0 : position_;
    r.tokens = static_cast<std::uint16_t>(tokens);
    r.sampled = 1;
    r.phase = phase;
    on_gpu(WorkKind::embed, 9'000, -1, -1, tokens);
    std::vector<std::vector<int>> picks;
    for (int layer = 0; layer < o_.layers; ++layer)
      picks.push_back(choose(layer, phase == Phase::prefill ? o_.experts / 2 : 2));
    for (int layer = 0; layer < o_.layers; ++layer) {
      on_gpu(WorkKind::attention, kAttention_ns * (phase == Phase::prefill ? 4 : 1), layer, -1, tokens);
      on_gpu(WorkKind::router, kRouter_ns, layer, -1, tokens);
      work(WorkKind::routing_sync, Lane::host, now_, now_ + kSync_ns, layer);
      work(WorkKind::policy, Lane::host, now_ + kSync_ns, now_ + kSync_ns + kPolicy_ns, layer);
      now_ += kSync_ns + kPolicy_ns;
      const TimeNs asked = now_;
      // Resident experts first, then those that must come.
      auto order = picks[static_cast<std::size_t>(layer)];
      std::stable_partition(order.begin(), order.end(), [&](int expert) {
        return std::any_of(slots_of(layer).begin(), slots_of(layer).end(),
                           [&](const Slot& s) { return s.expert == expert && s.ready_ns <= asked; });
      });
      for (std::size_t i = 0; i < order.size(); ++i) {
        demand(layer, order[i], order[i] == picks[static_cast<std::size_t>(layer)][0] ? 0 : 1, asked, tokens);
        if (i == 0 && lookahead_ && phase == Phase::decode && layer + 1 < o_.layers)
          prefetch(layer + 1, picks[static_cast<std::size_t>(layer + 1)], now_);
      }
      if (cpu_free_ > now_) {
        work(WorkKind::wait_activation, Lane::gpu, now_, cpu_free_, layer);
        now_ = cpu_free_;
      }
      on_gpu(WorkKind::combine, kCombine_ns, layer, -1, tokens);
    }
    on_gpu(WorkKind::head, kHead_ns);
    work(WorkKind::sampling, Lane::host, now_, now_ + kSampling_ns);
    now_ += kSampling_ns;
    r.end_ns = now_;
    batch().steps.push_back(r);
    position_ = r.first_position + static_cast<std::uint32_t>(tokens);
    add_tokens(r, phase == Phase::prefill ? tokens : 0);
    ++generated_;
    ++step_;
    std::stable_sort(batch().copies.begin(), batch().copies.end(),
                     [](const CopyRecord& a, const CopyRecord& b) { return a.start_ns < b.start_ns; });
    std::stable_sort(changes_.begin(), changes_.end(),
                     [](const ResidencyRecord& a, const ResidencyRecord& b) { return a.at_ns < b.at_ns; });
    const auto later =
        std::find_if(changes_.begin(), changes_.end(), [&](const ResidencyRecord& c) { return c.at_ns > now_; });
    batch().residency.assign(changes_.begin(), later);
    changes_.erase(changes_.begin(), later);
  }

  std::int32_t next_word() {
    static const std::vector<std::string> words = [] {
      std::vector<std::string> all;
      std::string word;
      for (const char* c = kStory; *c; ++c) {
        if (*c == ' ' && !word.empty()) {
          all.push_back(word == "," || word == "." || word == "?" ? word : " " + word);
          word.clear();
        } else if (*c != ' ') {
          word += *c;
        }
      }
      all.push_back(" " + word);
      return all;
    }();
    const auto id = static_cast<std::int32_t>(word_++ % words.size());
    batch().pieces[id] = words[static_cast<std::size_t>(id)];
    return id;
  }

  void add_tokens(const StepRecord& r, int prompt_tokens) {
    for (int i = 0; i < prompt_tokens; ++i)
      batch().tokens.push_back({r.start_ns, r.step, r.prompt, static_cast<std::uint32_t>(i), next_word(), false});
    batch().tokens.push_back({r.end_ns, r.step, r.prompt, generated_, next_word(), true});
  }

  const Options o_;
  Dice dice_;
  std::vector<Batch> batches_;
  std::vector<std::vector<Slot>> slots_;
  std::vector<std::array<int, 2>> last_picks_;
  std::vector<ResidencyRecord> changes_;  // not yet in a batch
  TimeNs now_ = 0, link_free_ = 0, cpu_free_ = 0;
  std::uint64_t uses_ = 0, word_ = 0;
  std::uint32_t step_ = 0, generated_ = 0, copies_ = 0, epochs_ = 0, position_ = 0;
  bool lookahead_ = false, small_ = false;
};

}  // namespace

std::vector<Batch> batches(const Options& options) {
  return Session(options).run();
}

Trace trace(const Options& options) {
  Trace result;
  for (const Batch& batch : batches(options)) result.append(batch);
  return result;
}

LiveStatus live_status(const Trace& trace) {
  LiveStatus status;
  status.live = true;
  status.running = true;
  status.session_path = "/sessions/demo-0007.expertscope";
  if (!trace.epochs.empty()) {
    status.policy_spec = trace.epochs.back().policy_spec;
    status.cache_ratio = trace.epochs.back().cache_ratio;
    status.cache_bytes = trace.epochs.back().cache_bytes;
    status.slots = trace.epochs.back().slots;
    status.last_change = trace.epochs.size() > 1 ? trace.epochs.back().change + ", from token " +
                                                       std::to_string(trace.epochs.back().at_token)
                                                 : "";
  }
  status.layers = trace.info.layers;
  status.experts = trace.info.experts;
  status.slots_at_ratio_1 = static_cast<std::uint32_t>(trace.info.layers * trace.info.experts);
  status.cache_bytes_at_ratio_1 = trace.info.expert_bytes * status.slots_at_ratio_1;
  for (const StepRecord& step : trace.steps) status.generated += step.sampled;
  return status;
}

namespace {
SessionSummary saved(const char* path, const char* name, const char* note, const char* machine, const char* policy,
                     const char* date) {
  SessionSummary session;
  session.path = path;
  session.name = name;
  session.note = note;
  session.model = "tidepool-42m-moe";
  session.machine = machine;
  session.policy = policy;
  session.date = date;
  return session;
}
}  // namespace

Hooks hooks() {
  Hooks hooks;
  hooks.workloads = {
      {"tale",
       {"Once upon a time there was a little girl who lived in a cottage near the sea, and",
        "The king had three sons, and the youngest of them was called"}},
      {"c", {"static int read_header(struct file *file, char *buf, size_t len)\n{\n\tint ret;\n\n\tif ("}}};
  hooks.list_sessions = [] {
    SessionSummary demo = saved("/sessions/demo-0007.expertscope", "demo-0007", "", "rtx4090-pcie4",
                                "lookahead, cache 0.125", "today 09:41");
    demo.recording = true;
    demo.tokens_per_s = 24.1;
    demo.hit_rate = 0.482;
    SessionSummary night = saved("/sessions/night-lfu.expertscope", "night-lfu", "baseline for the report",
                                 "rtx4090-pcie4", "lfu, cache 0.25", "yesterday 23:10");
    night.tokens_per_s = 18.4;
    night.hit_rate = 0.713;
    night.file_bytes = 48'200'000;
    SessionSummary first =
        saved("/sessions/first.expertscope", "first", "", "h100-pcie5", "resident, cache 1", "2 May");
    first.tokens_per_s = 131;
    first.hit_rate = 1;
    first.file_bytes = 9'310'000;
    return std::vector<SessionSummary>{demo, night, first};
  };
  hooks.open_session = [](const std::string&) { return std::string(); };
  hooks.rename_session = [](const std::string&, const std::string&) { return std::string(); };
  hooks.note_session = [](const std::string&, const std::string&) { return std::string(); };
  hooks.trash_session = [](const std::string&) { return std::string(); };
  return hooks;
}

}  // namespace expertscope::sample
