// What policies may do on emulated machines does the same on the CUDA device: inexact gates, lower precisions, several
// sequences, a bounded host memory. Skipped where there is no device.
#include <cmath>
#include <random>

#include "engine/error.h"
#include "engine/inexact.h"
#include "engine/model/arithmetic.h"
#include "tests/engine/machines/cuda_run.h"
#include "tests/engine/model/demo_model.h"

namespace expertscope {
namespace {

Prior demo_prior() {
  const ModelDescription& d = demo_model().description();
  return load_prior(std::string(ES_ASSETS_DIR) + "/model/tidepool-42m-moe.prior.json", d.layers, d.router.experts);
}

// The same run on an emulated machine that is about as fast as the device.
struct EmulatedTwin {
  EmulatedTwin(const std::string& policy, double ratio, const ChangeOptions& change)
      : arithmetic(demo_model(), pool, kCudaChunk, 8),
        machine(make_emulated_machine(load_profile("h100-pcie5"), own_shape(demo_model()),
                                      run_shape(demo_model().description(), kCudaChunk), &demo_model(), &arithmetic)) {
    options.policy = parse_policy_spec(policy);
    options.cache_ratio = ratio;
    options.prefill_chunk = kCudaChunk;
    options.record_logits = 16;
    options.record_gates = 0;
    change(options);
    runner = std::make_unique<Runner>(demo_model(), *machine, &events, options);
  }
  RunOptions options;
  ThreadPool pool{4};
  Arithmetic arithmetic;
  std::unique_ptr<Machine> machine;
  RecordedEvents events;
  std::unique_ptr<Runner> runner;
};

void with_prior(RunOptions& options) {
  options.prior = demo_prior();
}

// A golden text, cut to so many tokens.
std::vector<std::int32_t> golden_text(std::size_t tokens) {
  const nlohmann::json& golden = golden_outputs().begin().value();
  std::vector<std::int32_t> ids = demo_model().tokenizer().encode(golden["prompt"].get<std::string>());
  const auto greedy = golden["greedy_ids"].get<std::vector<std::int32_t>>();
  ids.insert(ids.end(), greedy.begin(), greedy.end());
  while (ids.size() < tokens) ids.insert(ids.end(), greedy.begin(), greedy.end());
  ids.resize(tokens);
  return ids;
}

// What a policy does to a text: decoded along it beside the exact computation, then read as a prompt.
struct Said {
  QualityRecord quality;
  LogitsRecord prompt;
  std::int64_t demands = 0, low = 0, inexact = 0;
  double kl() const { return quality.kl_sum / static_cast<double>(quality.shadowed); }
  double agreed() const { return static_cast<double>(quality.agreed) / static_cast<double>(quality.shadowed); }
};
template <typename Run>
Said said_by(Run& run, std::size_t prompt_tokens) {
  ThreadPool pool(2);
  ExactShadow shadow(demo_model(), pool, kCudaChunk, 1, 10'000);
  run.runner->set_shadow(&shadow);
  run.runner->run_forced({"", "", golden_text(40)}, 39);
  run.runner->set_shadow(nullptr);
  Said said;
  for (const QualityRecord& q : run.events.quality) {
    said.quality.kl_sum += q.kl_sum;
    said.quality.shadowed += q.shadowed;
    said.quality.agreed += q.agreed;
  }
  run.runner->run_prompt({"", "", golden_text(prompt_tokens)}, 1);
  said.prompt = run.events.logits.back();
  for (const DemandRecord& d : run.events.demands) {
    ++said.demands;
    said.low += d.precision != Precision::native;
    said.inexact += is_inexact(d);
  }
  return said;
}

std::string text_of(const Said& s) {
  std::string text = "KL " + std::to_string(s.kl()) + " over " + std::to_string(s.quality.shadowed) +
                     " tokens, agreed " + std::to_string(s.agreed()) + ", demands " + std::to_string(s.demands) +
                     ", low " + std::to_string(s.low) + ", inexact " + std::to_string(s.inexact) + ", prompt's best:";
  for (std::size_t i = 0; i < 4; ++i)
    text += " " + std::to_string(s.prompt.best[i].first) + ":" + std::to_string(s.prompt.best[i].second);
  return text;
}

// Largest difference between logits of tokens that are among the best of both.
double difference(const LogitsRecord& a, const LogitsRecord& b) {
  double worst = 0;
  for (const auto& [id, logit] : a.best) {
    for (const auto& [other, its] : b.best)
      if (id == other) worst = std::max(worst, std::abs(static_cast<double>(logit - its)));
  }
  return worst;
}

// A long prompt's products are in float16 here, a near tie may then choose other experts.
void expect_the_same(const std::string& policy, double ratio, std::size_t prompt_tokens) {
  SCOPED_TRACE(policy + " at " + std::to_string(ratio) + ", prompt of " + std::to_string(prompt_tokens));
  CudaRun real(demo_model(), policy, ratio, with_prior);
  EmulatedTwin twin(policy, ratio, with_prior);
  const Said here = said_by(real, prompt_tokens), there = said_by(twin, prompt_tokens);
  const std::string both = "CUDA: " + text_of(here) + "\nemulated: " + text_of(there);
  EXPECT_EQ(here.quality.shadowed, there.quality.shadowed) << both;
  EXPECT_NEAR(here.kl(), there.kl(), 0.03 * there.kl() + 2e-3) << both;
  EXPECT_NEAR(here.agreed(), there.agreed(), 0.06) << both;
  EXPECT_LE(difference(here.prompt, there.prompt), prompt_tokens < 64 ? 2e-2 : 0.2) << both;
  if (prompt_tokens < 64) {
    // Decode rounds weights to float16: a near tie may go the other way.
    EXPECT_NEAR(static_cast<double>(here.demands), static_cast<double>(there.demands), 4) << both;
    EXPECT_NEAR(static_cast<double>(here.inexact), static_cast<double>(there.inexact), 4) << both;
    EXPECT_NEAR(static_cast<double>(here.low), static_cast<double>(there.low), 4) << both;
  }
}

// Gates whose decisions do not depend on what has arrived when.
TEST(CudaPolicies, AGateDoesWhatItDoesOnAnEmulatedMachine) {
  NEEDS_DEVICE();
  for (const char* policy :
       {"adapmoe", "adapmoe:gate.tolerance=0.02", "on-demand:gate=pruned",
        "on-demand:gate=pruned,gate.share=0,gate.zero_below=0.4", "on-demand:gate=static-capacity,gate.factor=0.1",
        "lookahead:gate=pruned,gate.renormalise=0", "cpu-only:gate=pruned", "split:gate=pruned"}) {
    for (double ratio : {0.0, 0.25, 1.0}) expect_the_same(policy, ratio, 24);
    expect_the_same(policy, 0.25, 150);
  }
}

// With max_cpu at top-k the predicted experts run whether or not they are there: on the CPU a layer early, or at once.
TEST(CudaPolicies, APredictedLayerRunsWhatWasPredicted) {
  NEEDS_DEVICE();
  for (const char* policy : {"daop:gate.max_cpu=2", "daop:gate.max_cpu=2,gate.first_layer=1",
                             "daop:gate.max_cpu=2,placer=fetch", "daop:gate.max_cpu=2,gate.renormalise=0"}) {
    for (double ratio : {0.0, 0.25, 1.0}) expect_the_same(policy, ratio, 24);
  }
  CudaRun run(demo_model(), "daop", 0.25, with_prior);
  const Said said = said_by(run, 24);
  EXPECT_GT(run.events.count(Outcome::cpu_early), 0) << text_of(said);
  EXPECT_GT(said.kl(), 0) << text_of(said);
}

TEST(CudaPolicies, ExpertsOfLowerPrecisionSayWhatTheyDoOnTheCpu) {
  NEEDS_DEVICE();
  for (const char* bits : {"int8", "int4", "int2"}) {
    const std::string lowered = std::string("precision=lowered,precision.bits=") + bits;
    for (double ratio : {0.0, 0.25, 1.0}) expect_the_same("on-demand:" + lowered, ratio, 24);
    expect_the_same("on-demand:" + lowered, 0.25, 150);
    expect_the_same("cpu-only:" + lowered, 0.25, 24);
    expect_the_same("lookahead:" + lowered, 0.25, 24);
    expect_the_same("daop:gate.max_cpu=2,placer=fetch," + lowered, 1.0, 24);
  }
}

// What HOBBIT skips and lowers depends on what has arrived, and so on real times.
TEST(CudaPolicies, HobbitSkipsAndLowersAboutAsOnAnEmulatedMachine) {
  NEEDS_DEVICE();
  for (const char* policy :
       {"hobbit", "hobbit:precision.low=int2", "hobbit:gate.skip_above=0.7,precision.low_above=0.55"}) {
    for (double ratio : {0.125, 0.25}) {
      SCOPED_TRACE(policy + std::string(" at ") + std::to_string(ratio));
      CudaRun real(demo_model(), policy, ratio, with_prior);
      EmulatedTwin twin(policy, ratio, with_prior);
      const Said here = said_by(real, 24), there = said_by(twin, 24);
      const std::string both = "CUDA: " + text_of(here) + "\nemulated: " + text_of(there);
      EXPECT_LT(here.kl(), 5 * there.kl() + 0.02) << both;
      EXPECT_NEAR(here.agreed(), there.agreed(), 0.15) << both;
      EXPECT_GT(here.low, 0) << both;
      EXPECT_NEAR(static_cast<double>(here.demands), static_cast<double>(there.demands), 10) << both;
    }
  }
}

void expect_golden(CudaRun& run) {
  for (const auto& [name, golden] : golden_outputs().items()) {
    SCOPED_TRACE(name);
    EXPECT_EQ(run.runner->run_prompt({"", golden["prompt"].get<std::string>(), {}}, 24), [&] {
      auto ids = golden["greedy_ids"].get<std::vector<std::int32_t>>();
      ids.resize(24);
      return ids;
    }());
  }
}

TEST(CudaPolicies, WithItsLossyKnobOffALossyPolicyIsExact) {
  NEEDS_DEVICE();
  for (const char* policy : {"daop:gate=router", "hobbit:gate.skip_above=1,precision.low_above=1",
                             "hobbit:gate=router,precision=native", "adapmoe:gate.tolerance=0",
                             "on-demand:gate=pruned,gate.share=0", "on-demand:gate=static-capacity,gate.factor=1",
                             "moe-infinity:gate=pruned,gate.share=0", "edgemoe:precision=native"}) {
    for (double ratio : {0.125, 0.5}) {
      SCOPED_TRACE(policy + std::string(" at ") + std::to_string(ratio));
      CudaRun run(demo_model(), policy, ratio, with_prior);
      expect_golden(run);
      const Said said = said_by(run, 24);
      EXPECT_LT(said.kl(), 1e-3) << text_of(said);
      EXPECT_EQ(said.inexact, 0) << text_of(said);
    }
  }
}

// Whatever inexact policies, precisions and cache sizes came before, an exact policy is exact.
TEST(CudaPolicies, AnExactPolicyAfterInexactOnesIsExact) {
  NEEDS_DEVICE();
  const std::vector<std::string> policies = {"daop",
                                             "hobbit",
                                             "hobbit:precision.low=int2",
                                             "adapmoe",
                                             "on-demand:gate=pruned",
                                             "lookahead:precision=lowered,precision.bits=int4",
                                             "mixtral-offloading:precision=lowered,precision.bits=int8",
                                             "mixtral-offloading",
                                             "split"};
  CudaRun run(demo_model(), "on-demand", 0.25, with_prior);
  std::mt19937 random(7);
  std::string schedule;
  for (int round = 0; round < 12; ++round) {
    const std::string& policy = policies[random() % policies.size()];
    const double ratio = static_cast<double>(1 + random() % 8) / 8;
    schedule += " " + policy + "@" + std::to_string(ratio);
    SCOPED_TRACE(schedule);
    run.runner->apply({.kind = CommandKind::set_policy, .text = policy});
    run.runner->apply({.kind = CommandKind::set_cache_ratio, .text = "", .value = ratio});
    run.runner->run_prompt({"", "", golden_text(30)}, 6);
    if (round % 3 != 2) continue;
    run.runner->apply({.kind = CommandKind::set_policy, .text = "on-demand"});
    expect_golden(run);
  }
}

// --- several sequences

const std::vector<std::string> kPrompts = {"Once upon a time there was", "The river runs",
                                           "for (int i = 0; i < n; ++i) {", "def sum(values):"};

std::vector<BatchPrompt> batch_of(std::size_t prompts, const std::vector<int>& tokens) {
  std::vector<BatchPrompt> batch;
  for (std::size_t i = 0; i < prompts; ++i)
    batch.push_back({.item = {.workload = "", .text = kPrompts[i], .ids = {}}, .tokens = tokens[i % tokens.size()]});
  return batch;
}

TEST(CudaSequences, DecodedTogetherSayWhatEachSaysAlone) {
  NEEDS_DEVICE();
  const std::vector<int> tokens = {20, 9, 14, 17};
  std::vector<std::vector<std::int32_t>> alone;
  {
    CudaRun run(demo_model(), "on-demand", 0.25);
    for (const BatchPrompt& p : batch_of(4, tokens)) alone.push_back(run.runner->run_prompt(p.item, p.tokens));
  }
  for (const char* policy : {"on-demand", "split", "cpu-only", "lookahead", "expertflow", "resident"}) {
    for (int sequences : {2, 3}) {
      SCOPED_TRACE(policy + std::string(", sequences ") + std::to_string(sequences));
      CudaRun run(demo_model(), policy, policy == std::string("resident") ? 1 : 0.25, [&](RunOptions& options) {
        with_prior(options);
        options.sequences = sequences;
      });
      const auto held = std::min<std::size_t>(4, static_cast<std::size_t>(run.runner->batch_prompts()));
      const auto together = run.runner->run_batch(batch_of(held, tokens));
      EXPECT_EQ(together, decltype(alone)(alone.begin(), alone.begin() + static_cast<std::ptrdiff_t>(held)));
      EXPECT_EQ(run.runner->run_prompt({"", kPrompts[1], {}}, tokens[1]), alone[1]) << "one after the batch";
    }
  }
}

TEST(CudaSequences, OfAPredictedLayerRunWhatTheyDoOnAnEmulatedMachine) {
  NEEDS_DEVICE();
  const auto two = [](RunOptions& options) {
    with_prior(options);
    options.sequences = 2;
  };
  for (const char* policy : {"daop:gate.max_cpu=2,gate.first_layer=1", "on-demand:gate=pruned"}) {
    CudaRun real(demo_model(), policy, 0.25, two);
    EmulatedTwin twin(policy, 0.25, two);
    EXPECT_EQ(real.runner->run_batch(batch_of(2, {12})), twin.runner->run_batch(batch_of(2, {12}))) << policy;
  }
}

TEST(CudaSequences, EachHaveTheirOwnKvMemory) {
  NEEDS_DEVICE();
  const auto kv_bytes = [](int sequences) {
    CudaRun run(demo_model(), "on-demand", 0.25, [&](RunOptions& options) { options.sequences = sequences; });
    return run.machine->memory().kv_bytes;
  };
  EXPECT_EQ(kv_bytes(3), 3 * kv_bytes(1));
}

// --- host memory that holds a part of the experts

std::int64_t share_of_experts(double share) {
  return static_cast<std::int64_t>(share * static_cast<double>(demo_model().expert_bytes()));
}

TEST(CudaHostTier, SmallHostMemoryChangesNoTokenAndReadsFromTheFile) {
  NEEDS_DEVICE();
  const Model in_file(kDemoModelPath, ExpertHome::file);
  for (const char* policy : {"on-demand", "cpu-only", "split", "lookahead", "on-demand:gate=pruned,gate.share=0"}) {
    for (double share : {0.03, 0.25, 0.7}) {
      SCOPED_TRACE(policy + std::string(", host memory of ") + std::to_string(share));
      CudaRun run(in_file, policy, 0.25, with_prior, share_of_experts(share));
      expect_golden(run);
      EXPECT_LE(run.machine->memory().host_bytes, share_of_experts(share));
      run.machine->set_observer(nullptr);
      std::int64_t reads = 0, bytes = 0;
      TimeNs end = 0;
      for (const CopyRecord& c : run.events.copies) {
        if (c.lane != Lane::storage) continue;
        ++reads, bytes += c.bytes;
        EXPECT_LE(c.issued_ns, c.start_ns);
        EXPECT_LT(c.start_ns, c.end_ns);
        EXPECT_LE(end, c.start_ns) << "reads do not overlap";
        end = c.end_ns;
      }
      EXPECT_GT(reads, 0);
      EXPECT_EQ(bytes, reads * in_file.blob_layout(0).bytes);
    }
  }
}

TEST(CudaHostTier, LowerPrecisionsAreReadFromStorageAndChangeNoFurtherToken) {
  NEEDS_DEVICE();
  const Model in_file(kDemoModelPath, ExpertHome::file);
  const PromptItem item{"", kPrompts[0], {}};
  for (const char* policy : {"edgemoe", "on-demand:precision=lowered,precision.bits=int8",
                             "cpu-only:precision=lowered,precision.bits=int4"}) {
    SCOPED_TRACE(policy);
    CudaRun in_memory(demo_model(), policy, 0.25, with_prior);
    const auto expected = in_memory.runner->run_prompt(item, 24);
    CudaRun run(in_file, policy, 0.25, with_prior, share_of_experts(0.25));
    EXPECT_EQ(run.runner->run_prompt(item, 24), expected);
    run.machine->set_observer(nullptr);
    std::int64_t lower = 0;
    for (const CopyRecord& c : run.events.copies) {
      if (c.lane != Lane::storage || c.precision == Precision::native) continue;
      ++lower;
      EXPECT_LE(c.bytes, in_file.blob_layout(0).bytes);  // the file's own precision is eight bits
    }
    EXPECT_GT(lower, 0);
  }
}

TEST(CudaHostTier, RefusesWhatItCannotHold) {
  NEEDS_DEVICE();
  const Model in_file(kDemoModelPath, ExpertHome::file);
  EXPECT_THROW(CudaRun(in_file, "on-demand", 0.25, {}, 1000), InputError) << "not even one expert";
}

}  // namespace
}  // namespace expertscope
