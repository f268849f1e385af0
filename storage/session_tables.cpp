#include "storage/session_tables.h"

#include "storage/route_codec.h"
#include "storage/row_insert.h"
#include "storage/session_facts.h"

namespace expertscope {
SessionTables::SessionTables(sqlite::Database& db)
    : fact_(db, "INSERT OR REPLACE INTO session (key, value) VALUES (?,?)"),
      wall_(db, "INSERT OR REPLACE INTO wall (key, value) VALUES (?,?)"),
      headline_(
          db,
          "INSERT OR REPLACE INTO headline (id, prefill_tokens, prefill_ns, decode_tokens, decode_ns, decode_demands, "
          "decode_hits) VALUES (1,?,?,?,?,?,?)"),
      step_(
          db,
          insert_sql(
              "step",
              "step, phase, prompt, epoch, start_ns, end_ns, first_position, first_generated, tokens, sampled, logits",
              11)),
      work_(db, insert_sql("work",
                           "start_ns, end_ns, step, kind, lane, device, layer, expert, tokens, precision, bytes, flops",
                           12)),
      copy_(db,
            insert_sql("copy",
                       "copy, issued_ns, start_ns, end_ns, step, reason, lane, device, layer, expert, slot, precision, "
                       "bytes, last",
                       14)),
      demand_(
          db,
          insert_sql("demand",
                     "step, layer, expert, asked_ns, ready_ns, picks, rank, weight, state, outcome, precision, device, "
                     "prefetched, revised",
                     14)),
      residency_(db, insert_sql("residency", "at_ns, step, layer, expert, slot, device, change, reason, used", 9)),
      token_(db, insert_sql("token", "at_ns, step, prompt, position, token_id, generated", 6)),
      piece_(db, "INSERT OR REPLACE INTO piece (token_id, bytes) VALUES (?,?)"),
      route_(db, insert_sql("route", "step, layer, token, picks, gates, gate_entries, data", 7)),
      epoch_(db,
             insert_sql("epoch",
                        "epoch, step, at_token, at_ns, source, change, policy_spec, cache_ratio, cache_bytes, slots, "
                        "cache_reset",
                        11)),
      prompt_(db, insert_sql("prompt", "prompt, first_step, at_ns, workload, text, sequence", 6)),
      mark_(db, insert_sql("mark", "at_ns, at_token, text", 3)),
      health_(db, insert_sql("health", "code, severity, count, text", 4)),
      logit_(db, insert_sql("logit", "prompt, rank, token_id, logit", 4)),
      quality_(db, insert_sql("quality", "prompt, nll_sum, tokens, kl_sum, shadowed, agreed", 6)),
      gpu_(db) {}

void SessionTables::insert(const Batch& batch) {
  insert_start(batch);
  insert_rare(batch);
  insert_texts(batch);
  insert_lanes(batch);
  insert_experts(batch);
  gpu_.insert(batch.gpu);
  insert_steps(batch);
  update_headline(batch);
}

void SessionTables::insert_start(const Batch& batch) {
  if (batch.start) {
    for (const auto& [key, value] : facts_of(*batch.start)) insert_row(fact_, key, value);
    insert_row(fact_, kProducerKey, "ExpertScope " ES_VERSION);
  }
  if (batch.ended) insert_row(fact_, kEndStateKey, kEnded);
  for (const auto& [key, value] : batch.wall) insert_row(wall_, key, value);
}

void SessionTables::insert_steps(const Batch& batch) {
  for (const StepRecord& s : batch.steps) {
    insert_row(step_, s.step, s.phase, s.prompt, s.epoch, s.start_ns, s.end_ns, s.first_position, s.first_generated,
               s.tokens, s.sampled, s.logits);
  }
}

void SessionTables::insert_lanes(const Batch& batch) {
  for (const WorkRecord& w : batch.works) {
    insert_row(work_, w.start_ns, w.end_ns, w.step, w.kind, w.lane, w.device, MaybeNone{w.layer}, MaybeNone{w.expert},
               w.tokens, w.precision, w.bytes, w.flops);
  }
  for (const CopyRecord& c : batch.copies) {
    insert_row(copy_, c.copy, c.issued_ns, c.start_ns, c.end_ns, c.step, c.reason, c.lane, c.device, MaybeNone{c.layer},
               MaybeNone{c.expert}, MaybeNone{c.slot}, c.precision, c.bytes, c.last);
  }
}

void SessionTables::insert_experts(const Batch& batch) {
  for (const DemandRecord& d : batch.demands) {
    insert_row(demand_, d.step, d.layer, d.expert, d.asked_ns, d.ready_ns, d.picks, d.rank, d.weight, d.state,
               d.outcome, d.precision, d.device, d.prefetched, d.revised);
  }
  for (const ResidencyRecord& r : batch.residency) {
    insert_row(residency_, r.at_ns, r.step, r.layer, r.expert, r.slot, r.device, r.change, r.reason, r.used);
  }
  for (const RouteRecord& r : batch.routes) {
    encode_route(r, route_bytes_);
    insert_row(route_, r.step, r.layer, r.token, r.picks, r.gates, r.gate_entries, Blob{route_bytes_});
  }
}

void SessionTables::insert_texts(const Batch& batch) {
  for (const auto& [id, bytes] : batch.pieces) insert_row(piece_, id, Blob{bytes});
  for (const PromptRecord& p : batch.prompts)
    insert_row(prompt_, p.prompt, p.first_step, p.at_ns, p.workload, p.text, p.sequence);
  for (const TokenRecord& t : batch.tokens) insert_row(token_, t.at_ns, t.step, t.prompt, t.index, t.id, t.generated);
}

void SessionTables::insert_rare(const Batch& batch) {
  for (const EpochRecord& e : batch.epochs) {
    insert_row(epoch_, e.epoch, e.step, e.at_token, e.at_ns, e.source, e.change, e.policy_spec, e.cache_ratio,
               e.cache_bytes, e.slots, e.cache_reset);
  }
  for (const MarkRecord& m : batch.marks) insert_row(mark_, m.at_ns, m.at_token, m.text);
  for (const HealthNote& h : batch.health) insert_row(health_, h.code, h.severity, h.count, h.text);
  for (const LogitsRecord& l : batch.logits) {
    for (std::size_t rank = 0; rank < l.best.size(); ++rank) {
      insert_row(logit_, l.prompt, rank, l.best[rank].first, l.best[rank].second);
    }
  }
  for (const QualityRecord& q : batch.quality)
    insert_row(quality_, q.prompt, q.nll_sum, q.tokens, q.kl_sum, q.shadowed, q.agreed);
}

void SessionTables::update_headline(const Batch& batch) {
  for (const DemandRecord& d : batch.demands) {
    Demands& open = open_demands_[d.step];
    ++open.demands;
    open.hits += d.state == DemandState::hit ? 1 : 0;
  }
  for (const StepRecord& s : batch.steps) {
    const Demands demands = open_demands_[s.step];
    open_demands_.erase(s.step);
    const TimeNs duration = s.end_ns - s.start_ns;
    if (s.phase == Phase::prefill) {
      totals_.prefill_tokens += s.tokens;
      totals_.prefill_ns += duration;
    } else {
      totals_.decode_tokens += s.tokens;
      totals_.decode_ns += duration;
      totals_.decode.demands += demands.demands;
      totals_.decode.hits += demands.hits;
    }
  }
  insert_row(headline_, totals_.prefill_tokens, totals_.prefill_ns, totals_.decode_tokens, totals_.decode_ns,
             totals_.decode.demands, totals_.decode.hits);
}

}  // namespace expertscope
