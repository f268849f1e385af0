#include "engine/model/info.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "engine/model/gguf_reader.h"
#include "engine/model/model_description.h"
#include "engine/model/text_escape.h"
#include "engine/model/tokenizer.h"

namespace expertscope {

namespace {

using nlohmann::json;

std::int64_t all_experts_bytes(const ModelDescription& d) {
  std::int64_t bytes = 0;
  for (const ExpertBlobLayout& layout : d.expert_blob) bytes += d.router.experts * layout.bytes;
  return bytes;
}

json tensors_by_type(const GgufReader& file) {
  struct Sum {
    std::int64_t count = 0, bytes = 0;
  };
  std::map<TensorType, Sum> sums;
  for (const GgufTensor& tensor : file.tensors()) {
    ++sums[tensor.type].count;
    sums[tensor.type].bytes += tensor.bytes;
  }
  json out = json::array();
  for (const auto& [type, sum] : sums)
    out.push_back({{"type", name(type)}, {"tensors", sum.count}, {"bytes", sum.bytes}});
  return out;
}

json files_info(const GgufReader& reader) {
  json out = json::array();
  for (const auto& file : reader.files())
    out.push_back({{"path", escaped(file->path().string())}, {"bytes", file->bytes()}, {"tensors", 0}});
  for (const GgufTensor& tensor : reader.tensors()) {
    json& count = out[static_cast<std::size_t>(tensor.file)]["tensors"];
    count = count.get<std::int64_t>() + 1;
  }
  return out;
}

json experts_by_layer(const ModelDescription& d) {
  json out = json::array();
  for (const ExpertBlobLayout& layout : d.expert_blob) {
    out.push_back({{"bytes", layout.bytes},
                   {"gate", name(layout.gate.type)},
                   {"up", name(layout.up.type)},
                   {"down", name(layout.down.type)}});
  }
  return out;
}

json tokenizer_info(const GgufReader& file, const ModelDescription& d) {
  const std::unique_ptr<const Tokenizer> tokenizer = load_tokenizer(file, d.vocab);
  json out = {{"kind", escaped(tokenizer_kind(file))}, {"supported", tokenizer != nullptr}};
  if (!tokenizer) return out;
  out["tokens"] = tokenizer->size();
  out["adds_bos"] = tokenizer->adds_bos();
  out["adds_space_prefix"] = tokenizer->adds_space_prefix();
  if (!tokenizer->pre_tokenizer().empty()) out["pre_tokenizer"] = tokenizer->pre_tokenizer();
  if (tokenizer->notice()) out["notice"] = *tokenizer->notice();
  const auto token = [&](std::int32_t id) { return json{{"id", id}, {"text", tokenizer->label(id)}}; };
  if (tokenizer->bos()) out["bos"] = token(*tokenizer->bos());
  if (tokenizer->eos()) out["eos"] = token(*tokenizer->eos());
  return out;
}

// What a budget keeps when it is split evenly: whole experts for each layer, the remainder from the first layers on.
json slots_for(const ModelDescription& d, std::int64_t budget_bytes) {
  std::int64_t one_a_layer = 0;
  for (const ExpertBlobLayout& layout : d.expert_blob) one_a_layer += layout.bytes;
  const std::int64_t per_layer = std::min<std::int64_t>(budget_bytes / one_a_layer, d.router.experts);
  std::int64_t rest = budget_bytes - per_layer * one_a_layer;
  std::int64_t slots = per_layer * d.layers;
  if (per_layer < d.router.experts) {
    for (const ExpertBlobLayout& layout : d.expert_blob) {
      if (layout.bytes > rest) break;
      rest -= layout.bytes;
      ++slots;
    }
  }
  return {
      {"budget_bytes", budget_bytes},
      {"slots_per_layer", per_layer},
      {"slots", slots},
      {"cache_ratio", std::min(1.0, static_cast<double>(budget_bytes) / static_cast<double>(all_experts_bytes(d)))}};
}

json common_budgets(const ModelDescription& d) {
  json out = json::array();
  const std::int64_t all = all_experts_bytes(d);
  for (const std::int64_t eighths : {1, 2, 4, 6, 8}) out.push_back(slots_for(d, all * eighths / 8));
  for (const std::int64_t gib : {1, 2, 4, 8, 16, 24, 48, 80}) {
    if (gib << 30 < all) out.push_back(slots_for(d, gib << 30));
  }
  return out;
}

std::string gate_name(RouterGate gate) {
  switch (gate) {
    case RouterGate::softmax:
      return "softmax";
    case RouterGate::sigmoid:
      return "sigmoid";
    case RouterGate::none:
      return "none";
  }
  return "?";
}

std::string qk_norm_name(QkNorm norm) {
  switch (norm) {
    case QkNorm::none:
      return "none";
    case QkNorm::per_head:
      return "per head";
    case QkNorm::whole:
      return "whole";
  }
  return "?";
}

std::string bytes_text(std::int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= 1LL << 30) return fmt::format("{:.2f} GiB", value / (1LL << 30));
  if (bytes >= 1 << 20) return fmt::format("{:.2f} MiB", value / (1 << 20));
  return fmt::format("{:.1f} KiB", value / 1024);
}

std::string bytes_text(const json& bytes) {
  return bytes_text(bytes.get<std::int64_t>());
}

std::string tokenizer_text(const json& tokenizer) {
  const auto kind = tokenizer.at("kind").get<std::string>();
  if (!tokenizer.at("supported").get<bool>()) return kind + " (not supported: use token ids)";
  const std::string pre = tokenizer.value("pre_tokenizer", "");
  return fmt::format("{}{}, {} tokens", kind, pre.empty() ? "" : " with pre-tokenizer " + pre,
                     tokenizer.at("tokens").get<std::int64_t>());
}

// Lists of many lines, each under a heading.
std::string tables_text(const json& info) {
  std::string out;
  const auto& files = info.at("files");
  if (files.size() > 1) {
    out += "\nfiles\n";
    for (const auto& file : files) {
      out += fmt::format("  {:<12}{:>12}  {}\n", fmt::format("{} tensors", file.at("tensors").get<std::int64_t>()),
                         bytes_text(file.at("bytes")), file.at("path").get<std::string>());
    }
  }
  out += "\none expert by layer\n";
  const auto& layers = info.at("expert_by_layer");
  for (std::size_t first = 0; first < layers.size();) {  // runs of equal layers
    std::size_t last = first;
    while (last + 1 < layers.size() && layers[last + 1] == layers[first]) ++last;
    const auto& l = layers[first];
    out += fmt::format("  {:<12}{:>12}  gate {}, up {}, down {}\n",
                       first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last),
                       bytes_text(l.at("bytes")), l.at("gate").get<std::string>(), l.at("up").get<std::string>(),
                       l.at("down").get<std::string>());
    first = last + 1;
  }
  out += "\ntensors by type\n";
  for (const auto& type : info.at("tensor_types")) {
    out += fmt::format("  {:<12}{:>12}  {} tensors\n", type.at("type").get<std::string>(), bytes_text(type.at("bytes")),
                       type.at("tensors").get<std::int64_t>());
  }
  out += "\nexpert slots that a budget buys\n";
  for (const auto& budget : info.at("budgets")) {
    out += fmt::format("  {:<12}{:>5} a layer, {:>5} in all  cache ratio {:.3f}\n",
                       bytes_text(budget.at("budget_bytes")), budget.at("slots_per_layer").get<std::int64_t>(),
                       budget.at("slots").get<std::int64_t>(), budget.at("cache_ratio").get<double>());
  }
  return out;
}

}  // namespace

json model_info(const std::filesystem::path& path) {
  const GgufReader file(path);
  const ModelDescription d = describe_model(file);
  const std::int64_t experts_bytes = all_experts_bytes(d);
  return {
      {"path", escaped(path.string())},
      {"name", escaped(d.name)},
      {"architecture", escaped(d.architecture)},
      {"gguf_version", file.version()},
      {"file_bytes", file.file_bytes()},
      {"files", files_info(file)},
      {"layers", d.layers},
      {"width", d.width},
      {"vocab", d.vocab},
      {"context_tokens", d.context},
      {"norm_eps", d.norm_eps},
      {"tied_output", d.tied_output},
      {"attention",
       {{"heads", d.heads}, {"kv_heads", d.kv_heads}, {"head_dim", d.head_dim}, {"qk_norm", qk_norm_name(d.qk_norm)}}},
      {"rope",
       {{"style", d.rope.style == RopeStyle::interleaved ? "interleaved" : "halves"},
        {"base", d.rope.base},
        {"dims", d.rope.dims}}},
      {"router",
       {{"experts", d.router.experts},
        {"top_k", d.router.top_k},
        {"gate", gate_name(d.router.gate)},
        {"softmax_on_selected", d.router.softmax_on_selected},
        {"renormalise", d.router.renormalise},
        {"scale", d.router.scale}}},
      {"expert_ff", d.expert_ff},
      {"experts_bytes", experts_bytes},
      {"dense_bytes", file.data_bytes() - experts_bytes},
      {"kv_bytes_per_token", std::int64_t{8} * d.layers * d.kv_width()},
      {"expert_by_layer", experts_by_layer(d)},
      {"tensor_types", tensors_by_type(file)},
      {"tokenizer", tokenizer_info(file, d)},
      {"budgets", common_budgets(d)}};
}

std::string model_info_text(const json& info) {
  std::string out;
  const auto line = [&out](std::string_view label, const std::string& text) {
    out += fmt::format("{:<14}{}\n", label, text);
  };
  const auto text = [&info](const char* path) { return info.at(json::json_pointer(path)).get<std::string>(); };
  const auto number = [&info](const char* path) { return info.at(json::json_pointer(path)).get<std::int64_t>(); };
  const auto& router = info.at("router");
  line("model", text("/name"));
  const std::size_t files = info.at("files").size();
  line("file", fmt::format("{} ({}{}, GGUF version {})", text("/path"),
                           files > 1 ? fmt::format("first of {} files, ", files) : "",
                           bytes_text(info.at("file_bytes")), number("/gguf_version")));
  line("architecture", fmt::format("{}, {} layers, width {}, vocabulary {}, context {} tokens{}", text("/architecture"),
                                   number("/layers"), number("/width"), number("/vocab"), number("/context_tokens"),
                                   info.at("tied_output").get<bool>() ? ", tied output" : ""));
  line("attention",
       fmt::format("{} query heads, {} key/value heads of {}; query and key norm {}; rotary base {}, {} values, {}",
                   number("/attention/heads"), number("/attention/kv_heads"), number("/attention/head_dim"),
                   text("/attention/qk_norm"), info.at("/rope/base"_json_pointer).get<double>(), number("/rope/dims"),
                   text("/rope/style")));
  line("router",
       fmt::format("{} experts a layer, top {}, {}{}{}, scale {}", number("/router/experts"), number("/router/top_k"),
                   text("/router/gate"),
                   router.at("softmax_on_selected").get<bool>() ? ", softmax over the selected" : "",
                   router.at("renormalise").get<bool>() ? ", renormalised" : "", router.at("scale").get<double>()));
  line("experts", fmt::format("{} of hidden width {}, {} in all", number("/layers") * number("/router/experts"),
                              number("/expert_ff"), bytes_text(info.at("experts_bytes"))));
  line("other weights", bytes_text(info.at("dense_bytes")));
  line("KV cache", bytes_text(info.at("kv_bytes_per_token")) + " a token in float32");
  const auto& tokenizer = info.at("tokenizer");
  line("tokenizer", tokenizer_text(tokenizer));
  if (tokenizer.contains("notice")) line("", "note: " + text("/tokenizer/notice"));
  return out + tables_text(info);
}

}  // namespace expertscope
