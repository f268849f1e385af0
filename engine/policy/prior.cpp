#include "engine/policy/prior.h"

#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "engine/error.h"
#include "engine/json_fields.h"

namespace expertscope {

Prior load_prior(const std::filesystem::path& path, int layers, int experts) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw InputError(path.string() + ": cannot be read: check the path given to --prior");
  std::ostringstream text;
  text << in.rdbuf();
  return parse_prior(text.str(), path.string(), layers, experts);
}

Prior parse_prior(const std::string& json_text, const std::string& origin, int layers, int experts) {
  const nlohmann::json root = parse_json(json_text, origin);
  JsonFields f(root, origin);
  Prior prior;
  prior.source = f.text("source");
  const nlohmann::json& popularity = f.child("popularity");
  f.refuse_others();
  if (!popularity.is_array() || popularity.size() != static_cast<std::size_t>(layers)) {
    f.fail("popularity", fmt::format("must be a list of {} layers, as the model has", layers));
  }
  for (const nlohmann::json& layer : popularity) {
    if (!layer.is_array() || layer.size() != static_cast<std::size_t>(experts)) {
      f.fail("popularity", fmt::format("each layer must be a list of {} experts, as the model has", experts));
    }
    std::vector<double>& shares = prior.popularity.emplace_back();
    for (const nlohmann::json& share : layer) {
      if (!share.is_number() || !(share.get<double>() >= 0))
        f.fail("popularity", "shares must be numbers of at least 0");
      shares.push_back(share.get<double>());
    }
  }
  return prior;
}

std::string to_json(const Prior& prior) {
  return nlohmann::ordered_json{{"source", prior.source}, {"popularity", prior.popularity}}.dump();
}

}  // namespace expertscope
