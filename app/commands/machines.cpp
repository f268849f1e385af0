#include "app/commands/machines.h"

#include <memory>

#include <fmt/format.h>

#include "app/machine_profiles.h"
#include "engine/machines/cuda_available.h"
#include "engine/machines/profile.h"

namespace expertscope {
namespace {

std::string gigabytes(double bytes) {
  return fmt::format("{:.3g} GB", bytes / 1e9);
}

std::string describe(const std::string& name, const MachineProfile& profile) {
  std::string text = name + "\n";
  for (const GpuProfile& gpu : profile.gpus)
    text += fmt::format("  GPU      {}: {} at {}/s, {:.3g} Tflop/s, launch {:.3g} us\n", gpu.name,
                        gigabytes(static_cast<double>(gpu.memory_bytes)), gigabytes(gpu.memory_bytes_per_s),
                        gpu.flops_per_s / 1e12, gpu.launch_s * 1e6);
  if (profile.unified_memory)
    text += "  link     none: GPU and CPU share one memory\n";
  else
    text += fmt::format("  link     {}/s to the GPU, {}/s back, {:.3g} us a copy{}\n",
                        gigabytes(profile.link.h2d_bytes_per_s), gigabytes(profile.link.d2h_bytes_per_s),
                        profile.link.latency_s * 1e6, profile.gpus.size() > 1 ? "; one for each GPU" : "");
  text += fmt::format("  host     {}/s alone, {}/s shared with the link, {} threads, {:.3g} Gflop/s\n",
                      gigabytes(profile.host.memory_bytes_per_s), gigabytes(profile.host.shared_memory_bytes_per_s),
                      profile.host.threads, profile.host.flops_per_s / 1e9);
  text += fmt::format("  storage  {}/s, {:.3g} us\n", gigabytes(profile.storage.read_bytes_per_s),
                      profile.storage.latency_s * 1e6);
  return text + "  source   " + profile.source + "\n";
}

nlohmann::ordered_json as_json(const MachineProfile& profile) {
  return nlohmann::ordered_json::parse(to_json(profile));
}

int show_one(const std::string& name, bool json) {
  const MachineProfile profile = find_profile(name);
  if (json)
    print_json(as_json(profile));
  else
    print(describe(name, profile));
  return kExitDone;
}

int show_all(bool json) {
  nlohmann::ordered_json shipped = nlohmann::ordered_json::array(), own = nlohmann::ordered_json::array();
  std::string text;
  for (const std::string& name : shipped_profiles()) {
    const MachineProfile profile = find_profile(name);
    shipped.push_back(as_json(profile));
    text += describe(name, profile) + "\n";
  }
  for (const std::string& name : own_profiles()) {
    const MachineProfile profile = find_profile(name);
    nlohmann::ordered_json entry = as_json(profile);
    entry["name"] = name;
    own.push_back(std::move(entry));
    text += describe(name, profile) + "\n";
  }
  const CudaStatus cuda = cuda_status();
  if (json) {
    print_json({{"cuda", cuda_build_description()},
                {"cuda_devices", cuda_device_count()},
                {"cuda_problem", cuda.text},
                {"profiles", shipped},
                {"own_profiles", own}});
  } else {
    print(text + "Use one with --machine emulated:NAME, or a file of your own with --machine emulated:PATH.\n" +
          "CUDA: " + cuda_build_description() + "; " + (cuda.text.empty() ? cuda.gpu : cuda.text) + "\n");
  }
  return kExitDone;
}

}  // namespace

void add_machines(CLI::App& program, Action& action) {
  struct Options {
    std::string name;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("machines", "Machine profiles that ship, those that were measured here, or one of them");
  command->add_option("NAME", options->name, "Name of a profile, or path of a profile file");
  command->add_flag("--json", options->json, "As JSON; with NAME a valid profile file");
  command->callback([&action, options] {
    action = [options] {
      return options->name.empty() ? show_all(options->json) : show_one(options->name, options->json);
    };
  });
}

}  // namespace expertscope
