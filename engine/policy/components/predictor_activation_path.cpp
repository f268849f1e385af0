// EdgeMoE (reference: policies.md B6): the experts of the last two layers say what the next one will want. Up to top-2
// a table of whole paths is learned while the model runs; where it does not know a path, and for more experts a token,
// single transitions from each of the two layers are added up.
#include <algorithm>
#include <unordered_map>

#include "engine/policy/components/all.h"
#include "engine/policy/components/candidates.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class ActivationPath final : public Predictor {
 public:
  explicit ActivationPath(const Parameters& p)
      : width_(p.integer("width")), paths_up_to_(p.integer("paths_up_to")), most_(p.integer("most_paths")) {}

  std::string uninformed(const PolicyContext& ctx) const override {
    if (ctx.prior != nullptr && ctx.prior->has_transitions()) return "";
    return "no prior with transitions was given: paths are those of this session so far";
  }

  void routed(const PolicyContext& ctx, const LayerRoutes& routes) override {
    prepare(ctx);
    history_.resize(static_cast<std::size_t>(ctx.layers));
    std::vector<std::vector<std::uint16_t>>& here = history_[static_cast<std::size_t>(ctx.layer)];
    here.clear();
    for (const RouteRecord& r : routes.tokens) {
      here.emplace_back(r.expert.begin(), r.expert.begin() + r.picks);
      std::ranges::sort(here.back());
    }
    for (std::size_t t = 0; t < here.size(); ++t) learn(ctx, t);
  }

  void predict(const PolicyContext& ctx, const LayerRoutes&, int depth, std::vector<Candidate>& out) override {
    if (depth < 1 || ctx.layer + 1 >= ctx.layers) return;
    const int next = ctx.layer + 1;
    sum_.assign(static_cast<std::size_t>(ctx.experts), 0.0F);
    for (std::size_t t = 0; t < history_[static_cast<std::size_t>(ctx.layer)].size(); ++t) expect(ctx, next, t);
    add_likeliest(sum_, next, 1, static_cast<std::size_t>(width_ > 0 ? width_ : ctx.top_k), out);
  }

 private:
  struct Counts {
    std::uint32_t seen = 0;
    std::vector<std::pair<std::uint16_t, std::uint32_t>> of;  // expert, how often
  };

  // How often j was wanted `distance` layers after i, [distance - 1][layer][i][j], and how often i was.
  struct Pairs {
    std::vector<float> wanted, seen;
  };

  void prepare(const PolicyContext& ctx) {
    if (!pairs_[0].wanted.empty()) return;
    const auto experts = static_cast<std::size_t>(ctx.experts), rows = static_cast<std::size_t>(ctx.layers) * experts;
    for (int d = 1; d <= 2; ++d) {
      Pairs& p = pairs_[static_cast<std::size_t>(d - 1)];
      p.wanted.assign(rows * experts, 0.0F);
      p.seen.assign(rows, 0.0F);
      if (ctx.prior == nullptr || !ctx.prior->has_transitions()) continue;
      for (int l = 0; l + d < ctx.layers; ++l) {
        for (std::size_t i = 0; i < experts; ++i) {
          const std::size_t row = static_cast<std::size_t>(l) * experts + i;
          p.seen[row] = kPriorWeight;
          for (std::size_t j = 0; j < experts; ++j) {
            p.wanted[row * experts + j] = kPriorWeight * static_cast<float>(ctx.prior->transition(
                                                             l, static_cast<int>(i), static_cast<int>(j), d));
          }
        }
      }
    }
  }

  const std::vector<std::uint16_t>* picks(int layer, std::size_t token) const {
    if (layer < 0) return nullptr;
    const auto& tokens = history_[static_cast<std::size_t>(layer)];
    return token < tokens.size() ? &tokens[token] : nullptr;
  }

  bool whole_paths(const PolicyContext& ctx) const { return ctx.top_k <= paths_up_to_; }

  // Layer and the experts of the two layers before it, as one number; exact for up to two experts of up to 4095.
  static std::uint64_t key(int layer, const std::vector<std::uint16_t>& far, const std::vector<std::uint16_t>& near) {
    std::uint64_t k = static_cast<std::uint64_t>(layer);
    for (const auto* picks : {&far, &near}) {
      for (std::size_t i = 0; i < 2; ++i) k = (k << 12U) | (i < picks->size() ? (*picks)[i] + 1U : 0U);
    }
    return k;
  }

  void learn(const PolicyContext& ctx, std::size_t token) {
    const std::vector<std::uint16_t>& wanted = *picks(ctx.layer, token);
    const auto *near = picks(ctx.layer - 1, token), *far = picks(ctx.layer - 2, token);
    for (int d = 1; d <= 2; ++d) {
      const auto* from = d == 1 ? near : far;
      if (from != nullptr) learn_pairs(ctx, d, *from, wanted);
    }
    if (near == nullptr || far == nullptr || !whole_paths(ctx)) return;
    const std::uint64_t path = key(ctx.layer, *far, *near);
    if (paths_.size() >= static_cast<std::size_t>(most_) && !paths_.contains(path)) return;
    Counts& counts = paths_[path];
    ++counts.seen;
    for (const std::uint16_t e : wanted) {
      const auto it = std::ranges::find(counts.of, e, &std::pair<std::uint16_t, std::uint32_t>::first);
      if (it == counts.of.end()) {
        counts.of.emplace_back(e, 1U);
      } else {
        ++it->second;
      }
    }
  }

  void learn_pairs(const PolicyContext& ctx, int d, const std::vector<std::uint16_t>& from,
                   const std::vector<std::uint16_t>& wanted) {
    Pairs& p = pairs_[static_cast<std::size_t>(d - 1)];
    const auto experts = static_cast<std::size_t>(ctx.experts);
    for (const std::uint16_t i : from) {
      const std::size_t row = static_cast<std::size_t>(ctx.layer - d) * experts + i;
      p.seen[row] += 1;
      for (const std::uint16_t j : wanted) p.wanted[row * experts + j] += 1;
    }
  }

  void expect(const PolicyContext& ctx, int next, std::size_t token) {
    const auto *near = picks(next - 1, token), *far = picks(next - 2, token);
    if (near != nullptr && far != nullptr && whole_paths(ctx)) {
      if (const auto it = paths_.find(key(next, *far, *near)); it != paths_.end()) {
        for (const auto& [e, n] : it->second.of) sum_[e] += static_cast<float>(n) / static_cast<float>(it->second.seen);
        return;
      }
    }
    const auto experts = static_cast<std::size_t>(ctx.experts);
    for (int d = 1; d <= 2; ++d) {
      const auto* from = d == 1 ? near : far;
      if (from == nullptr) continue;
      const Pairs& p = pairs_[static_cast<std::size_t>(d - 1)];
      for (const std::uint16_t i : *from) {
        const std::size_t row = static_cast<std::size_t>(next - d) * experts + i;
        if (p.seen[row] <= 0) continue;
        const float share = 1 / p.seen[row];
        for (std::size_t j = 0; j < experts; ++j) sum_[j] += p.wanted[row * experts + j] * share;
      }
    }
  }

  static constexpr float kPriorWeight = 16;  // a prior counts as so many tokens of this session

  int width_, paths_up_to_, most_;
  std::vector<std::vector<std::vector<std::uint16_t>>> history_;  // [layer][token]: experts of the step, by number
  std::unordered_map<std::uint64_t, Counts> paths_;
  std::array<Pairs, 2> pairs_;
  std::vector<float> sum_;
};

}  // namespace

ComponentEntry predictor_activation_path() {
  return {.decl = {.kind = ComponentKind::predictor,
                   .name = "activation-path",
                   .help = "Expects what followed before on the experts of the last two layers.",
                   .parameters = {whole("width", 0, 256, 0, "experts",
                                        "Experts predicted for the next layer; 0 is the model's top-k."),
                                  whole("paths_up_to", 0, 2, 2, "experts",
                                        "Whole paths are learned for models of at most so many experts a token; "
                                        "others, and unknown paths, go by single transitions."),
                                  whole("most_paths", 1, 10000000, 200000, "paths", "Paths remembered at most.")}},
          .make = [](const Parameters& p) { return std::make_unique<ActivationPath>(p); }};
}

}  // namespace expertscope::components
