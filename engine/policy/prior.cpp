#include "engine/policy/prior.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <utility>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/policy/prior_fields.h"

namespace expertscope {
namespace {

constexpr double kFull = 65535;  // of what is stored in 65535ths

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

}  // namespace

std::vector<bool> ExpertImportance::least(std::size_t count) const {
  std::vector<std::pair<double, std::size_t>> order;
  for (const std::vector<double>& layer : loss_rise) {
    for (double rise : layer) order.emplace_back(rise, order.size());
  }
  std::ranges::sort(order);
  std::vector<bool> out(order.size(), false);
  for (std::size_t i = 0; i < count; ++i) out[order[i].second] = true;
  return out;
}

std::size_t ExpertImportance::lowered(std::span<const double> rises, double tolerance) const {
  std::size_t all = 0;
  for (const std::vector<double>& layer : loss_rise) all += layer.size();
  std::size_t i = rises.size();
  while (i > 0 && rises[i - 1] > tolerance) --i;
  if (i == 0) return 0;
  if (i == rises.size()) return all;
  const double further = (tolerance - rises[i - 1]) / (rises[i] - rises[i - 1]);
  const double share = (static_cast<double>(i - 1) + further) / static_cast<double>(rises.size() - 1);
  return static_cast<std::size_t>(share * static_cast<double>(all));
}

double Prior::transition(int layer, int from, int to, int distance) const {
  ES_ASSERT(distance >= 1 && size(distance) <= transitions.size(), "a distance that was learned");
  ES_ASSERT(layer >= 0 && layer < layers - distance, "a layer with a layer so far behind it");
  const std::size_t row = size(layer) * size(experts) + size(from);
  return transitions[size(distance - 1)][row * size(experts) + size(to)] / kFull;
}

double Prior::lookahead(int layer, int distance) const {
  ES_ASSERT(distance >= 1 && size(distance) <= lookahead_recall.size(), "a distance that was learned");
  return lookahead_recall[size(distance - 1)][size(layer)];
}

double Prior::drop_threshold(int layer, double T) const {
  const double w = sensitivity[size(layer)];
  return w > 0 ? std::sqrt(T / w) : std::numeric_limits<double>::infinity();
}

std::vector<double> Prior::kept_shares(int layer, double threshold) const {
  const std::vector<std::vector<double>>& ranks = weight_quantiles[size(layer)];
  std::vector<double> shares(ranks.size() + 1);
  double at_least = 1;  // share of tokens that keep so many
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const double more = std::min(at_least, 1 - share_below(ranks[rank], threshold));
    shares[rank] = at_least - more;
    at_least = more;
  }
  shares.back() = at_least;
  return shares;
}

Prior load_prior(const std::filesystem::path& path, int layers, int experts) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw InputError(path.string() + ": cannot be read: check the path given to --prior");
  std::ostringstream text;
  text << in.rdbuf();
  return parse_prior(text.str(), path.string(), layers, experts);
}

Prior parse_prior(const std::string& json_text, const std::string& origin, int layers, int experts) {
  const nlohmann::json root = parse_json(json_text, origin);
  return PriorReader(root, origin, layers, experts).read();
}

}  // namespace expertscope
