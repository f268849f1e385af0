// Equality of everything a trace holds, field by field, with a message that says which record differs.
#pragma once

#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "profiler/trace.h"

namespace expertscope::test {

inline auto fields(const StepRecord& s) {
  return std::tuple(s.start_ns, s.end_ns, s.step, s.prompt, s.epoch, s.first_position, s.first_generated, s.tokens,
                    s.sampled, s.logits, s.phase);
}
inline auto fields(const WorkRecord& w) {
  return std::tuple(w.start_ns, w.end_ns, w.bytes, w.flops, w.step, w.layer, w.expert, w.tokens, w.kind, w.lane,
                    w.device, w.precision);
}
inline auto fields(const CopyRecord& c) {
  return std::tuple(c.issued_ns, c.start_ns, c.end_ns, c.bytes, c.step, c.copy, c.layer, c.expert, c.slot, c.reason,
                    c.lane, c.device, c.precision, c.last);
}
inline auto fields(const DemandRecord& d) {
  return std::tuple(d.asked_ns, d.ready_ns, d.step, d.layer, d.expert, d.picks, d.rank, d.weight, d.state, d.outcome,
                    d.precision, d.device, d.prefetched, d.revised);
}
inline auto fields(const ResidencyRecord& r) {
  return std::tuple(r.at_ns, r.step, r.layer, r.expert, r.slot, r.change, r.reason, r.used, r.device);
}
inline auto fields(const TokenRecord& t) {
  return std::tuple(t.at_ns, t.step, t.prompt, t.index, t.id, t.generated);
}
inline auto fields(const EpochRecord& e) {
  return std::tuple(e.epoch, e.step, e.at_token, e.at_ns, e.source, e.change, e.policy_spec, e.cache_ratio,
                    e.cache_bytes, e.slots, e.cache_reset);
}
inline auto fields(const PromptRecord& p) {
  return std::tuple(p.prompt, p.first_step, p.at_ns, p.workload, p.text, p.sequence);
}
inline auto fields(const MarkRecord& m) {
  return std::tuple(m.at_ns, m.at_token, m.text);
}
inline auto fields(const LogitsRecord& l) {
  return std::tuple(l.prompt, l.best);
}
inline auto fields(const QualityRecord& q) {
  return std::tuple(q.prompt, q.nll_sum, q.tokens, q.kl_sum, q.shadowed, q.agreed);
}
inline auto fields(const GpuCopyRecord& c) {
  return std::tuple(c.start_ns, c.end_ns, c.tag, c.graph_node, c.device, c.context, c.stream, c.correlation, c.bytes,
                    c.copies, c.copy_kind, c.source_kind, c.target_kind, c.source_device, c.target_device);
}
inline auto fields(const RouteRecord& r) {
  return std::tuple(r.step, r.layer, r.token, r.picks, r.gates, r.gate_entries, r.expert, r.weight, r.gate);
}

template <typename Record>
void expect_equal(const std::vector<Record>& a, const std::vector<Record>& b, const char* what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(fields(a[i]) == fields(b[i])) << what << " number " << i;
}

inline void expect_equal(const Trace& a, const Trace& b) {
  EXPECT_EQ(a.started, b.started);
  EXPECT_EQ(a.ended, b.ended);
  EXPECT_EQ(a.info.model_name, b.info.model_name);
  EXPECT_EQ(a.info.h2d_bytes_per_s, b.info.h2d_bytes_per_s);
  expect_equal(a.steps, b.steps, "step");
  expect_equal(a.works, b.works, "work");
  expect_equal(a.copies, b.copies, "copy");
  expect_equal(a.demands, b.demands, "demand");
  expect_equal(a.residency, b.residency, "residency");
  expect_equal(a.tokens, b.tokens, "token");
  expect_equal(a.epochs, b.epochs, "epoch");
  expect_equal(a.prompts, b.prompts, "prompt");
  expect_equal(a.marks, b.marks, "mark");
  expect_equal(a.logits, b.logits, "logits");
  expect_equal(a.quality, b.quality, "quality");
  expect_equal(a.gpu_copies, b.gpu_copies, "copy as CUPTI saw it");
  EXPECT_EQ(a.gpu_totals, b.gpu_totals);
  EXPECT_EQ(a.pieces, b.pieces);
  EXPECT_EQ(a.wall, b.wall);
  ASSERT_EQ(a.health.size(), b.health.size());
  for (const auto& [code, note] : a.health) {
    ASSERT_TRUE(b.health.contains(code)) << code;
    EXPECT_EQ(note.count, b.health.at(code).count) << code;
  }
  EXPECT_EQ(a.end_ns(), b.end_ns());
}

}  // namespace expertscope::test
