// Evictors of one line each (reference: policies.md A1).
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"
#include "engine/run/expert_cache.h"

namespace expertscope::components {
namespace {

class Fifo final : public ScoringEvictor<Fifo> {
 public:
  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    return static_cast<double>(ctx.use_of(id).load_number);
  }
};

class Lifo final : public ScoringEvictor<Lifo> {
 public:
  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    return -static_cast<double>(ctx.use_of(id).load_number);
  }
};

// A number from seed, layer in work and expert alone, so that a replay draws the same.
class Random final : public ScoringEvictor<Random> {
 public:
  explicit Random(const Parameters& p) : seed_(static_cast<std::uint64_t>(p.integer("seed"))) {}
  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    std::uint64_t x = (seed_ << 48U) ^ (ctx.tick << 20U) ^ ctx.index(id);
    for (const std::uint64_t factor : {0xbf58476d1ce4e5b9ULL, 0x94d049bb133111ebULL}) {
      x = (x ^ (x >> 30U)) * factor;
      x ^= x >> 27U;
    }
    return static_cast<double>(x >> 11U);
  }

 private:
  std::uint64_t seed_;
};

// Uses since the last load, divided by age. The clock of variant access ticks for each demand of the expert's pool.
class Lfru final : public ScoringEvictor<Lfru> {
 public:
  explicit Lfru(const Parameters& p) : by_step_(p.integer("clock") == 1) {}

  void routed(const PolicyContext& ctx, const LayerRoutes& routes) override {
    if (const bool global = ctx.cache->pools().global; last_.empty() || global != global_) {
      global_ = global;  // other pools, other clocks
      last_.assign(static_cast<std::size_t>(ctx.layers * ctx.experts), 0);
      clock_.assign(static_cast<std::size_t>(ctx.layers), 0);
    }
    for (const Demand& d : routes.demands) last_[ctx.index(d.expert)] = ++clock_[pool(ctx, d.expert)];
  }

  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    const ExpertUse& use = ctx.use_of(id);
    if (by_step_ || last_.empty()) return lfru_priority(use.uses_since_load, use.last_use_tick, ctx.tick);
    return lfru_priority(use.uses_since_load, last_[ctx.index(id)], clock_[pool(ctx, id)]);
  }

 private:
  static std::size_t pool(const PolicyContext& ctx, ExpertId id) { return ctx.cache->pools().global ? 0 : id.layer; }

  bool by_step_, global_ = false;
  std::vector<std::uint64_t> last_, clock_;
};

// SpecMD: first what its layer passed over in this forward pass, then the oldest.
class LeastStale final : public ScoringEvictor<LeastStale> {
 public:
  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    constexpr double kBand = 1e15;
    const ExpertUse& use = ctx.use_of(id);
    const bool passed = static_cast<int>(id.layer) <= ctx.layer;
    const std::uint64_t pass_began = ctx.tick - static_cast<std::uint64_t>(std::max(ctx.layer, 0));
    const bool stale = passed && use.last_use_tick < pass_began;
    return (stale ? 0 : kBand) + static_cast<double>(std::max(use.last_use_tick, use.loaded_tick));
  }
};

template <typename T>
ComponentEntry plain(std::string_view name, std::string_view help) {
  return {.decl = {.kind = ComponentKind::evictor, .name = name, .help = help, .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<T>(); }};
}

}  // namespace

ComponentEntry evictor_fifo() {
  return plain<Fifo>("fifo", "Evicts the expert that was loaded first.");
}

ComponentEntry evictor_lifo() {
  return plain<Lifo>("lifo", "Evicts the expert that was loaded last; for a fixed order of use.");
}

ComponentEntry evictor_least_stale() {
  return plain<LeastStale>("least-stale",
                           "Evicts first what its layer did not use in this pass, then the longest unused.");
}

ComponentEntry evictor_random() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "random",
                   .help = "Evicts any expert; what others must beat.",
                   .parameters = {whole("seed", 0, 65535, 1, "", "Other seeds evict others; equal seeds the same.")}},
          .make = [](const Parameters& p) { return std::make_unique<Random>(p); }};
}

ComponentEntry evictor_lfru() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "lfru",
                   .help = "Evicts the expert with the fewest uses since its load for its age since the last use.",
                   .parameters = {choice("clock", {"access", "step"},
                                         "Age in demands of the same pool, as the published rule, or in layers run.")}},
          .make = [](const Parameters& p) { return std::make_unique<Lfru>(p); }};
}

}  // namespace expertscope::components
