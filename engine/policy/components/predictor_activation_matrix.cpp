// MoE-Infinity (reference: policies.md B8): past sequences' activation matrices (tokens by layer and expert); the one
// most like the current pass, by cosine, says what coming layers will want.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/policy/components/all.h"
#include "engine/policy/components/candidates.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

// The matrices of one phase, and how alike each is to the pass in work.
class Collection {
 public:
  struct Entry {
    std::vector<float> cells;  // [layer * experts + expert]
    double norm = 0;
    double dot = 0;  // with the pass so far
    std::uint64_t number = 0;
  };

  bool empty() const { return entries_.empty(); }
  const std::vector<Entry>& entries() const { return entries_; }

  // A full collection overwrites the entry most like the new one.
  void add(std::vector<float> cells, std::size_t capacity) {
    Entry e{.cells = std::move(cells)};
    e.norm = std::sqrt(std::inner_product(e.cells.begin(), e.cells.end(), e.cells.begin(), 0.0));
    e.number = ++count_;
    if (e.norm == 0) return;
    if (entries_.size() < capacity) {
      entries_.push_back(std::move(e));
      return;
    }
    const auto likeness = [&](const Entry& other) {
      return std::inner_product(e.cells.begin(), e.cells.end(), other.cells.begin(), 0.0) / other.norm;
    };
    *std::ranges::max_element(entries_, {}, likeness) = std::move(e);
  }
  void begin_pass() {
    for (Entry& e : entries_) e.dot = 0;
  }
  void see(std::size_t cell, double tokens) {
    for (Entry& e : entries_) e.dot += tokens * static_cast<double>(e.cells[cell]);
  }
  // The entries nearest to the pass so far; its own norm is the same for all. Ties: the newest.
  void nearest(std::size_t matches, std::vector<std::size_t>& out) const {
    out.resize(entries_.size());
    std::iota(out.begin(), out.end(), std::size_t{0});
    const auto kept = std::min(matches, out.size());
    std::partial_sort(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(kept), out.end(),
                      [&](std::size_t a, std::size_t b) {
                        const Entry &x = entries_[a], &y = entries_[b];
                        const double left = x.dot / x.norm, right = y.dot / y.norm;
                        return left != right ? left > right : x.number > y.number;
                      });
    out.resize(kept);
    std::ranges::sort(out);
  }

 private:
  std::vector<Entry> entries_;
  std::uint64_t count_ = 0;
};

class ActivationPredictor final : public Predictor {
 public:
  explicit ActivationPredictor(const Parameters& p)
      : matches_(static_cast<std::size_t>(p.integer("matches"))),
        capacity_(static_cast<std::size_t>(p.integer("capacity"))),
        width_(p.integer("width")) {}

  std::string uninformed(const PolicyContext& ctx) const override {
    if (ctx.prior != nullptr && !ctx.prior->activations.empty()) return "";
    return "no prior with activation matrices was given: the first prompt's own matrix so far stands for past ones";
  }

  void sequence_begins(const PolicyContext& ctx) override {
    prepare(ctx);
    for (std::size_t phase = 0; phase < 2; ++phase) {
      known_[phase].add(sequence_[phase], capacity_);
      std::ranges::fill(sequence_[phase], 0.0F);
    }
  }

  void step_begins(const PolicyContext& ctx, std::span<const TokenInput>) override {
    prepare(ctx);
    collection(ctx).begin_pass();
    matched_.clear();
    if (collection(ctx).empty()) expect_more_of_the_same(ctx);
  }

  void routed(const PolicyContext& ctx, const LayerRoutes& routes) override {
    prepare(ctx);
    Collection& known = collection(ctx);
    for (const Demand& d : routes.demands) {
      const auto tokens = static_cast<double>(d.rows.size());
      sequence_[of(ctx)][ctx.index(d.expert)] += static_cast<float>(tokens);
      known.see(ctx.index(d.expert), tokens);
    }
    if (known.empty()) return;
    known.nearest(matches_, nearest_);
    if (nearest_ != matched_) write_forecast(ctx, known);
    matched_ = nearest_;
  }

  void predict(const PolicyContext& ctx, const LayerRoutes&, int depth, std::vector<Candidate>& out) override {
    const std::vector<float>& forecast = ctx.state->forecast;
    if (forecast.empty()) return;
    const auto experts = static_cast<std::size_t>(ctx.experts);
    const auto most = static_cast<std::size_t>(width_ > 0 ? width_ : ctx.top_k);
    for (int d = 1; d <= depth && ctx.layer + d < ctx.layers; ++d) {
      const int layer = ctx.layer + d;
      add_likeliest(std::span(forecast).subspan(static_cast<std::size_t>(layer) * experts, experts), layer, d, most,
                    out, static_cast<float>(activation_proximity(d, ctx.layers)));
    }
  }

 private:
  // Prompts and generated tokens are traced apart.
  static std::size_t of(const PolicyContext& ctx) { return ctx.phase == Phase::decode ? 1 : 0; }
  Collection& collection(const PolicyContext& ctx) { return known_[of(ctx)]; }

  void prepare(const PolicyContext& ctx) {
    if (!sequence_[0].empty()) return;
    const auto cells = static_cast<std::size_t>(ctx.layers * ctx.experts);
    sequence_[0].assign(cells, 0.0F);
    sequence_[1].assign(cells, 0.0F);
    if (ctx.prior == nullptr) return;
    for (const ActivationMatrix& m : ctx.prior->activations) {
      known_[0].add({m.prefill.begin(), m.prefill.end()}, capacity_);
      known_[1].add({m.decode.begin(), m.decode.end()}, capacity_);
    }
  }

  void write_forecast(const PolicyContext& ctx, const Collection& known) {
    std::vector<float>& forecast = ctx.state->forecast;
    forecast.assign(sequence_[0].size(), 0.0F);
    for (const std::size_t i : nearest_) add_to(forecast, known.entries()[i].cells);
    normalise(ctx);
  }

  // Nothing to compare with yet: what this sequence has wanted so far, in any phase.
  void expect_more_of_the_same(const PolicyContext& ctx) {
    std::vector<float>& forecast = ctx.state->forecast;
    forecast = sequence_[0];
    add_to(forecast, sequence_[1]);
    normalise(ctx);
  }

  static void add_to(std::vector<float>& sum, const std::vector<float>& cells) {
    for (std::size_t c = 0; c < cells.size(); ++c) sum[c] += cells[c];
  }

  // Every layer's row becomes how probably a token wants each expert.
  static void normalise(const PolicyContext& ctx) {
    std::vector<float>& forecast = ctx.state->forecast;
    const auto experts = static_cast<std::size_t>(ctx.experts);
    for (std::size_t row = 0; row < forecast.size(); row += experts) {
      const float sum = std::accumulate(forecast.begin() + static_cast<std::ptrdiff_t>(row),
                                        forecast.begin() + static_cast<std::ptrdiff_t>(row + experts), 0.0F);
      if (sum <= 0) continue;
      for (std::size_t e = row; e < row + experts; ++e) forecast[e] *= static_cast<float>(ctx.top_k) / sum;
    }
  }

  std::size_t matches_, capacity_;
  int width_;
  std::array<Collection, 2> known_;             // by phase
  std::array<std::vector<float>, 2> sequence_;  // the current sequence's matrix, by phase
  std::vector<std::size_t> nearest_, matched_;
};

}  // namespace

ComponentEntry predictor_activation_matrix() {
  return {.decl = {.kind = ComponentKind::predictor,
                   .name = "activation-matrix",
                   .help = "Finds past sequences whose activation matrix is most like this pass and expects the same.",
                   .parameters = {whole("matches", 1, 32, 1, "matrices", "So many nearest matrices are added up."),
                                  whole("capacity", 1, 1024, 120, "matrices",
                                        "Matrices kept for each phase; a full collection overwrites the most similar."),
                                  whole("width", 0, 256, 0, "experts",
                                        "Experts predicted for a coming layer; 0 is the model's top-k. The paper "
                                        "leaves it open.")}},
          .make = [](const Parameters& p) { return std::make_unique<ActivationPredictor>(p); }};
}

}  // namespace expertscope::components
