// EdgeMoE: each expert has one bit-width, known beforehand. Those that matter least get the lower one, as many as the
// tolerated rise of the loss allows (reference: policies.md B6). Both pools are paid from one budget, by what all
// experts of each would take.
#include "engine/machine.h"
#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/prior.h"

namespace expertscope::components {
namespace {

class Importance final : public PrecisionChooser {
 public:
  explicit Importance(const Parameters& p)
      : by_tolerance_(p.integer("bounds") == 0), wide_(p.integer("bounds") == 2), tolerance_(p("tolerance")) {}
  bool exact() const override { return false; }
  Precision high(const PolicyContext& ctx) override {
    divide(ctx);
    return wide_ ? Precision::int8 : Precision::int4;
  }
  Precision low(const PolicyContext& ctx) override {
    divide(ctx);
    return wide_ ? Precision::int4 : Precision::int2;
  }

  double low_share(const PolicyContext& ctx) override {
    divide(ctx);
    const auto all = static_cast<double>(ctx.layers * ctx.experts), lowered = static_cast<double>(lowered_);
    const double low_bytes = lowered * static_cast<double>(ctx.machine->expert_bytes(low(ctx)));
    const double high_bytes = (all - lowered) * static_cast<double>(ctx.machine->expert_bytes(high(ctx)));
    return low_bytes / (low_bytes + high_bytes);
  }
  bool only_low(const PolicyContext& ctx, ExpertId id) override {
    divide(ctx);
    return lowered_ > 0 && is_low_[ctx.index(id)];
  }
  bool wants_low(const PolicyContext& ctx, const LayerRoutes&, const Demand& demand) override {
    return only_low(ctx, demand.expert);
  }
  std::string uninformed(const PolicyContext& ctx) const override {
    return knows(ctx) ? ""
                      : "no importance of experts is known, so that all have the higher bit-width: give a --prior that "
                        "`expertscope learn` measured it for";
  }

 private:
  static bool knows(const PolicyContext& ctx) { return ctx.prior != nullptr && ctx.prior->has_importance(); }

  void divide(const PolicyContext& ctx) {
    if (divided_) return;
    divided_ = true;
    if (!knows(ctx)) return;
    const ExpertImportance& known = ctx.prior->importance;
    if (by_tolerance_) wide_ = known.int4_int2.front() > tolerance_;
    lowered_ = known.lowered(wide_ ? known.int8_int4 : known.int4_int2, tolerance_);
    is_low_ = known.least(lowered_);
  }

  bool by_tolerance_, wide_;
  double tolerance_;
  bool divided_ = false;
  std::size_t lowered_ = 0;   // experts in the lower precision
  std::vector<bool> is_low_;  // [layer * experts + expert]
};

}  // namespace

ComponentEntry precision_importance() {
  return {
      .decl = {.kind = ComponentKind::precision,
               .name = "importance",
               .help = "One bit-width for each expert: the lower one for those that matter least to the loss "
                       "(inexact).",
               .parameters = {choice("bounds", {"by-tolerance", "int4-int2", "int8-int4"},
                                     "The two bit-widths: of the pairs that one whose losses the tolerance lies "
                                     "between, as in the paper (int4 and int2 where nothing is known), or this one."),
                              real("tolerance", 0, 1, 0.02, "",
                                   "By how much of itself the loss may rise; decides how many experts get the "
                                   "lower bit-width.")}},
      .make = [](const Parameters& p) { return std::make_unique<Importance>(p); }};
}

}  // namespace expertscope::components
