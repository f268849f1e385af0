#include "engine/learn/importance.h"

#include "engine/learn/text_loss.h"
#include "engine/model/expert_versions.h"

namespace expertscope {
namespace {

// Relative rise over the native model's loss, with shares of the least important experts in `low`, the others in
// `high`.
std::vector<double> rises_by_share(TextLoss& loss, double native, const ExpertImportance& importance, int layers,
                                   int experts, const ExpertVersions& high, const ExpertVersions& low) {
  std::vector<double> rises;
  for (int i = 0; i <= kImportanceShares; ++i) {
    const std::vector<bool> is_low =
        importance.least(static_cast<std::size_t>(layers * experts * i / kImportanceShares));
    loss.pass().set_versions(
        [&](ExpertId id) { return is_low[static_cast<std::size_t>(id.layer * experts + id.expert)] ? &low : &high; });
    rises.push_back(loss.measure() / native - 1);
  }
  return rises;
}

}  // namespace

ExpertImportance measure_importance(const Model& model, ThreadPool& pool,
                                    std::span<const std::vector<std::int32_t>> texts, const LearnProgress& progress) {
  const int layers = model.description().layers, experts = model.description().router.experts;
  TextLoss loss(model, pool, texts, 2 + std::int64_t{layers} * experts + 2 * (kImportanceShares + 1), progress);
  if (loss.predicted() == 0) return {};
  const ExpertVersions int8(model, Precision::int8), int4(model, Precision::int4), int2(model, Precision::int2);
  const double native = loss.measure();
  ExpertImportance out;
  loss.pass().set_versions([&](ExpertId) { return &int4; });
  const double all_int4 = loss.measure();
  for (int l = 0; l < layers; ++l) {
    std::vector<double>& of_layer = out.loss_rise.emplace_back();
    for (int e = 0; e < experts; ++e) {
      loss.pass().set_versions([&](ExpertId id) { return id.layer == l && id.expert == e ? &int2 : &int4; });
      of_layer.push_back(loss.measure() - all_int4);
    }
  }
  out.int4_int2 = rises_by_share(loss, native, out, layers, experts, int4, int2);
  out.int8_int4 = rises_by_share(loss, native, out, layers, experts, int8, int4);
  return out;
}

}  // namespace expertscope
