#include "app/run_plan.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "app/demo_model.h"
#include "app/machine_profiles.h"
#include "app/prior_note.h"
#include "engine/error.h"
#include "engine/machines/cuda_available.h"
#include "engine/policy/prior.h"
#include "profiler/report.h"
#include "profiler/trace.h"

namespace expertscope {
namespace {

constexpr const char* kDefaultProfile = "rtx4090-pcie4";
// Experts that are fetched for a chunk are fetched once for all of its tokens.
constexpr int kCudaPrefillChunk = 2048;
constexpr const char* kDemoCostShape = "mixtral-8x7b-q4";

// Puts the option before what is wrong with its value.
template <typename Function>
auto blaming(const char* option, Function&& function) {
  try {
    return function();
  } catch (const InputError& error) {
    throw InputError(std::string(option) + ": " + error.what());
  }
}

// The profile to emulate, or nothing where the run is to be on the CUDA device. A GPU that is there and cannot be used
// is a notice.
std::optional<MachineProfile> choose_machine(const std::string& machine, RunPlan& plan) {
  if (machine.starts_with("emulated:")) return emulated_profile(machine);
  if (!machine.empty() && machine != "cuda")
    throw InputError(fmt::format(
        "--machine: '{}' is neither cuda nor emulated:PROFILE; see `expertscope machines` for the profiles there are",
        machine));
  const CudaStatus cuda = cuda_status();
  if (cuda.state == CudaState::usable) return std::nullopt;
  if (machine == "cuda")
    throw InputError(fmt::format("--machine cuda: there is no usable CUDA device: {}, or use --machine emulated:{}",
                                 cuda.text, kDefaultProfile));
  if (cuda.state == CudaState::unusable) {
    plan.notices.push_back(fmt::format("the GPU is not used: {}; this run is emulated", cuda.text));
    plan.health.push_back(
        {"machine.gpu_unusable", Severity::warning, 1, fmt::format("The GPU was not used: {}.", cuda.text)});
  }
  return load_profile(kDefaultProfile);
}

PolicySpec choose_policy(const std::string& spec) {
  return blaming("--policy", [&] {
    PolicySpec policy = parse_policy_spec(spec);
    if (const PresetDecl* preset = find_preset(policy.preset); preset != nullptr && preset->replay_only)
      throw InputError("'" + policy.preset + "' needs to know the future: it exists in `expertscope replay` alone");
    return policy;
  });
}

// A tale of the demo's, and as many of the prompts after it as are decoded together.
std::vector<PromptItem> default_prompts(int sequences) {
  std::vector<PromptItem> prompts = load_prompts(demo_prompts_path());
  const auto tale = std::ranges::find(prompts, "tale", &PromptItem::workload);
  if (tale == prompts.end()) throw InputError(demo_prompts_path().string() + ": holds no tale; give a --prompt");
  std::ranges::rotate(prompts, tale);
  prompts.resize(std::min(prompts.size(), static_cast<std::size_t>(sequences)));
  return prompts;
}

std::vector<PromptItem> choose_prompts(const RunRequest& request, const Model& model) {
  if (request.prompt) {
    check_utf8(*request.prompt, "--prompt");
    return {{"", *request.prompt, {}}};
  }
  if (!request.prompt_ids.empty()) return {{"", "", parse_ids(request.prompt_ids, "--prompt-ids")}};
  if (!request.ids_file.empty()) return {{"", "", blaming("--ids-file", [&] { return load_ids(request.ids_file); })}};
  if (!request.prompts.empty()) return blaming("--prompts", [&] { return load_prompts(request.prompts); });
  if (!request.text.empty()) {
    return blaming("--text", [&]() -> std::vector<PromptItem> {
      std::string text = read_file(request.text);
      check_utf8(text, request.text);
      if (text.empty()) throw InputError(request.text + ": is empty");
      return {{"", std::move(text), {}}};
    });
  }
  if (!model.has_tokenizer())
    throw InputError(
        "this model has no tokenizer that this version reads; give a prompt with --prompt-ids or --ids-file");
  return default_prompts(request.sequences);
}

void check_recording(const RunRequest& request) {
  if (request.profile != "off") return;
  if (!request.text.empty())
    throw InputError("--text: a perplexity is a recorded number; it cannot be had with --profile off");
  if (request.record_logits > 0) throw InputError("--record-logits: nothing is recorded with --profile off");
  if (request.shadow_exact > 0) throw InputError("--shadow-exact: nothing is recorded with --profile off");
}

// Whether the device's own tracer records, too.
bool choose_tracing(const std::string& profile, bool cuda) {
  if (profile == "cupti" && !cuda)
    throw InputError(
        "--profile cupti: CUPTI records what a GPU does, and an emulated machine does nothing on one; use "
        "--profile hooks, or --machine cuda");
  return cuda && (profile.empty() || profile == "cupti");
}

// Refuses a path that no report has before the work is done. Epochs, notes of health, facts of the wall clock and
// what CUPTI saw come from the run.
Expectation read_expectation(const std::string& text) {
  Expectation expectation = parse_expectation(text);
  const std::string block = expectation.path.substr(0, expectation.path.find('.'));
  if (block != "epochs" && block != "health" && block != "wall" && block != "output" && block != "cupti")
    judge(expectation, make_report(Trace()));
  return expectation;
}

// What the session of a CUDA run is replayed with.
void choose_calibration(RunPlan& plan) {
  Calibration calibration = find_calibration(cuda_status().gpu, plan.threads);
  plan.calibrated = std::move(calibration.profile);
  plan.health.push_back(std::move(calibration.note));
}

std::string choose_cost_shape(const RunRequest& request, const RunPlan& plan) {
  if (plan.cuda && !request.cost_shape.empty() && request.cost_shape != "own")
    throw InputError("'" + request.cost_shape +
                     "' is what an emulated machine would charge; a CUDA machine runs the model's own shape: leave the "
                     "option out or add --machine emulated:PROFILE");
  if (!request.cost_shape.empty()) return request.cost_shape;
  return plan.demo_model && !plan.cuda ? kDemoCostShape : "own";
}

void choose_run_options(const RunRequest& request, const Model& model, RunOptions& options) {
  options.policy = choose_policy(request.policy);
  options.cache_ratio = request.cache_ratio;
  options.cache_bytes = request.cache_bytes;
  const RouterRule& router = model.description().router;
  if (!request.prior.empty())
    options.prior =
        blaming("--prior", [&] { return load_prior(request.prior, model.description().layers, router.experts); });
  options.sampling = {request.temperature, request.top_p, request.seed};
  check(options.sampling);
  options.stop_at_eos = request.stop_at_eos;
  options.sequences = request.sequences;
  options.record_gates = request.record_gates.value_or(kMaxLookahead);
  options.record_logits = request.record_logits;
}

void note_sequences(RunPlan& plan) {
  const auto wanted = static_cast<std::size_t>(plan.options.sequences);
  if (plan.prompts.size() >= wanted) return;
  const std::string text =
      fmt::format("--sequences {}: there {} {} prompt{}, so that fewer are decoded together", wanted,
                  plan.prompts.size() == 1 ? "is" : "are", plan.prompts.size(), plan.prompts.size() == 1 ? "" : "s");
  plan.notices.push_back(text);
  plan.health.push_back({"sequences.fewer_prompts", Severity::info, 1, text + "."});
}

}  // namespace

std::uint64_t RunPlan::planned_tokens() const {
  if (mode == RunMode::generate) return prompts.size() * static_cast<std::uint64_t>(tokens);
  std::uint64_t count = 0;
  if (mode == RunMode::forced)
    for (const PromptItem& prompt : prompts)
      count += std::min<std::uint64_t>(prompt.ids.size(), static_cast<std::uint64_t>(tokens));
  return count;
}

void fill_ids(PromptItem& prompt, const Model& model) {
  if (prompt.ids.empty()) {
    if (!model.has_tokenizer())
      throw InputError(
          "this model has no tokenizer that this version reads, so text cannot be given to it; use --prompt-ids or "
          "--ids-file");
    prompt.ids = model.tokenizer().encode(prompt.text);
  } else {
    check_ids(prompt.ids, model.description().vocab, "prompt");
  }
  if (prompt.ids.empty())
    throw InputError("a prompt is empty and this model adds no token of its own; write some text");
}

RunPlan make_plan(const RunRequest& request) {
  refuse_unsupported(request);
  check_recording(request);
  RunPlan plan;
  for (const std::string& text : request.expect) plan.expectations.push_back(read_expectation(text));
  const std::optional<MachineProfile> profile = choose_machine(request.machine, plan);
  plan.cuda = !profile;
  if (profile) plan.profile = *profile;
  plan.host_bytes = request.host_bytes;
  // An emulated machine models the reads; a real one makes them.
  const ExpertHome experts = plan.cuda && plan.host_bytes ? ExpertHome::file : ExpertHome::memory;
  if (experts == ExpertHome::file && request.shadow_exact > 0)
    throw InputError(
        "--shadow-exact: the exact computation beside a run wants all experts in host memory; leave --host-bytes out");
  plan.model = std::make_shared<const Model>(
      request.model.empty() ? demo_model_path() : std::filesystem::path(request.model), experts);
  plan.demo_model = is_demo_model(*plan.model);
  plan.cost_shape =
      blaming("--cost-shape", [&] { return load_cost_shape(choose_cost_shape(request, plan), *plan.model); });
  choose_run_options(request, *plan.model, plan.options);
  plan.shadow_exact = static_cast<std::uint64_t>(request.shadow_exact);
  if (plan.options.prior) {
    if (auto note = note_of_prior(*plan.options.prior, plan.model->file_sha256())) plan.health.push_back(*note);
  }
  if (plan.cuda) {
    plan.options.prefill_chunk = kCudaPrefillChunk;
    // Recorded gates cost real time here: without a wish, only what the policy uses.
    if (!request.record_gates) plan.options.record_gates = 0;
  }
  plan.mode = !request.text.empty() ? RunMode::text : request.forced ? RunMode::forced : RunMode::generate;
  plan.prompts = choose_prompts(request, *plan.model);
  for (PromptItem& prompt : plan.prompts) fill_ids(prompt, *plan.model);
  note_sequences(plan);
  plan.tokens = request.tokens;
  plan.threads = request.threads > 0 ? request.threads : core_count();
  plan.recorded = request.profile != "off";
  if (plan.cuda) choose_calibration(plan);
  plan.traces_gpu = choose_tracing(request.profile, plan.cuda);
  for (const Expectation& expectation : plan.expectations)
    if (expectation.path.starts_with("cupti.") && !plan.traces_gpu)
      throw InputError("--expect: '" + expectation.path + "' is reported with --profile cupti alone");
  if (!request.script.empty())
    plan.script =
        blaming("--script", [&] { return load_script(request.script, plan.options.policy, plan.options.cache_ratio); });
  return plan;
}

}  // namespace expertscope
