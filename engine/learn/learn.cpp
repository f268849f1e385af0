#include "engine/learn/learn.h"

#include <algorithm>

#include <fmt/format.h>

#include "engine/error.h"
#include "engine/learn/counting.h"
#include "engine/learn/importance.h"
#include "engine/learn/sensitivity.h"

namespace expertscope {
namespace {

// Whole texts, evenly spread over the list, that hold about so many tokens; each cut to the context.
std::vector<std::vector<std::int32_t>> spread(std::span<const std::vector<std::int32_t>> prompts, std::int64_t tokens,
                                              int context) {
  std::int64_t all = 0;
  const auto length = [&](const std::vector<std::int32_t>& ids) {
    return std::min<std::int64_t>(static_cast<std::int64_t>(ids.size()), context);
  };
  for (const std::vector<std::int32_t>& ids : prompts) all += length(ids);
  const double share = all > tokens ? static_cast<double>(tokens) / static_cast<double>(all) : 1;
  const auto count = std::max<std::size_t>(1, static_cast<std::size_t>(share * static_cast<double>(prompts.size())));
  std::vector<std::vector<std::int32_t>> out;
  for (std::size_t i = 0; i < count; ++i) {
    const std::vector<std::int32_t>& ids = prompts[i * prompts.size() / count];
    out.emplace_back(ids.begin(), ids.begin() + length(ids));
  }
  return out;
}

void fill_adapmoe(const Sensitivities& measured, Prior& prior) {
  for (const LayerSensitivity& layer : measured.layers) {
    prior.loss_rise.push_back(layer.loss_rise);
    prior.sensitivity.push_back(layer.weight());
  }
  if (measured.layers.empty()) prior.weight_quantiles.clear();  // they are of no use without
}

}  // namespace

Learned learn(const Model& model, ThreadPool& pool, const std::string& source,
              std::span<const std::vector<std::int32_t>> prompts, const LearnRule& rule, const LearnStages& stages) {
  const int context = model.description().context;
  if (rule.recording.generate >= context)
    throw InputError(fmt::format("the model's context is {} tokens: fewer have to be generated than that", context));
  const auto stage = [&](const char* name) -> LearnProgress {
    return [&stages, name](std::int64_t done, std::int64_t all) { return !stages || stages(name, done, all); };
  };
  Learned out;
  Prior& prior = out.prior;
  prior.source = source;
  prior.model_name = model.description().name;
  prior.model_sha256 = model.file_sha256();
  const RecordedTexts texts = record_texts(model, pool, prompts, rule.recording, stage("texts"));
  out.cut_prompts = texts.cut_prompts;
  count_routes(texts, prior);
  Sensitivities measured;
  if (rule.sensitivity_tokens > 0)
    measured =
        measure_sensitivities(model, pool, spread(prompts, rule.sensitivity_tokens, context), stage("sensitivities"));
  out.loss = measured.loss;
  fill_adapmoe(measured, prior);
  if (rule.importance_tokens > 0)
    prior.importance =
        measure_importance(model, pool, spread(prompts, rule.importance_tokens, context), stage("importance"));
  prior.routing_path = train_routing_path(model, pool, texts, rule.routing_path, stage("predictor"));
  return out;
}

}  // namespace expertscope
