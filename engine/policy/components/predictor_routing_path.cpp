// ExpertFlow's routing-path predictor (reference: policies.md B2): before a token's first layer, from the text so far,
// which experts every layer will want. Its weights are learned (engine/learn/routing_path_training.h).
#include <algorithm>
#include <map>
#include <numeric>
#include <optional>

#include "engine/policy/components/all.h"
#include "engine/policy/components/candidates.h"
#include "engine/policy/routing_path.h"

namespace expertscope::components {
namespace {

class RoutingPathPredictor final : public Predictor {
 public:
  explicit RoutingPathPredictor(const Parameters& p) : width_(p.integer("width")) {}
  bool predicts_at_step_start() const override { return true; }

  std::string misses(const PolicyContext& ctx) const override {
    if (ctx.prior != nullptr && ctx.prior->has_routing_path()) return "";
    if (ctx.prior != nullptr)
      return "the prior has no routing-path predictor: experts are predicted by popularity and transitions; learn the "
             "prior with `expertscope learn`";
    return "no prior was given: the routing-path predictor predicts nothing; give --prior";
  }

  void sequence_begins(const PolicyContext&) override { texts_.clear(); }

  void step_begins(const PolicyContext& ctx, std::span<const TokenInput> tokens) override {
    expected_.assign(static_cast<std::size_t>(ctx.layers * ctx.experts), 0);
    ctx.state->forecast.clear();
    if (ctx.prior == nullptr) return;
    ctx.state->forecast.resize(expected_.size());
    if (!ctx.prior->has_routing_path()) return expect_popular(ctx, tokens.size());
    if (!network_) network_.emplace(ctx.prior->routing_path);
    for (const TokenInput& token : tokens) {
      RoutingPath::Text& text = texts_.try_emplace(token.sequence, network_->begin()).first->second;
      if (token.position == 0) text = network_->begin();
      network_->add(text, token.id);
      expect(ctx, network_->probabilities(text));
    }
  }

  std::vector<float> forecast(const PolicyContext&, const TokenInput& next) override {
    if (!network_) return {};
    const auto known = texts_.find(next.sequence);
    RoutingPath::Text text = known != texts_.end() ? known->second : network_->begin();
    network_->add(text, next.id);
    const std::span<const float> probabilities = network_->probabilities(text);
    return {probabilities.begin(), probabilities.end()};
  }

  void predict(const PolicyContext& ctx, const LayerRoutes& routes, int depth, std::vector<Candidate>& out) override {
    if (ctx.prior == nullptr) return;
    const bool learned = network_.has_value();
    for (int d = 1; d <= depth && ctx.layer + d < ctx.layers; ++d) {
      if (!learned && ctx.layer >= 0 && d <= kPriorTransitions && ctx.prior->has_transitions())
        expect_transitions(ctx, routes, d);
      add_candidates(ctx, d, out);
    }
  }

 private:
  std::size_t first_of(const PolicyContext& ctx, int layer) const {
    return static_cast<std::size_t>(layer) * static_cast<std::size_t>(ctx.experts);
  }

  // One token's word: forecasts take the token that wants an expert most, as ExpertFlow's demand does; candidates
  // collect the best of each token.
  void expect(const PolicyContext& ctx, std::span<const float> probabilities) {
    for (std::size_t i = 0; i < probabilities.size(); ++i)
      ctx.state->forecast[i] = std::max(ctx.state->forecast[i], probabilities[i]);
    const auto kept = std::min(ctx.experts, width_ > 0 ? width_ : ctx.top_k);
    order_.resize(static_cast<std::size_t>(ctx.experts));
    for (int l = 0; l < ctx.layers; ++l) {
      const std::size_t first = first_of(ctx, l);
      std::iota(order_.begin(), order_.end(), std::size_t{0});
      std::partial_sort(order_.begin(), order_.begin() + kept, order_.end(), [&](std::size_t a, std::size_t b) {
        const float pa = probabilities[first + a], pb = probabilities[first + b];
        return pa != pb ? pa > pb : a < b;
      });
      for (int i = 0; i < kept; ++i) {
        const std::size_t at = first + order_[static_cast<std::size_t>(i)];
        expected_[at] += probabilities[at];
      }
    }
  }

  void expect_popular(const PolicyContext& ctx, std::size_t tokens) {
    std::vector<float> probabilities;
    for (const std::vector<double>& layer : ctx.prior->popularity)
      for (double share : layer) probabilities.push_back(static_cast<float>(std::min(1.0, share * ctx.top_k)));
    for (std::size_t t = 0; t < tokens; ++t) expect(ctx, probabilities);
  }

  // From a token's picks in this layer to that so far ahead: the mean of what each of its picks leads to.
  void expect_transitions(const PolicyContext& ctx, const LayerRoutes& routes, int distance) {
    const std::size_t first = first_of(ctx, ctx.layer + distance);
    for (int e = 0; e < ctx.experts; ++e) {
      double sum = 0;
      for (const RouteRecord& r : routes.tokens)
        for (std::size_t k = 0; k < r.picks; ++k)
          sum += ctx.prior->transition(ctx.layer, r.expert[k], e, distance) / r.picks;
      expected_[first + static_cast<std::size_t>(e)] = static_cast<float>(sum);
    }
  }

  void add_candidates(const PolicyContext& ctx, int distance, std::vector<Candidate>& out) const {
    const int layer = ctx.layer + distance;
    const auto experts = static_cast<std::size_t>(ctx.experts);
    add_likeliest(std::span(expected_).subspan(first_of(ctx, layer), experts), layer, distance, experts, out);
  }

  int width_;
  std::optional<RoutingPath> network_;  // nothing without learned weights
  std::map<std::int32_t, RoutingPath::Text> texts_;
  std::vector<float> expected_;  // [layer * experts + expert]: summed over the step's tokens
  std::vector<std::size_t> order_;
};

}  // namespace

ComponentEntry predictor_routing_path() {
  return {.decl = {.kind = ComponentKind::predictor,
                   .name = "routing-path",
                   .help = "A small trained network forecasts every layer's experts from the text so far, before a "
                           "token's first layer; without its weights in the prior, popularity and transitions do.",
                   .parameters = {{.name = "width",
                                   .type = ParameterType::integer,
                                   .min = 0,
                                   .max = kMaxExperts,
                                   .default_value = 0,
                                   .unit = "experts",
                                   .help = "Candidates for each token and layer; 0 is the model's top-k.",
                                   .choices = {}}}},
          .make = [](const Parameters& p) { return std::make_unique<RoutingPathPredictor>(p); }};
}

}  // namespace expertscope::components
