// The table of presets: what each system is composed of. By ComponentKind: predictor, prefetcher, evictor, allocator,
// placer, gate, precision, capacity, scheduler.
#include <array>

#include "engine/policy/registry.h"

namespace expertscope {
namespace {

const std::array<PresetDecl, 8> kPresets = {{
    {.name = "resident",
     .paper = "baseline",
     .help = "Every expert stays on the GPU; needs cache ratio 1.",
     .components = {"none", "none", "never", "all", "fetch", "router", "native", "per-layer", "resident-first"}},
    {.name = "on-demand",
     .paper = "baseline",
     .help = "Copies what is missing when the router asks for it; evicts the least recently used.",
     .components = {"none", "none", "lru", "empty", "fetch", "router", "native", "per-layer", "resident-first"}},
    {.name = "lfu",
     .paper = "baseline",
     .help = "Copies what is missing when the router asks for it; evicts the least often used.",
     .components = {"none", "none", "lfu", "empty", "fetch", "router", "native", "per-layer", "resident-first"}},
    {.name = "static",
     .paper = "baseline",
     .help = "Pins the most popular experts of a prior and runs all others on the CPU.",
     .components = {"none", "none", "never", "popular", "cpu", "router", "native", "per-layer", "resident-first"}},
    {.name = "cpu-only",
     .paper = "baseline",
     .help = "Runs every expert on the CPU.",
     .components = {"none", "none", "never", "empty", "cpu", "router", "native", "per-layer", "resident-first"}},
    {.name = "split",
     .paper = "baseline",
     .help = "On-demand, with a layer's misses shared by the link and the CPU so that both finish together.",
     .components = {"none", "none", "lru", "empty", "split", "router", "native", "per-layer", "resident-first"}},
    {.name = "lookahead",
     .paper = "baseline",
     .help = "On-demand, and copies early what the next layer's gate predicts.",
     .components = {"gate-ahead", "predicted", "lru", "empty", "fetch", "router", "native", "per-layer",
                    "resident-first"}},
    {.name = "belady",
     .paper = "Belady 1966, for request sets with bypass",
     .help = "The oracle: knows which expert is needed furthest in the future.",
     .replay_only = true,
     .components = {"none", "none", "belady", "empty", "fetch", "router", "native", "global", "resident-first"}},
}};

}  // namespace

std::span<const PresetDecl> preset_decls() {
  return kPresets;
}

const PresetDecl* find_preset(std::string_view name) {
  for (const PresetDecl& p : kPresets) {
    if (p.name == name) return &p;
  }
  return nullptr;
}

}  // namespace expertscope
