#include "engine/machines/profile.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "engine/assets.h"
#include "engine/error.h"
#include "engine/json_fields.h"

namespace expertscope {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr double kMaxRate = 1e18;
constexpr double kMaxSeconds = 10;
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 50;

constexpr WorkKind kOperations[] = {WorkKind::embed,  WorkKind::attention, WorkKind::router,
                                    WorkKind::expert, WorkKind::combine,   WorkKind::head};

std::vector<OperationRate> parse_operations(JsonFields f, const json& given) {
  std::vector<OperationRate> operations;
  for (const WorkKind kind : kOperations) {
    const std::string key(name(kind));
    if (!given.contains(key)) continue;
    JsonFields rate = f.object(key);
    operations.push_back({.kind = kind,
                          .fixed_s = rate.number("fixed_s", 0, kMaxSeconds),
                          .bytes_per_s = rate.number("bytes_per_s", 1, kMaxRate),
                          .issue_s = rate.number_or("issue_s", 0, kMaxSeconds, 0)});
    rate.refuse_others();
  }
  f.refuse_others();
  return operations;
}

GpuProfile parse_gpu(JsonFields f, const json& given) {
  GpuProfile g;
  g.name = f.text("name");
  g.memory_bytes = f.integer("memory_bytes", 1, kMaxBytes);
  g.memory_bytes_per_s = f.number("memory_bytes_per_s", 1, kMaxRate);
  g.flops_per_s = f.number("flops_per_s", 1, kMaxRate);
  g.launch_s = f.number("launch_s", 0, kMaxSeconds);
  g.sync_s = f.number("sync_s", 0, kMaxSeconds);
  if (given.contains("operations")) g.operations = parse_operations(f.object("operations"), given["operations"]);
  f.refuse_others();
  return g;
}

LinkProfile parse_link(JsonFields f) {
  LinkProfile l;
  l.h2d_bytes_per_s = f.number("h2d_bytes_per_s", 1, kMaxRate);
  l.d2h_bytes_per_s = f.number("d2h_bytes_per_s", 1, kMaxRate);
  l.latency_s = f.number("latency_s", 0, kMaxSeconds);
  l.start_s = f.number_or("start_s", 0, kMaxSeconds, 0);
  l.chunk_bytes = f.integer("chunk_bytes", 1, kMaxBytes);
  f.refuse_others();
  return l;
}

HostProfile parse_host(JsonFields f) {
  HostProfile h;
  h.memory_bytes = f.integer("memory_bytes", 1, kMaxBytes);
  h.memory_bytes_per_s = f.number("memory_bytes_per_s", 1, kMaxRate);
  h.shared_memory_bytes_per_s = f.number("shared_memory_bytes_per_s", 1, kMaxRate);
  h.flops_per_s = f.number("flops_per_s", 1, kMaxRate);
  h.threads = static_cast<int>(f.integer("threads", 1, 4096));
  h.task_s = f.number("task_s", 0, kMaxSeconds);
  h.policy_s = f.number("policy_s", 0, kMaxSeconds);
  h.sampling_s = f.number("sampling_s", 0, kMaxSeconds);
  h.sampling_logit_s = f.number_or("sampling_logit_s", 0, kMaxSeconds, 0);
  f.refuse_others();
  return h;
}

Measurement parse_measurement(JsonFields f) {
  Measurement m;
  m.name = f.text("name");
  m.unit = f.text("unit");
  m.median = f.number("median", 0, kMaxRate);
  m.low = f.number("low", 0, kMaxRate);
  m.high = f.number("high", 0, kMaxRate);
  f.refuse_others();
  return m;
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw InputError(path.string() + ": cannot be read: check the path and its permissions");
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

MachineProfile parse_profile(const std::string& json_text, const std::string& origin) {
  const json root = parse_json(json_text, origin);
  JsonFields f(root, origin);
  MachineProfile p;
  p.name = f.text("name");
  p.source = f.text("source");
  p.unified_memory = f.boolean_or("unified_memory", false);
  p.peer_bytes_per_s = f.number_or("peer_bytes_per_s", 0, kMaxRate, 0);
  const json& gpus = f.child("gpus");
  if (!gpus.is_array() || gpus.empty() || gpus.size() > 16) f.fail("gpus", "must be a list of 1 to 16 GPUs");
  for (std::size_t i = 0; i < gpus.size(); ++i)
    p.gpus.push_back(parse_gpu(JsonFields(gpus[i], fmt::format("{}.gpus[{}]", origin, i)), gpus[i]));
  if (p.unified_memory && p.gpus.size() > 1) f.fail("gpus", "must be one GPU where memory is unified");
  if (!p.unified_memory || root.contains("link")) p.link = parse_link(f.object("link"));
  p.host = parse_host(f.object("host"));
  JsonFields storage = f.object("storage");
  p.storage.read_bytes_per_s = storage.number("read_bytes_per_s", 1, kMaxRate);
  p.storage.latency_s = storage.number("latency_s", 0, kMaxSeconds);
  storage.refuse_others();
  if (root.contains("measured")) {
    const json& measured = f.child("measured");
    if (!measured.is_array() || measured.size() > 1000)
      f.fail("measured", "must be a list of at most 1000 measurements");
    for (std::size_t i = 0; i < measured.size(); ++i)
      p.measured.push_back(parse_measurement(JsonFields(measured[i], fmt::format("{}.measured[{}]", origin, i))));
  }
  f.refuse_others();
  return p;
}

std::string to_json(const MachineProfile& p) {
  nlohmann::ordered_json gpus = nlohmann::ordered_json::array();
  for (const GpuProfile& g : p.gpus) {
    gpus.push_back({{"name", g.name},
                    {"memory_bytes", g.memory_bytes},
                    {"memory_bytes_per_s", g.memory_bytes_per_s},
                    {"flops_per_s", g.flops_per_s},
                    {"launch_s", g.launch_s},
                    {"sync_s", g.sync_s}});
    for (const OperationRate& rate : g.operations)
      gpus.back()["operations"][std::string(name(rate.kind))] = {
          {"fixed_s", rate.fixed_s}, {"bytes_per_s", rate.bytes_per_s}, {"issue_s", rate.issue_s}};
  }
  nlohmann::ordered_json out = {{"name", p.name},
                                {"source", p.source},
                                {"unified_memory", p.unified_memory},
                                {"peer_bytes_per_s", p.peer_bytes_per_s},
                                {"gpus", gpus}};
  if (!p.unified_memory) {
    out["link"] = {{"h2d_bytes_per_s", p.link.h2d_bytes_per_s},
                   {"d2h_bytes_per_s", p.link.d2h_bytes_per_s},
                   {"latency_s", p.link.latency_s},
                   {"chunk_bytes", p.link.chunk_bytes}};
    if (p.link.start_s > 0) out["link"]["start_s"] = p.link.start_s;
  }
  out["host"] = {{"memory_bytes", p.host.memory_bytes},
                 {"memory_bytes_per_s", p.host.memory_bytes_per_s},
                 {"shared_memory_bytes_per_s", p.host.shared_memory_bytes_per_s},
                 {"flops_per_s", p.host.flops_per_s},
                 {"threads", p.host.threads},
                 {"task_s", p.host.task_s},
                 {"policy_s", p.host.policy_s},
                 {"sampling_s", p.host.sampling_s}};
  if (p.host.sampling_logit_s > 0) out["host"]["sampling_logit_s"] = p.host.sampling_logit_s;
  out["storage"] = {{"read_bytes_per_s", p.storage.read_bytes_per_s}, {"latency_s", p.storage.latency_s}};
  for (const Measurement& m : p.measured) {
    out["measured"].push_back(
        {{"name", m.name}, {"unit", m.unit}, {"median", m.median}, {"low", m.low}, {"high", m.high}});
  }
  return out.dump(2);
}

std::vector<std::string> shipped_profiles() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(assets_dir() / "machines")) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

MachineProfile load_profile(const std::string& name_or_path) {
  if (name_or_path.find('/') != std::string::npos || fs::path(name_or_path).extension() == ".json") {
    return parse_profile(read_file(name_or_path), name_or_path);
  }
  const std::vector<std::string> names = shipped_profiles();
  if (std::find(names.begin(), names.end(), name_or_path) == names.end()) {
    throw InputError(fmt::format("machine profile '{}' is not known: choose one of {}, or give the path of a profile",
                                 name_or_path, fmt::join(names, ", ")));
  }
  const fs::path path = assets_dir() / "machines" / (name_or_path + ".json");
  return parse_profile(read_file(path), path.filename().string());
}

}  // namespace expertscope
