// What the engine tells whoever listens: one optional hook of plain structs. The engine never knows who listens.
//
// Fixed-size records (Event, RouteRecord) are emitted on the hot path: an observer must neither block for long, lock
// nor allocate there. On an emulated machine all of them come from the engine thread, in an order that is the same for
// every run of the same command. The rare records with strings come from the engine thread too, between steps.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/ids.h"

namespace expertscope {

// One unit of work on a lane, or an exposed wait (WorkKind::wait_*) of it. Intervals of one lane and device never
// overlap.
struct WorkRecord {
  TimeNs start_ns = 0, end_ns = 0;
  std::int64_t bytes = 0;  // memory traffic it was expected to need (of the cost shape); 0 for waits and host work
  std::int64_t flops = 0;  // arithmetic it was expected to need, one multiply-add = 2
  std::uint32_t step = 0;
  std::uint16_t layer = kNone16, expert = kNone16;
  std::uint16_t tokens = 0;  // rows it worked on
  WorkKind kind = WorkKind::embed;
  Lane lane = Lane::gpu;
  std::uint8_t device = 0;
  Precision precision = Precision::native;
};

// One uninterrupted piece of a copy. A copy that was overtaken at a chunk boundary has several; `last` marks the piece
// that completed it. Its bytes are the sum over its pieces. A cancelled copy has no piece with `last`.
struct CopyRecord {
  TimeNs issued_ns = 0, start_ns = 0, end_ns = 0;
  std::int64_t bytes = 0;
  std::uint32_t step = 0;  // step in which it was issued
  std::uint32_t copy = 0;  // number of the copy, from 0 in the session
  std::uint16_t layer = kNone16, expert = kNone16, slot = kNone16;
  CopyReason reason = CopyReason::demand;
  Lane lane = Lane::h2d;
  std::uint8_t device = 0;
  Precision precision = Precision::native;
  bool last = true;
};

// One distinct (step, layer, expert) that the router asked for.
struct DemandRecord {
  TimeNs asked_ns = 0;  // the router's result was there
  TimeNs ready_ns = 0;  // its result was there
  std::uint32_t step = 0;
  std::uint16_t layer = 0, expert = 0;
  std::uint16_t picks = 0;  // how many of the step's (token, rank) choices it serves
  std::uint16_t rank = 0;   // best rank among them, 0 = the router's first choice
  float weight = 0;         // largest router weight among them
  DemandState state = DemandState::hit;
  Outcome outcome = Outcome::gpu;
  Precision precision = Precision::native;
  std::uint8_t device = 0;
  bool prefetched = false;  // its slot was filled by a prefetch that no demand had used before
  bool revised = false;     // not all of its picks ran with their router's weights: a gate changed or dropped some
};

enum class ResidencyChange : std::uint8_t { loaded, evicted, dropped };  // dropped: the cache was made smaller or reset

// A slot got or lost an expert. `used` on a loss: whether any demand had used it since it was loaded.
struct ResidencyRecord {
  TimeNs at_ns = 0;
  std::uint32_t step = 0;
  std::uint16_t layer = 0, expert = 0, slot = kNone16;
  ResidencyChange change = ResidencyChange::loaded;
  CopyReason reason = CopyReason::demand;  // why it had been loaded
  bool used = false;
  std::uint8_t device = 0;
};

// A step that forwards tokens of several prompts. Its tokens then are one each of those prompts whose tokens it
// sampled: TokenRecords of the step name them, in the order of its tokens.
inline constexpr std::uint32_t kSeveralPrompts = 0xffffffff;

// One forward pass. Decode steps carry one token of each sequence of their batch.
struct StepRecord {
  TimeNs start_ns = 0, end_ns = 0;  // from accepting the tokens to the sampled token, sampling included
  std::uint32_t step = 0;
  std::uint32_t prompt = 0;  // index of the prompt, or kSeveralPrompts
  std::uint32_t epoch = 0;
  std::uint32_t first_position = 0;   // KV position of the first token
  std::uint32_t first_generated = 0;  // generated tokens of the whole run before this step
  std::uint16_t tokens = 0;           // tokens forwarded
  std::uint16_t sampled = 0;          // tokens sampled at its end (0 for all but the last chunk of a prompt)
  std::uint16_t logits = 0;           // tokens whose logits were computed
  Phase phase = Phase::prefill;
};

// One token of a prompt's text: forwarded prompt tokens and generated ones, in order.
struct TokenRecord {
  TimeNs at_ns = 0;        // when it was known: step start for prompt tokens, step end for generated ones
  std::uint32_t step = 0;  // step that forwarded it (prompt) or sampled it (generated)
  std::uint32_t prompt = 0;
  std::uint32_t index = 0;  // generated: number in the whole run from 0; prompt token: number within the prompt
  std::int32_t id = 0;
  bool generated = false;
};

enum class EventKind : std::uint8_t { work, copy, demand, residency, step, token };

struct Event {
  EventKind kind = EventKind::work;
  union {
    WorkRecord work;
    CopyRecord copy;
    DemandRecord demand;
    ResidencyRecord residency;
    StepRecord step;
    TokenRecord token;
  };
  Event() : work{} {}
  Event(const WorkRecord& r) : kind(EventKind::work), work(r) {}
  Event(const CopyRecord& r) : kind(EventKind::copy), copy(r) {}
  Event(const DemandRecord& r) : kind(EventKind::demand), demand(r) {}
  Event(const ResidencyRecord& r) : kind(EventKind::residency), residency(r) {}
  Event(const StepRecord& r) : kind(EventKind::step), step(r) {}
  Event(const TokenRecord& r) : kind(EventKind::token), token(r) {}
};
static_assert(std::is_trivially_copyable_v<Event>);
static_assert(sizeof(Event) <= 72, "an event must stay small: rings hold many");

inline constexpr int kMaxPicks = 16;     // top-k of any supported model
inline constexpr int kGateEntries = 16;  // best probabilities kept per gate
inline constexpr int kMaxLookahead = 3;  // gates of coming layers that may be recorded

struct GateEntry {
  std::uint16_t expert = kNone16;
  std::uint16_t prob_q16 = 0;  // probability * 65535, rounded to nearest
  bool operator==(const GateEntry&) const = default;
};

// The router's word for one token in one layer, in the form that is stored, replayed and shown to policies: what a
// policy sees live is what it will see in replay.
struct RouteRecord {
  std::uint32_t step = 0;
  std::uint16_t layer = 0;
  std::uint16_t token = 0;  // index within the step
  std::uint8_t picks = 0;   // top-k
  std::uint8_t gates = 0;   // recorded gates: 1 = this layer's router alone, 1 + d = and the gates 1..d layers ahead
  std::uint8_t gate_entries = 0;                  // min(16, experts)
  std::array<std::uint16_t, kMaxPicks> expert{};  // best first, distinct
  std::array<float, kMaxPicks> weight{};          // weights that the expert outputs are summed with
  std::array<std::array<GateEntry, kGateEntries>, 1 + kMaxLookahead>
      gate{};  // [0] this layer; [d] layer + d applied to this x_l; best first
};
static_assert(std::is_trivially_copyable_v<RouteRecord>);

// A stretch of the run under one policy and cache size; the first is the start. Recorded when it takes effect.
struct EpochRecord {
  std::uint32_t epoch = 0;
  std::uint32_t step = 0;      // first step under it
  std::uint32_t at_token = 0;  // generated tokens before it
  TimeNs at_ns = 0;
  std::string source;       // "start", "user", "script"
  std::string change;       // what changed, for people: "policy on-demand -> lfu"
  std::string policy_spec;  // canonical spec in force: "on-demand:evictor=lfu"
  double cache_ratio = 0;
  std::int64_t cache_bytes = 0;
  std::uint32_t slots = 0;
  bool cache_reset = false;  // the cache was emptied when it began
};

struct PromptRecord {
  std::uint32_t prompt = 0;
  std::uint32_t first_step = 0;
  TimeNs at_ns = 0;
  std::string workload;        // its list in --prompts, else ""
  std::string text;            // as given; for raw ids the decoded text
  std::uint32_t sequence = 0;  // its place among the prompts that are decoded together; 0 begins such a batch
};

// A mark that the user set.
struct MarkRecord {
  TimeNs at_ns = 0;
  std::uint32_t at_token = 0;
  std::string text;
};

// The best logits of a prompt's last position, best first: what --record-logits asks for.
struct LogitsRecord {
  std::uint32_t prompt = 0;
  std::vector<std::pair<std::int32_t, float>> best;  // token id, logit
};

// What teacher forcing and the exact computation beside a run found: records of a prompt add up.
struct QualityRecord {
  std::uint32_t prompt = 0;
  double nll_sum = 0;          // negative log likelihood of the scored tokens, nats
  std::uint64_t tokens = 0;    // scored tokens
  double kl_sum = 0;           // KL(exact || policy) over the logits of the shadowed tokens, nats
  std::uint64_t shadowed = 0;  // tokens whose logits the exact computation gave as well
  std::uint64_t agreed = 0;    // of them, those whose best token is the same
};

// What a launch or a copy call on a real device is for. A tracing library tags what it records with the 64-bit form, so
// that every kernel and copy can be joined to its step, layer and reason.
struct LaunchTag {
  std::uint32_t step = 0;
  std::uint16_t layer = kNone16, expert = kNone16;  // below 2047, or none
  bool is_copy = false;
  WorkKind kind = WorkKind::embed;         // of a launch
  CopyReason reason = CopyReason::demand;  // of a copy
  bool operator==(const LaunchTag&) const = default;
};
constexpr std::uint64_t pack(const LaunchTag& tag) {
  const auto narrow = [](std::uint16_t v) { return std::uint64_t{v == kNone16 ? 2047u : v}; };
  const auto what = tag.is_copy ? static_cast<std::uint64_t>(tag.reason) : static_cast<std::uint64_t>(tag.kind);
  // The highest bit is always set: 0 is nobody's tag.
  return std::uint64_t{1} << 63 | std::uint64_t{tag.is_copy} << 62 | what << 56 | narrow(tag.layer) << 43 |
         narrow(tag.expert) << 32 | tag.step;
}
constexpr LaunchTag unpack_tag(std::uint64_t bits) {
  const auto wide = [](std::uint64_t v) { return static_cast<std::uint16_t>(v == 2047 ? kNone16 : v); };
  LaunchTag tag{.step = static_cast<std::uint32_t>(bits),
                .layer = wide(bits >> 43 & 2047),
                .expert = wide(bits >> 32 & 2047),
                .is_copy = (bits >> 62 & 1) != 0};
  const std::uint64_t what = bits >> 56 & 63;
  if (tag.is_copy)
    tag.reason = static_cast<CopyReason>(what);
  else
    tag.kind = static_cast<WorkKind>(what);
  return tag;
}

enum class Severity : std::uint8_t { info, warning, loss };

// Something was lost, ignored or replaced while the run went on. Same `code` = same counter in health.
struct HealthNote {
  std::string code;  // stable, such as "static.no_prior"
  Severity severity = Severity::info;
  std::uint64_t count = 1;
  std::string text;  // one sentence for people
};

struct RunInfo;  // engine/run_info.h: model, machine, memory; known before the first step

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_start(
      const RunInfo&) = 0;  // before everything else; again when something in it changed (memory peaks)
  virtual void on_event(const Event&) = 0;
  virtual void on_route(const RouteRecord&) = 0;
  virtual void on_epoch(const EpochRecord&) = 0;
  virtual void on_prompt(const PromptRecord&) = 0;
  virtual void on_mark(const MarkRecord&) = 0;
  virtual void on_health(const HealthNote&) = 0;
  virtual void on_piece(std::int32_t id,
                        std::string_view bytes) = 0;  // text of a token; once per id, before its first TokenRecord
  virtual void on_logits(const LogitsRecord&) = 0;
  virtual void on_quality(const QualityRecord&) = 0;
  // Around each launch or copy call (or several of one kind) of a real device, on the launching thread, never nested.
  virtual void on_launch_begin(const LaunchTag&) {}
  virtual void on_launch_end() {}
};

}  // namespace expertscope
