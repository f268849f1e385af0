#include "storage/row_checks.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "storage/route_codec.h"

namespace expertscope {
namespace {

constexpr std::int64_t kMax32 = 0xffffffff, kMax16 = 0xffff;
constexpr TimeNs kLongestSessionNs = TimeNs{1} << 55;  // more than a year
constexpr std::int64_t kLargestBytes = std::int64_t{1} << 50;
constexpr std::int64_t kSumBound = std::int64_t{1} << 61;
constexpr std::int64_t kMaxDevices = 64;
constexpr std::int64_t kLastTaggedId = 2046;
constexpr std::size_t kLongestName = 4096, kLongestText = 64 << 20;

template <typename Record>
std::optional<Record> if_sound(const RowFields& fields, Record&& record) {
  if (!fields.sound()) return std::nullopt;
  return std::forward<Record>(record);
}

}  // namespace

std::uint16_t RowFields::or_none(std::int64_t largest) {
  if (row_.is_null(column_)) {
    ++column_;
    return kNone16;
  }
  return integer<std::uint16_t>(largest);
}

double RowFields::real() {
  const double value = row_.real(column_++);
  if (!std::isfinite(value)) sound_ = false;
  return value;
}

TimeNs RowFields::time() {
  return integer<TimeNs>(kLongestSessionNs);
}

std::string RowFields::text(std::size_t longest) {
  const std::string_view bytes = row_.bytes(column_++);
  if (bytes.size() > longest) sound_ = false;
  return std::string(bytes.substr(0, longest));
}

void RowChecks::set_shape(const RunInfo& info) {
  layers_ = info.layers;
  experts_ = info.experts;
  if (info.vocab > 0) vocab_ = info.vocab;
}

bool RowChecks::within_budget(std::int64_t& sum, std::int64_t more) {
  if (more > kSumBound - sum) return false;
  sum += more;
  return true;
}

std::optional<StepRecord> RowChecks::step(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  StepRecord s;
  s.step = f.integer<std::uint32_t>(last_step_ + 1, kMax32);
  s.phase = f.one_of<Phase>(2);
  s.prompt = f.integer<std::uint32_t>(kMax32);
  s.epoch = f.integer<std::uint32_t>(kMax32);
  s.start_ns = f.time();
  s.end_ns = f.time();
  s.first_position = f.integer<std::uint32_t>(kMax32);
  s.first_generated = f.integer<std::uint32_t>(kMax32);
  s.tokens = f.integer<std::uint16_t>(kMax16);
  s.sampled = f.integer<std::uint16_t>(kMax16);
  s.logits = f.integer<std::uint16_t>(kMax16);
  f.require(s.end_ns >= s.start_ns && s.start_ns >= last_step_start_ns_);
  f.require(f.sound() && within_budget(step_ns_, s.end_ns - s.start_ns));
  if (f.sound()) {
    last_step_ = s.step;
    last_step_start_ns_ = s.start_ns;
  }
  return if_sound(f, std::move(s));
}

std::optional<WorkRecord> RowChecks::work(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  WorkRecord w;
  w.start_ns = f.time();
  w.end_ns = f.time();
  w.step = f.integer<std::uint32_t>(kMax32);
  w.kind = f.one_of<WorkKind>(kWorkKinds);
  w.lane = f.one_of<Lane>(kLaneKinds);
  w.device = f.integer<std::uint8_t>(kMaxDevices - 1);
  w.layer = f.or_none(layers_ - 1);
  w.expert = f.or_none(experts_ - 1);
  w.tokens = f.integer<std::uint16_t>(kMax16);
  w.precision = f.one_of<Precision>(4);
  w.bytes = f.integer<std::int64_t>(kLargestBytes);
  w.flops = f.integer<std::int64_t>(kSumBound);
  f.require(w.end_ns >= w.start_ns);
  f.require(f.sound() && within_budget(work_ns_, w.end_ns - w.start_ns) && within_budget(work_bytes_, w.bytes));
  return if_sound(f, std::move(w));
}

std::optional<CopyRecord> RowChecks::copy(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  CopyRecord c;
  c.copy = f.integer<std::uint32_t>(kMax32);
  c.issued_ns = f.time();
  c.start_ns = f.time();
  c.end_ns = f.time();
  c.step = f.integer<std::uint32_t>(kMax32);
  c.reason = f.one_of<CopyReason>(kCopyReasons);
  c.lane = f.one_of<Lane>(kLaneKinds);
  c.device = f.integer<std::uint8_t>(kMaxDevices - 1);
  c.layer = f.or_none(layers_ - 1);
  c.expert = f.or_none(experts_ - 1);
  c.slot = f.or_none(kMax16);
  c.precision = f.one_of<Precision>(4);
  c.bytes = f.integer<std::int64_t>(kLargestBytes);
  c.last = f.flag();
  f.require(c.end_ns >= c.start_ns && c.start_ns >= c.issued_ns);
  f.require(!is_expert_copy(c.reason) || (c.layer != kNone16 && c.expert != kNone16));
  f.require(f.sound() && within_budget(copy_ns_, c.end_ns - c.start_ns) && within_budget(copy_bytes_, c.bytes));
  return if_sound(f, std::move(c));
}

std::optional<DemandRecord> RowChecks::demand(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  DemandRecord d;
  d.step = f.integer<std::uint32_t>(last_demand_step_, kMax32);
  d.layer = f.integer<std::uint16_t>(layers_ - 1);
  d.expert = f.integer<std::uint16_t>(experts_ - 1);
  d.asked_ns = f.time();
  d.ready_ns = f.time();
  d.picks = f.integer<std::uint16_t>(1, kMax16);
  d.rank = f.integer<std::uint16_t>(kMaxPicks - 1);
  d.weight = static_cast<float>(f.real());
  d.state = f.one_of<DemandState>(3);
  d.outcome = f.one_of<Outcome>(kOutcomes);
  d.precision = f.one_of<Precision>(4);
  d.device = f.integer<std::uint8_t>(kMaxDevices - 1);
  d.prefetched = f.flag();
  d.revised = f.flag();
  f.require(d.ready_ns >= d.asked_ns && std::isfinite(d.weight));
  f.require(f.sound() && within_budget(demand_ns_, d.ready_ns - d.asked_ns));
  if (f.sound()) last_demand_step_ = d.step;
  return if_sound(f, std::move(d));
}

std::optional<ResidencyRecord> RowChecks::residency(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  ResidencyRecord r;
  r.at_ns = f.time();
  r.step = f.integer<std::uint32_t>(kMax32);
  r.layer = f.integer<std::uint16_t>(layers_ - 1);
  r.expert = f.integer<std::uint16_t>(experts_ - 1);
  r.slot = f.integer<std::uint16_t>(kMax16);
  r.device = f.integer<std::uint8_t>(kMaxDevices - 1);
  r.change = f.one_of<ResidencyChange>(3);
  r.reason = f.one_of<CopyReason>(kCopyReasons);
  r.used = f.flag();
  return if_sound(f, std::move(r));
}

std::optional<TokenRecord> RowChecks::token(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  TokenRecord t;
  t.at_ns = f.time();
  t.step = f.integer<std::uint32_t>(kMax32);
  t.prompt = f.integer<std::uint32_t>(kMax32);
  t.index = f.integer<std::uint32_t>(kMax32);
  t.id = f.integer<std::int32_t>(vocab_ - 1);
  t.generated = f.flag();
  return if_sound(f, std::move(t));
}

std::optional<RouteRecord> RowChecks::route(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  RouteRecord r;
  r.step = f.integer<std::uint32_t>(kMax32);
  r.layer = f.integer<std::uint16_t>(layers_ - 1);
  r.token = f.integer<std::uint16_t>(kMax16);
  r.picks = f.integer<std::uint8_t>(1, std::min<std::int64_t>(kMaxPicks, experts_));
  r.gates = f.integer<std::uint8_t>(1 + kMaxLookahead);
  r.gate_entries = f.integer<std::uint8_t>(std::min<std::int64_t>(kGateEntries, experts_));
  f.require(f.sound() && decode_route(row.bytes(first + 6), r));
  if (!f.sound()) return std::nullopt;
  for (std::size_t i = 0; i < r.picks; ++i) {
    f.require(r.expert[i] < experts_ && std::isfinite(r.weight[i]));
    for (std::size_t j = 0; j < i; ++j) f.require(r.expert[i] != r.expert[j]);
  }
  for (std::size_t g = 0; g < r.gates; ++g) {
    for (std::size_t i = 0; i < r.gate_entries; ++i)
      f.require(r.gate[g][i].expert < experts_ || r.gate[g][i].expert == kNone16);
  }
  return if_sound(f, std::move(r));
}

std::optional<EpochRecord> RowChecks::epoch(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  EpochRecord e;
  e.epoch = f.integer<std::uint32_t>(last_epoch_ + 1, kMax32);
  e.step = f.integer<std::uint32_t>(kMax32);
  e.at_token = f.integer<std::uint32_t>(kMax32);
  e.at_ns = f.time();
  e.source = f.text(kLongestName);
  e.change = f.text(kLongestName);
  e.policy_spec = f.text(kLongestName);
  e.cache_ratio = f.real();
  e.cache_bytes = f.integer<std::int64_t>(kLargestBytes);
  e.slots = f.integer<std::uint32_t>(kMax32);
  e.cache_reset = f.flag();
  f.require(e.cache_ratio >= 0 && e.cache_ratio <= 1);
  if (f.sound()) last_epoch_ = e.epoch;
  return if_sound(f, std::move(e));
}

std::optional<PromptRecord> RowChecks::prompt(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  PromptRecord p;
  p.prompt = f.integer<std::uint32_t>(kMax32);
  p.first_step = f.integer<std::uint32_t>(kMax32);
  p.at_ns = f.time();
  p.workload = f.text(kLongestName);
  p.text = f.text(kLongestText);
  p.sequence = f.integer<std::uint32_t>(kMax16);
  return if_sound(f, std::move(p));
}

std::optional<MarkRecord> RowChecks::mark(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  MarkRecord m;
  m.at_ns = f.time();
  m.at_token = f.integer<std::uint32_t>(kMax32);
  m.text = f.text(kLongestName);
  return if_sound(f, std::move(m));
}

std::optional<HealthNote> RowChecks::health(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  HealthNote h;
  h.code = f.text(kLongestName);
  h.severity = f.one_of<Severity>(3);
  h.count = f.integer<std::uint64_t>(1, kLargestBytes);
  h.text = f.text(kLongestName);
  return if_sound(f, std::move(h));
}

std::optional<QualityRecord> RowChecks::quality(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  QualityRecord q;
  q.prompt = f.integer<std::uint32_t>(kMax32);
  q.nll_sum = f.real();
  q.tokens = f.integer<std::uint64_t>(kMax32);
  q.kl_sum = f.real();
  q.shadowed = f.integer<std::uint64_t>(kMax32);
  q.agreed = f.integer<std::uint64_t>(kMax32);
  // Rounding may take a divergence of nothing below 0.
  f.require(q.nll_sum >= 0 && std::isfinite(q.kl_sum) && q.kl_sum >= -1e-3 && q.agreed <= q.shadowed);
  return if_sound(f, std::move(q));
}

std::optional<GpuCopyRecord> RowChecks::gpu_copy(const sqlite::Statement& row, int first) {
  RowFields f(row, first);
  GpuCopyRecord c;
  c.start_ns = f.time();
  c.end_ns = f.time();
  c.device = f.integer<std::uint32_t>(kMaxDevices - 1);
  c.context = f.integer<std::uint32_t>(kMax32);
  c.stream = f.integer<std::uint32_t>(kMax32);
  c.correlation = f.or_zero<std::uint32_t>(kMax32);
  c.bytes = f.integer<std::int64_t>(kLargestBytes);
  c.copy_kind = f.integer<std::uint8_t>(kGpuCopyKinds - 1);
  c.source_kind = f.integer<std::uint8_t>(kGpuMemoryKinds - 1);
  c.target_kind = f.integer<std::uint8_t>(kGpuMemoryKinds - 1);
  c.source_device = f.integer<std::uint32_t>(kMaxDevices - 1);
  c.target_device = f.integer<std::uint32_t>(kMaxDevices - 1);
  c.graph_node = f.or_zero<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  c.copies = f.integer<std::uint64_t>(kMax32);
  if (!f.is_null()) {
    LaunchTag tag;
    tag.step = f.integer<std::uint32_t>(kMax32);
    tag.layer = f.or_none(kLastTaggedId);
    tag.expert = f.or_none(kLastTaggedId);
    tag.is_copy = f.is_null();  // of the two kinds of purpose one is there
    if (tag.is_copy) {
      f.skip();
      tag.reason = f.one_of<CopyReason>(kCopyReasons);
    } else {
      tag.kind = f.one_of<WorkKind>(kWorkKinds);
    }
    c.tag = pack(tag);
  }
  f.require(c.end_ns >= c.start_ns && f.sound() && within_budget(gpu_copy_bytes_, c.bytes));
  return if_sound(f, std::move(c));
}

}  // namespace expertscope
