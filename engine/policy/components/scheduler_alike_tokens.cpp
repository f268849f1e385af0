// ExpertFlow's token scheduler (reference: policies.md B2): of two batches of sequences, those whose next tokens are
// forecast to want the same experts share a step. Inside a layer, residents first.
#include <algorithm>
#include <map>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/regrouping.h"

namespace expertscope::components {
namespace {

class AlikeTokens final : public Scheduler {
 public:
  explicit AlikeTokens(const Parameters& p) : rounds_(p.integer("rounds")), by_forecast_(p.integer("signal") == 0) {}

  void order(const PolicyContext&, std::span<DemandView> demands) const override {
    std::ranges::stable_sort(demands, {}, &DemandView::state);
  }
  int batches() const override { return 2; }

  void sequence_begins(const PolicyContext&) override { last_routes_.clear(); }
  void step_begins(const PolicyContext&, std::span<const TokenInput> tokens) override {
    tokens_.assign(tokens.begin(), tokens.end());
  }
  void routed(const PolicyContext& ctx, const LayerRoutes& routes) override {
    const auto experts = static_cast<std::size_t>(ctx.experts);
    const std::size_t first = static_cast<std::size_t>(ctx.layer) * experts;
    for (std::size_t t = 0; t < routes.tokens.size(); ++t) {
      if (t + 1 < tokens_.size() && tokens_[t + 1].sequence == tokens_[t].sequence) continue;
      RouteBits& bits = last_routes_[tokens_[t].sequence];
      bits.resize((static_cast<std::size_t>(ctx.layers) * experts + 63) / 64, 0);
      for (std::size_t i = first; i < first + experts; ++i) bits[i / 64] &= ~(std::uint64_t{1} << i % 64);
      for (std::size_t k = 0; k < routes.tokens[t].picks; ++k) {
        const std::size_t i = first + routes.tokens[t].expert[k];
        bits[i / 64] |= std::uint64_t{1} << i % 64;
      }
    }
  }

  void regroup(const PolicyContext& ctx, std::span<const TokenInput> next,
               std::span<const std::vector<float>> forecasts, std::span<int> batch) override {
    std::vector<RouteBits> wanted;
    for (std::size_t i = 0; i < next.size(); ++i) {
      if (by_forecast_ && !forecasts[i].empty())
        wanted.push_back(likeliest_routes(forecasts[i], ctx.layers, ctx.experts, ctx.top_k));
      else
        wanted.push_back(last_routes_[next[i].sequence]);
      wanted.back().resize((static_cast<std::size_t>(ctx.layers * ctx.experts) + 63) / 64, 0);
    }
    std::ranges::copy(alike_batches(wanted, batch, rounds_), batch.begin());
  }

 private:
  int rounds_;
  bool by_forecast_;
  std::vector<TokenInput> tokens_;                 // of the step in work
  std::map<std::int32_t, RouteBits> last_routes_;  // by sequence: of its last token
};

}  // namespace

ComponentEntry scheduler_alike_tokens() {
  return {.decl = {.kind = ComponentKind::scheduler,
                   .name = "alike-tokens",
                   .help = "With --sequences, holds two batches and lets sequences share a step whose next tokens are "
                           "forecast to want the same experts; in a layer, what is resident runs first.",
                   .parameters = {whole("rounds", 0, 100, 10, "",
                                        "Rounds of clustering at most; 0 keeps the given order. The paper leaves it "
                                        "open."),
                                  choice("signal", {"forecast", "last_route"},
                                         "Tokens are alike by the predictor's word, or by what their sequence's last "
                                         "token took; the latter too where a predictor has none for a token.")}},
          .make = [](const Parameters& p) { return std::make_unique<AlikeTokens>(p); }};
}

}  // namespace expertscope::components
