#include "engine/policy/prior_fields.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <fmt/format.h>

#include "engine/base64.h"
#include "engine/model/model_description.h"

namespace expertscope {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr double kLargest = 1e9;
constexpr int kMostTexts = 100000, kMostVocabulary = 4 << 20, kMostWidth = 4096, kMostRecent = 64, kMostMeans = 8;

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

std::string pack_words(std::span<const std::uint16_t> words) {
  std::vector<std::uint8_t> bytes;
  bytes.reserve(words.size() * 2);
  for (std::uint16_t w : words) {
    bytes.push_back(static_cast<std::uint8_t>(w & 255));
    bytes.push_back(static_cast<std::uint8_t>(w >> 8));
  }
  return to_base64(bytes);
}

std::string pack_floats(std::span<const float> floats) {
  std::vector<std::uint16_t> halves;
  halves.reserve(floats.size() * 2);
  for (float f : floats) {
    const auto bits = std::bit_cast<std::uint32_t>(f);
    halves.push_back(static_cast<std::uint16_t>(bits & 65535));
    halves.push_back(static_cast<std::uint16_t>(bits >> 16));
  }
  return pack_words(halves);
}

ordered_json pack(const ByteMatrix& m) {
  std::vector<std::uint8_t> bytes(m.q.size());
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(m.q[i]);
  return {{"rows", m.rows}, {"columns", m.columns}, {"scale", pack_floats(m.scale)}, {"int8", to_base64(bytes)}};
}

ordered_json pack(const RoutingPathWeights& w) {
  return {{"recent", w.recent},
          {"decays", w.decays},
          {"embedding", pack(w.embedding)},
          {"input", pack(w.input)},
          {"input_bias", pack_floats(w.input_bias)},
          {"output", pack(w.output)},
          {"output_bias", pack_floats(w.output_bias)}};
}

ordered_json pack(const std::vector<ActivationMatrix>& activations) {
  std::vector<std::uint16_t> prefill, decode;
  for (const ActivationMatrix& m : activations) {
    prefill.insert(prefill.end(), m.prefill.begin(), m.prefill.end());
    decode.insert(decode.end(), m.decode.begin(), m.decode.end());
  }
  return {{"texts", activations.size()}, {"prefill", pack_words(prefill)}, {"decode", pack_words(decode)}};
}

}  // namespace

double share_below(std::span<const double> quantiles, double value) {
  if (value <= quantiles.front()) return 0;
  if (value > quantiles.back()) return 1;
  const auto upper = std::lower_bound(quantiles.begin(), quantiles.end(), value);  // the first not below
  const auto i = static_cast<double>(upper - quantiles.begin());
  const double high = *upper, low = *(upper - 1);
  return (i - (high - value) / (high - low)) / static_cast<double>(quantiles.size() - 1);
}

// --- writing

std::string to_json(const Prior& prior) {
  ordered_json root{{"source", prior.source}};
  if (!prior.model_name.empty() || !prior.model_sha256.empty())
    root["model"] = {{"name", prior.model_name}, {"sha256", prior.model_sha256}};
  if (prior.prefill_tokens + prior.decode_tokens > 0)
    root["tokens"] = {{"prefill", prior.prefill_tokens}, {"decode", prior.decode_tokens}};
  root["popularity"] = prior.popularity;
  if (!prior.popularity_prefill.empty()) root["popularity_prefill"] = prior.popularity_prefill;
  if (!prior.popularity_decode.empty()) root["popularity_decode"] = prior.popularity_decode;
  if (prior.has_transitions()) {
    ordered_json& list = root["transitions"] = ordered_json::array();
    for (const std::vector<std::uint16_t>& of_distance : prior.transitions) list.push_back(pack_words(of_distance));
  }
  if (!prior.activations.empty()) root["activations"] = pack(prior.activations);
  if (prior.has_lookahead_recall()) root["lookahead_recall"] = prior.lookahead_recall;
  if (prior.has_sensitivity()) {
    root["adapmoe"] = {{"loss_rise", prior.loss_rise},
                       {"sensitivity", prior.sensitivity},
                       {"weight_quantiles", prior.weight_quantiles}};
  }
  if (prior.has_importance()) {
    root["edgemoe"] = {{"loss_rise", prior.importance.loss_rise},
                       {"int8_int4", prior.importance.int8_int4},
                       {"int4_int2", prior.importance.int4_int2}};
  }
  if (prior.has_routing_path()) root["routing_path"] = pack(prior.routing_path);
  return root.dump(-1, ' ', false, json::error_handler_t::replace);
}

// --- reading

Prior PriorReader::read() {
  prior_.layers = layers_;
  prior_.experts = experts_;
  prior_.source = fields_.text("source");
  if (fields_.has("model")) model();
  if (fields_.has("tokens")) tokens();
  for (const auto& [key, shares] :
       {std::pair{"popularity", &prior_.popularity}, std::pair{"popularity_prefill", &prior_.popularity_prefill},
        std::pair{"popularity_decode", &prior_.popularity_decode}}) {
    if (shares == &prior_.popularity || fields_.has(key))
      *shares = table(fields_, key, size(layers_), size(experts_), kLargest);
  }
  if (fields_.has("transitions")) transitions();
  if (fields_.has("activations")) activations();
  if (fields_.has("lookahead_recall"))
    prior_.lookahead_recall = table(fields_, "lookahead_recall", kPriorLookahead, size(layers_), 1);
  if (fields_.has("adapmoe")) adapmoe();
  if (fields_.has("edgemoe")) edgemoe();
  if (fields_.has("routing_path")) routing_path();
  fields_.refuse_others();
  return std::move(prior_);
}

void PriorReader::model() {
  JsonFields f = fields_.object("model");
  prior_.model_name = f.text("name");
  prior_.model_sha256 = f.text("sha256");
  f.refuse_others();
}

void PriorReader::tokens() {
  JsonFields f = fields_.object("tokens");
  prior_.prefill_tokens = f.integer("prefill", 0, std::int64_t{1} << 52);
  prior_.decode_tokens = f.integer("decode", 0, std::int64_t{1} << 52);
  f.refuse_others();
}

void PriorReader::transitions() {
  const json& list = fields_.child("transitions");
  if (!list.is_array() || list.size() != kPriorTransitions)
    fields_.fail("transitions", fmt::format("must be a list of {} tables", kPriorTransitions));
  json object = json::object();
  for (int d = 1; d <= kPriorTransitions; ++d) object[std::to_string(d)] = list[size(d - 1)];
  JsonFields f(object, fields_.where() + ".transitions");
  for (int d = 1; d <= kPriorTransitions; ++d)
    prior_.transitions.push_back(
        words(f, std::to_string(d), size(std::max(0, layers_ - d)) * size(experts_) * size(experts_)));
}

void PriorReader::activations() {
  JsonFields f = fields_.object("activations");
  const std::size_t texts = size(f.integer("texts", 1, kMostTexts)), of_text = size(layers_) * size(experts_);
  const std::vector<std::uint16_t> prefill = words(f, "prefill", texts * of_text);
  const std::vector<std::uint16_t> decode = words(f, "decode", texts * of_text);
  f.refuse_others();
  for (std::size_t t = 0; t < texts; ++t) {
    const auto part = [&](const std::vector<std::uint16_t>& all) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(t * of_text);
      return std::vector<std::uint16_t>(begin, begin + static_cast<std::ptrdiff_t>(of_text));
    };
    prior_.activations.push_back({.prefill = part(prefill), .decode = part(decode)});
  }
}

void PriorReader::adapmoe() {
  JsonFields f = fields_.object("adapmoe");
  prior_.loss_rise = numbers(f, "loss_rise", size(layers_), -kLargest, kLargest);
  prior_.sensitivity = numbers(f, "sensitivity", size(layers_), 0, kLargest);
  const json& quantiles = f.child("weight_quantiles");
  f.refuse_others();
  const auto refuse = [&] {
    f.fail("weight_quantiles",
           fmt::format("must be {} layers of the same 1 to {} ranks of rising numbers from 0 to 1, at least 2 each",
                       layers_, kMaxTopK - 1));
  };
  if (!quantiles.is_array() || quantiles.size() != size(layers_)) refuse();
  for (const json& layer : quantiles) {
    if (!layer.is_array() || layer.empty() || layer.size() > kMaxTopK - 1 || layer.size() != quantiles[0].size())
      refuse();
    std::vector<std::vector<double>>& ranks = prior_.weight_quantiles.emplace_back();
    for (const json& rank : layer) {
      if (!rank.is_array() || rank.size() < 2) refuse();
      double last = 0;
      for (const json& value : rank) {
        if (!value.is_number() || !(value.get<double>() >= last) || value.get<double>() > 1) refuse();
        last = value.get<double>();
      }
      ranks.push_back(rank.get<std::vector<double>>());
    }
  }
}

void PriorReader::edgemoe() {
  JsonFields f = fields_.object("edgemoe");
  ExpertImportance& importance = prior_.importance;
  importance.loss_rise = table(f, "loss_rise", size(layers_), size(experts_), kLargest, -kLargest);
  for (const auto& [key, rises] :
       {std::pair{"int8_int4", &importance.int8_int4}, std::pair{"int4_int2", &importance.int4_int2}})
    *rises = numbers(f, key, kImportanceShares + 1, -kLargest, kLargest);
  f.refuse_others();
}

void PriorReader::routing_path() {
  JsonFields f = fields_.object("routing_path");
  RoutingPathWeights& w = prior_.routing_path;
  w.recent = static_cast<int>(f.integer("recent", 1, kMostRecent));
  const json& decays = f.child("decays");
  if (!decays.is_array() || decays.size() > kMostMeans) f.fail("decays", "must be a list of at most 8 numbers");
  w.decays = numbers(f, "decays", decays.size(), 0, 1);
  w.embedding = matrix(f, "embedding", 0, 0);
  const auto inputs = static_cast<int>((size(w.recent) + w.decays.size()) * size(w.embedding.columns));
  w.input = matrix(f, "input", inputs, 0);
  w.input_bias = floats(f, "input_bias", size(w.input.columns));
  w.output = matrix(f, "output", w.input.columns, layers_ * experts_);
  w.output_bias = floats(f, "output_bias", size(w.output.columns));
  f.refuse_others();
}

std::vector<double> PriorReader::numbers(JsonFields& f, const std::string& key, std::size_t count, double min,
                                         double max) {
  const json& list = f.child(key);
  bool good = list.is_array() && list.size() == count;
  for (std::size_t i = 0; good && i < count; ++i)
    good = list[i].is_number() && list[i].get<double>() >= min && list[i].get<double>() <= max;
  if (!good) f.fail(key, fmt::format("must be a list of {} numbers from {} to {}", count, min, max));
  return list.get<std::vector<double>>();
}

PriorReader::Table PriorReader::table(JsonFields& f, const std::string& key, std::size_t rows, std::size_t columns,
                                      double max, double min) {
  const json& list = f.child(key);
  bool good = list.is_array() && list.size() == rows;
  for (std::size_t row = 0; good && row < rows; ++row) {
    good = list[row].is_array() && list[row].size() == columns;
    for (std::size_t i = 0; good && i < columns; ++i)
      good = list[row][i].is_number() && list[row][i].get<double>() >= min && list[row][i].get<double>() <= max;
  }
  if (!good)
    f.fail(key, fmt::format("must be {} lists of {} numbers from {} to {}, as the model has {} layers of {} experts",
                            rows, columns, min, max, layers_, experts_));
  return list.get<Table>();
}

std::vector<std::uint8_t> PriorReader::bytes(JsonFields& f, const std::string& key, std::size_t count) {
  const json& text = f.child(key);
  std::optional<std::vector<std::uint8_t>> bytes;
  if (text.is_string()) bytes = from_base64(text.get_ref<const std::string&>());
  if (!bytes || bytes->size() != count) f.fail(key, fmt::format("must be base64 of {} bytes for this model", count));
  return std::move(*bytes);
}

std::vector<std::uint16_t> PriorReader::words(JsonFields& f, const std::string& key, std::size_t count) {
  const std::vector<std::uint8_t> raw = bytes(f, key, 2 * count);
  std::vector<std::uint16_t> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::uint16_t>(raw[2 * i] | raw[2 * i + 1] << 8);
  return out;
}

std::vector<float> PriorReader::floats(JsonFields& f, const std::string& key, std::size_t count) {
  const std::vector<std::uint16_t> halves = words(f, key, 2 * count);
  std::vector<float> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = std::bit_cast<float>(halves[2 * i] | static_cast<std::uint32_t>(halves[2 * i + 1]) << 16);
    if (!std::isfinite(out[i])) f.fail(key, "holds a number that is not finite");
  }
  return out;
}

// `rows` or `columns` 0: as the file says.
ByteMatrix PriorReader::matrix(JsonFields& f, const std::string& key, int rows, int columns) {
  JsonFields m = f.object(key);
  ByteMatrix out;
  out.rows = static_cast<int>(m.integer("rows", rows > 0 ? rows : 1, rows > 0 ? rows : kMostVocabulary));
  out.columns = static_cast<int>(m.integer("columns", columns > 0 ? columns : 1, columns > 0 ? columns : kMostWidth));
  out.scale = floats(m, "scale", size(out.columns));
  const std::vector<std::uint8_t> raw = bytes(m, "int8", size(out.rows) * size(out.columns));
  out.q.resize(raw.size());
  for (std::size_t i = 0; i < raw.size(); ++i) out.q[i] = static_cast<std::int8_t>(raw[i]);
  m.refuse_others();
  return out;
}

}  // namespace expertscope
