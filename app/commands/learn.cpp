#include "app/commands/learn.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>

#include <fmt/format.h>

#include "app/demo_model.h"
#include "app/options.h"
#include "app/progress_line.h"
#include "app/run_plan.h"
#include "app/stop_signal.h"
#include "app/whole_file.h"
#include "engine/error.h"
#include "engine/learn/learn.h"
#include "engine/learn/prediction_recall.h"

namespace expertscope {
namespace {

constexpr const char* kCommand = "learn";

struct Options {
  std::string model, prompts, out, judge;
  int threads = 0;
  LearnRule rule;
};

// A line on a terminal's standard error; says whether to go on.
class StageLine {
 public:
  ~StageLine() {
    if (visible_) std::fputs("\r\033[K", stderr);
  }

  bool operator()(const char* stage, std::int64_t done, std::int64_t all) {
    using Clock = std::chrono::steady_clock;
    if (is_terminal_ && Clock::now() >= next_) {
      next_ = Clock::now() + std::chrono::milliseconds(200);
      std::fputs(fmt::format("\r\033[K{}: {} of {} tokens", stage, done, all).c_str(), stderr);
      visible_ = true;
    }
    return stop_signal() == 0;
  }

 private:
  bool is_terminal_ = stderr_is_terminal(), visible_ = false;
  std::chrono::steady_clock::time_point next_;
};

std::vector<std::vector<std::int32_t>> ids_of(const std::string& file, const char* option, const Model& model) {
  try {
    std::vector<std::vector<std::int32_t>> ids;
    for (PromptItem& prompt : load_prompts(file)) {
      fill_ids(prompt, model);
      ids.push_back(std::move(prompt.ids));
    }
    return ids;
  } catch (const InputError& error) {
    throw InputError(std::string(option) + ": " + error.what());
  }
}

// What the prior depends on; paths stay out of it, so that the same command gives the same file anywhere.
std::string source_of(const Options& options, std::size_t prompts) {
  const LearnRule& r = options.rule;
  return fmt::format(
      "expertscope {} learn: {} prompts of {}, {} continuation{} of {} tokens each at temperature {}, seed {}",
      ES_VERSION, prompts, std::filesystem::path(options.prompts).filename().string(), r.recording.continuations,
      r.recording.continuations == 1 ? "" : "s", r.recording.generate, r.recording.temperature, r.recording.seed);
}

// The texts that predictions are judged on: for the demo model those of its workloads.
std::string judge_file(const Options& options, const Model& model) {
  if (!options.judge.empty() || !is_demo_model(model)) return options.judge;
  return demo_workloads_path().string();
}

std::string recall_table(const std::vector<PredictionRecall>& recalls, const std::string& file, std::int64_t tokens) {
  std::string text =
      fmt::format("  predicted of the picks of {} other tokens ({}), at top-k candidates, in %\n  {:<14}{:>7}", tokens,
                  std::filesystem::path(file).filename().string(), "layer", "mean");
  for (std::size_t l = 0; l < recalls[0].by_layer.size(); ++l) text += fmt::format("{:>6}", l);
  for (const PredictionRecall& r : recalls) {
    text += fmt::format("\n  {:<14}{:>7.1f}", r.predictor, r.mean * 100);
    for (double share : r.by_layer)
      text += share > 0 ? fmt::format("{:>6.1f}", share * 100) : fmt::format("{:>6}", "-");
  }
  return text + '\n';
}

std::string adapmoe_table(const Learned& learned) {
  const Prior& prior = learned.prior;
  if (!prior.has_sensitivity()) return "";
  std::string text = fmt::format("  loss {:.4f} nats a token; of a layer without its lower ranks\n", learned.loss);
  const auto row = [&](const char* name, auto&& value) {
    text += fmt::format("  {:<21}", name);
    for (int l = 0; l < prior.layers; ++l) text += fmt::format("{:>6}", value(l));
    text += '\n';
  };
  row("rise, millinats",
      [&](int l) { return fmt::format("{:.0f}", prior.loss_rise[static_cast<std::size_t>(l)] * 1e3); });
  row("sensitivity w", [&](int l) { return fmt::format("{:.2f}", prior.sensitivity[static_cast<std::size_t>(l)]); });
  row("one expert enough, %",
      [&](int l) { return fmt::format("{:.1f}", prior.kept_shares(l, prior.drop_threshold(l, 0.005))[0] * 100); });
  return text;
}

std::string importance_table(const Prior& prior) {
  if (!prior.has_importance()) return "";
  std::string text =
      "  rise of the loss, in %, with so many eighths of the experts, those that matter least, in fewer bits\n";
  const auto row = [&](const char* name, const std::vector<double>& rises) {
    text += fmt::format("  {:<21}", name);
    for (double rise : rises) text += fmt::format("{:>7.2f}", rise * 100);
    text += '\n';
  };
  row("int8, fewer: int4", prior.importance.int8_int4);
  row("int4, fewer: int2", prior.importance.int4_int2);
  return text;
}

int run_learn(const Options& options) {
  folder_of(options.out, "--out");
  const Model model(options.model);
  const auto prompts = ids_of(options.prompts, "--prompts", model);
  const std::string judge = judge_file(options, model);
  std::vector<std::vector<std::int32_t>> judged_on;
  if (!judge.empty()) judged_on = ids_of(judge, "--judge", model);
  ThreadPool pool(options.threads > 0 ? options.threads : core_count());
  Learned learned;
  std::vector<PredictionRecall> recalls;
  std::int64_t judged_tokens = 0;
  {
    StageLine line;
    learned = learn(model, pool, source_of(options, prompts.size()), prompts, options.rule, std::ref(line));
    if (!judged_on.empty()) {
      const RecordedTexts texts =
          record_texts(model, pool, judged_on, {}, [&](auto done, auto all) { return line("judging", done, all); });
      recalls = judge_predictions(learned.prior, texts);
      judged_tokens = texts.forwarded;
    }
  }
  if (learned.cut_prompts > 0)
    say(kCommand,
        fmt::format("{} prompts lost their end: with {} tokens to generate they do not fit the model's context",
                    learned.cut_prompts, options.rule.recording.generate));
  const std::string json = to_json(learned.prior);
  write_whole(options.out, json + '\n');
  print(fmt::format("{}\n  {:.0f} kB, learned from {} tokens of {} prompts and {} generated ones\n", options.out,
                    static_cast<double>(json.size()) / 1e3, learned.prior.prefill_tokens, prompts.size(),
                    learned.prior.decode_tokens) +
        adapmoe_table(learned) + importance_table(learned.prior) +
        (recalls.empty() ? "" : recall_table(recalls, judge, judged_tokens)) +
        fmt::format("Use: expertscope capture --model {} --prior {} --policy static --out FILE\n", options.model,
                    options.out));
  return kExitDone;
}

}  // namespace

void add_learn(CLI::App& program, Action& action) {
  const auto options = std::make_shared<Options>();
  LearnRule& rule = options->rule;
  CLI::App* command = program.add_subcommand(
      kCommand,
      "Learn a prior, what policies know before they start, by running a model over prompts: popularity, transitions "
      "and "
      "activations of experts, how well coming layers' gates predict, AdapMoE's sensitivities, EdgeMoE's importance of "
      "experts, and a small trained "
      "predictor of routing paths. A sensitivity is a finite difference: in one layer at a time the lower half of each "
      "token's ranks (rank 2 of 2) is dropped and the others' weights are renormalised; the mean loss over the prompts "
      "rises by dL = w (1 - a)^2 / 2, with a the weight that stays, which is solved for w over the mean of (1 - a)^2. "
      "An expert's importance is the rise of the loss when it alone is in int2 and all others in int4");
  command->add_option("MODEL", options->model, "GGUF file of a mixture-of-experts model")->type_name("")->required();
  command
      ->add_option(
          "--prompts", options->prompts,
          "Texts to learn from: a JSON object of lists {\"workload\": [\"prompt\", ...]}, or one prompt a line; "
          "use none that policies will be judged on")
      ->type_name("FILE")
      ->required();
  command->add_option("--out", options->out, "Prior to write, a JSON file for --prior")->type_name("FILE")->required();
  command
      ->add_option("--judge", options->judge,
                   "Other texts, as in --prompts, on which predictions are scored and nothing is learned [for the demo "
                   "model its workloads, else none]")
      ->type_name("FILE");
  command
      ->add_option("--generate", rule.recording.generate,
                   "Tokens that each prompt goes on with, for what is learned of decode [256]")
      ->type_name("N")
      ->check(whole_range(0, 1 << 20));
  command->add_option("--continuations", rule.recording.continuations, "Drawn for each prompt [3]")
      ->type_name("N")
      ->check(whole_range(1, 1000));
  command->add_option("--temperature", rule.recording.temperature, "Of the draws, 0 to 100 [1]")
      ->type_name("T")
      ->check(real_range(0, 100));
  command->add_option("--seed", rule.recording.seed, "Of all that is random [0]")
      ->type_name("N")
      ->check(whole_range(0, std::numeric_limits<std::int64_t>::max()));
  command
      ->add_option("--sensitivity-tokens", rule.sensitivity_tokens,
                   "Read once for each layer to measure sensitivities, whole prompts; 0 leaves them out [16384]")
      ->type_name("N")
      ->check(whole_range(0, std::int64_t{1} << 40));
  command
      ->add_option("--importance-tokens", rule.importance_tokens,
                   "Read once for each expert to measure its importance, whole prompts; 0 leaves it out [2048]")
      ->type_name("N")
      ->check(whole_range(0, std::int64_t{1} << 40));
  command->add_option("--threads", options->threads, "CPU threads, 1 to 1024; never changes a result [all cores]")
      ->type_name("N")
      ->check(whole_range(1, 1024));
  command->callback([&action, options] {
    action = [options] {
      options->rule.routing_path.seed = options->rule.recording.seed;
      return run_learn(*options);
    };
  });
}

}  // namespace expertscope
