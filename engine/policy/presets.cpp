// The table of presets: what each system is composed of. By ComponentKind: predictor, prefetcher, evictor, allocator,
// placer, gate, precision, capacity, scheduler.
#include "engine/policy/registry.h"

namespace expertscope {
namespace {

const PresetDecl kPresets[] = {
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
    {.name = "daop",
     .paper = "DAOP, DATE 2025, arXiv 2501.10375",
     .help =
         "Swaps experts for each prompt, then predicts the next layer and computes its missing expert on the CPU one "
         "layer early.",
     .exact = false,
     .components = {"none", "none", "never", "sequence-swap", "cpu-early", "predicted", "native", "per-layer",
                    "resident-first"}},
    {.name = "expert-buffering",
     .paper = "Towards MoE Deployment (arXiv 2303.06182)",
     .help = "On-demand, experts in the order of their numbers; evicts what a layer does not use, then what came last.",
     .components = {"none", "none", "inactive-lifo", "empty", "fetch", "router", "native", "per-layer", "by-id"},
     .settings = {"capacity.balance=greedy"}},
    {.name = "mixtral-offloading",
     .paper = "Mixtral-offloading (arXiv 2312.17238)",
     .help = "A cache for each layer, and the next gate's likeliest experts copied early into staging buffers.",
     .components = {"gate-ahead", "staged", "lru", "last-ids", "fetch", "router", "native", "per-layer", "by-id"},
     .settings = {"evictor.order=access", "scheduler.hits_first=true"}},
    {.name = "moe-infinity",
     .paper = "MoE-Infinity (arXiv 2401.14361)",
     .help = "Expects what the most similar past sequence wanted; prefetches and evicts by it.",
     .components = {"activation-matrix", "predicted", "activation-matrix", "empty", "fetch", "router", "native",
                    "global", "resident-first"}},
    {.name = "fiddler",
     .paper = "Fiddler (arXiv 2402.07033)",
     .help = "Pins the most popular experts; a missing one runs on the CPU unless copying it is faster.",
     .components = {"none", "none", "never", "popular", "cost", "router", "native", "global", "resident-first"}},
    {.name = "hybrimoe",
     .paper = "HybriMoE (arXiv 2504.05897)",
     .help = "Shares each layer's experts between GPU, CPU and link by simulation; keeps what routers score high.",
     .components = {"gate-ahead", "impact", "mrs", "empty", "timelines", "router", "native", "per-layer", "by-load"}},
    {.name = "freetoken-split",
     .paper = "FreeToken (arXiv 2608.16157)",
     .help = "Fetches that fraction of a layer's misses with which link and CPU finish together.",
     .components = {"none", "none", "lru", "empty", "fraction-split", "router", "native", "global", "resident-first"}},
    {.name = "llama-cpp-static",
     .paper = "llama.cpp (--n-cpu-moe)",
     .help = "Whole layers are resident or not; the others run on the CPU, long prompts stream through the GPU.",
     .components = {"none", "none", "never", "by-layer", "batch", "router", "native", "global", "resident-first"}},
    {.name = "adapmoe",
     .paper = "AdapMoE (arXiv 2408.10284)",
     .help = "Drops weak experts where the layer is insensitive, divides the cache over layers by expected waits, and "
             "prefetches one expert at a time.",
     .exact = false,
     .components = {"gate-ahead", "first-absent", "lru", "last-ids", "fetch", "sensitivity", "native",
                    "dynamic-programming", "resident-first"}},
    {.name = "hobbit",
     .paper = "HOBBIT (arXiv 2411.01433)",
     .help = "Loads weakly weighted misses in low precision or skips them, looks through coming gates until one lacks "
             "an expert, and keeps by use and distance.",
     .exact = false,
     .components = {"gate-ahead", "stacked-gates", "hobbit", "empty", "fetch", "score-driven", "score-driven", "global",
                    "resident-first"}},
    {.name = "edgemoe",
     .paper = "EdgeMoE (arXiv 2308.14352)",
     .help =
         "Keeps each expert in the bit-width that its importance allows, and copies by the paths that experts of two "
         "layers took before, until the router is known.",
     .exact = false,
     .components = {"activation-path", "predicted", "edgemoe", "popular", "fetch", "router", "importance", "global",
                    "resident-first"},
     .settings = {"prefetcher.most=3"}},
    {.name = "expertflow",
     .paper = "ExpertFlow (arXiv 2410.17954)",
     .help = "Fills the cache with what coming layers are forecast to want, and corrects it by each router.",
     .components = {"routing-path", "forecast", "forecast", "empty", "fetch", "router", "native", "global",
                    "alike-tokens"}},
    {.name = "read-me",
     .paper = "Read-ME (arXiv 2410.19123)",
     .help = "Routes are known ahead: copies what is needed next and evicts what is needed last.",
     .replay_only = true,
     .components = {"future", "predicted", "belady", "empty", "fetch", "router", "native", "global", "resident-first"}},
    {.name = "belady",
     .paper = "Belady 1966, for request sets with bypass",
     .help = "The oracle: knows which expert is needed furthest in the future.",
     .replay_only = true,
     .components = {"none", "none", "belady", "empty", "fetch", "router", "native", "global", "resident-first"}},
};

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
