// Several GPUs of one emulated machine: experts are divided over them, the rest is the first one's.
#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "engine/error.h"
#include "engine/run/replay.h"
#include "tests/engine/emulated_run.h"

namespace expertscope {
namespace {

constexpr int kGpus = 4;
const char* const kFour = "a6000x4-pcie4";
const std::vector<std::string> kPrompts = {kTale, "The river runs", "for (int i = 0; i < n; ++i) {", "Der König hatte"};

std::unique_ptr<EmulatedRun> run_of(const std::string& policy, double ratio, const MachineProfile& profile,
                                    int sequences = 1) {
  auto run = std::make_unique<EmulatedRun>(policy, ratio, profile, "mixtral-8x7b-q4");
  const ModelDescription& d = demo_model().description();
  run->options.prior =
      load_prior(std::string(ES_ASSETS_DIR) + "/model/tidepool-42m-moe.prior.json", d.layers, d.router.experts);
  run->options.sequences = sequences;
  return run;
}

std::vector<std::vector<std::int32_t>> decode(EmulatedRun& run, int tokens = 8) {
  std::vector<BatchPrompt> batch;
  for (int i = 0; i < run.options.sequences; ++i)
    batch.push_back(
        {.item = {.workload = "", .text = kPrompts[static_cast<std::size_t>(i)], .ids = {}}, .tokens = tokens});
  return run.runner().run_batch(batch);
}

RecordedEvents events_on(const std::string& policy, double ratio, const MachineProfile& profile, int sequences = 4) {
  const auto run = run_of(policy, ratio, profile, sequences);
  decode(*run);
  return run->events;
}

RecordedEvents on_four(const std::string& policy, double ratio, int sequences = 4) {
  return events_on(policy, ratio, load_profile(kFour), sequences);
}

// The GPU of each expert, by its demands.
std::map<ExpertId, int> homes(const RecordedEvents& e) {
  std::map<ExpertId, int> found;
  for (const DemandRecord& d : e.demands) found[{d.layer, d.expert}] = d.device;
  return found;
}

bool is_exact(std::string_view preset) {
  return std::ranges::any_of(preset_decls(),
                             [&](const PresetDecl& p) { return p.name == preset && p.exact && !p.replay_only; });
}

TEST(Devices, ExactPresetsSayOnFourGpusWhatTheySayOnOne) {
  const auto one = run_of("resident", 1, load_profile("a6000-pcie4"), 4);
  const auto expected = decode(*one);
  for (const PresetDecl& p : preset_decls()) {
    if (!is_exact(p.name)) continue;
    for (const char* balance : {"even", "greedy", "anti-correlation"}) {
      const std::string policy = std::string(p.name) + ":capacity.balance=" + balance;
      const auto four = run_of(policy, p.name == "resident" ? 1 : 0.25, load_profile(kFour), 4);
      ASSERT_EQ(decode(*four), expected) << policy;
    }
  }
}

TEST(Devices, InexactPresetsRunOnFourGpus) {
  for (const PresetDecl& p : preset_decls()) {
    if (p.exact || p.replay_only) continue;
    const RecordedEvents e = on_four(std::string(p.name), 0.25);
    const std::map<ExpertId, int> home = homes(e);
    EXPECT_GT(home.size(), 100U) << p.name;
    for (const WorkRecord& w : e.works) {
      if (w.kind != WorkKind::expert || w.lane != Lane::gpu) continue;
      ASSERT_EQ(w.device, home.at({w.layer, w.expert})) << p.name;
    }
  }
}

TEST(Devices, EachExpertsSlotsCopiesAndWorkAreOnItsGpu) {
  for (const char* policy : {"on-demand", "expert-buffering", "moe-infinity", "mixtral-offloading"}) {
    SCOPED_TRACE(policy);
    const RecordedEvents e = on_four(policy, 0.25);
    const std::map<ExpertId, int> home = homes(e);
    std::map<int, std::set<int>> experts_of_first_layer;
    for (const auto& [id, device] : home) {
      if (id.layer == 0) experts_of_first_layer[device].insert(id.expert);
    }
    ASSERT_EQ(experts_of_first_layer.size(), 4U);
    for (const auto& [device, experts] : experts_of_first_layer) EXPECT_EQ(experts.size(), 4U) << device;
    for (const WorkRecord& w : e.works) {
      if (w.lane != Lane::gpu) continue;
      ASSERT_EQ(w.device, w.expert == kNone16 ? 0 : home.at({w.layer, w.expert}));
    }
    for (const CopyRecord& c : e.copies) {
      if (!is_expert_copy(c.reason)) continue;
      ASSERT_EQ(c.device, home.at({c.layer, c.expert}));
    }
    for (const ResidencyRecord& r : e.residency) ASSERT_EQ(r.device, home.at({r.layer, r.expert}));
  }
}

TEST(Devices, TheCacheIsDividedOverThem) {
  for (const char* capacity : {"per-layer", "global"}) {
    const RecordedEvents e = on_four(std::string("on-demand:capacity=") + capacity, 0.25);
    EXPECT_EQ(e.info.slots, 48U);
    std::map<int, int> resident, most;
    for (const ResidencyRecord& r : e.residency) {
      int& now = resident[r.device];
      now += r.change == ResidencyChange::loaded ? 1 : -1;
      most[r.device] = std::max(most[r.device], now);
    }
    EXPECT_EQ(most, (std::map<int, int>{{0, 12}, {1, 12}, {2, 12}, {3, 12}})) << capacity;
  }
}

TEST(Devices, WorkAndCopyAtTheSameTime) {
  const RecordedEvents e = on_four("on-demand", 0.25);
  const auto overlap = [](const auto& records, auto&& counts) {
    std::set<std::pair<int, int>> pairs;
    for (std::size_t i = 0; i < records.size(); ++i) {
      for (std::size_t j = i + 1; j < std::min(records.size(), i + 16); ++j) {
        const auto &a = records[i], &b = records[j];
        if (!counts(a) || !counts(b) || a.device == b.device) continue;
        if (a.start_ns < b.end_ns && b.start_ns < a.end_ns) pairs.insert(std::minmax<int>(a.device, b.device));
      }
    }
    return pairs.size();
  };
  EXPECT_EQ(overlap(e.works, [](const WorkRecord& w) { return w.kind == WorkKind::expert; }), 6U);
  EXPECT_EQ(overlap(e.copies, [](const CopyRecord& c) { return is_expert_copy(c.reason); }), 6U);
}

TEST(Devices, FourLinksFetchABatchsExpertsFasterThanOne) {
  const double one = events_on("on-demand", 0.25, load_profile("a6000-pcie4")).decode_seconds();
  MachineProfile four = load_profile(kFour);
  const double apart = events_on("on-demand", 0.25, four).decode_seconds();
  EXPECT_GT(one / apart, 1.5);
  EXPECT_LT(one / apart, 4);
  // Links that must share what host memory gives are no faster than one.
  four.host.memory_bytes_per_s = four.host.shared_memory_bytes_per_s = four.link.h2d_bytes_per_s;
  EXPECT_GT(events_on("on-demand", 0.25, four).decode_seconds(), 0.9 * one);
}

// Bytes of activations by (step, layer), lane and GPU.
using Moved = std::map<std::tuple<std::uint32_t, int, Lane, int>, std::int64_t>;
Moved activations(const RecordedEvents& e) {
  Moved moved;
  for (const CopyRecord& c : e.copies) {
    if (c.reason == CopyReason::activation) moved[{c.step, c.layer, c.lane, c.device}] += c.bytes;
  }
  return moved;
}

TEST(Devices, RowsGoToTheirExpertsThroughTheHostAndComeBack) {
  const RecordedEvents e = on_four("on-demand", 0.25);
  Moved expected;
  const auto row_bytes = static_cast<std::int64_t>(load_cost_shape("mixtral-8x7b-q4", demo_model()).width * 4);
  for (const DemandRecord& d : e.demands) {
    if (d.device == 0) continue;
    for (const auto& [lane, device] : {std::pair(Lane::d2h, 0), std::pair(Lane::h2d, int{d.device}),
                                       std::pair(Lane::d2h, int{d.device}), std::pair(Lane::h2d, 0)})
      expected[{d.step, d.layer, lane, device}] += d.picks * row_bytes;
  }
  EXPECT_EQ(activations(e), expected);
}

TEST(Devices, PeersSendRowsWithoutTheHost) {
  MachineProfile peers = load_profile(kFour);
  peers.peer_bytes_per_s = 50e9;
  const RecordedEvents direct = events_on("on-demand", 1, peers), by_host = on_four("on-demand", 1);
  for (const auto& [key, bytes] : activations(direct)) EXPECT_EQ(std::get<Lane>(key), Lane::d2h);
  std::int64_t sent = 0, through = 0;
  for (const auto& [key, bytes] : activations(direct)) sent += bytes;
  for (const auto& [key, bytes] : activations(by_host)) through += bytes;
  EXPECT_EQ(through, 2 * sent);
  EXPECT_LT(direct.decode_seconds(), by_host.decode_seconds());
}

TEST(Devices, TheSumWaitsForResultsOfEveryGpu) {
  const RecordedEvents e = on_four("on-demand", 0.25);
  std::map<std::pair<std::uint32_t, int>, TimeNs> last_result;
  for (const CopyRecord& c : e.copies) {
    if (c.reason == CopyReason::activation && c.lane == Lane::h2d && c.device == 0)
      last_result[{c.step, c.layer}] = std::max(last_result[{c.step, c.layer}], c.end_ns);
  }
  ASSERT_FALSE(last_result.empty());
  for (const WorkRecord& w : e.works) {
    const auto found = last_result.find({w.step, w.layer});
    if (w.kind != WorkKind::combine || found == last_result.end()) continue;
    EXPECT_GE(w.start_ns, found->second);
  }
}

TEST(Devices, DemandsAndBytesAddUp) {
  for (const char* policy : {"on-demand", "expert-buffering", "on-demand:capacity=global"}) {
    const RecordedEvents e = on_four(policy, 0.25);
    EXPECT_EQ(e.count(DemandState::hit) + e.count(DemandState::late) + e.count(DemandState::miss),
              static_cast<std::int64_t>(e.demands.size()));
    EXPECT_EQ(e.count(Outcome::fetched) + e.count(Outcome::streamed), e.expert_copies()) << policy;
    EXPECT_EQ(e.count(DemandState::miss), e.expert_copies()) << policy;
    EXPECT_EQ(e.count(DemandState::hit), e.count(Outcome::gpu)) << policy;
  }
}

TEST(Devices, EqualRunsAreEqualAndAReplayIsTheRun) {
  for (const char* policy : {"on-demand", "expert-buffering", "expert-buffering:capacity.balance=anti-correlation",
                             "lookahead:capacity=global", "mixtral-offloading", "resident"}) {
    SCOPED_TRACE(policy);
    const double ratio = std::string(policy) == "resident" ? 1 : 0.25;
    const RecordedEvents run = on_four(policy, ratio);
    EXPECT_EQ(events_of(on_four(policy, ratio)), events_of(run));
    RecordedEvents again;
    RecordedRun recorded = run.recorded();
    const ModelDescription& d = demo_model().description();
    ReplayRequest request;
    request.prior =
        load_prior(std::string(ES_ASSETS_DIR) + "/model/tidepool-42m-moe.prior.json", d.layers, d.router.experts);
    replay(recorded, request, again);
    EXPECT_EQ(events_of(again), events_of(run));
  }
}

TEST(Devices, ChangingTheBalanceMovesExpertsAndNoToken) {
  const auto plain = run_of("on-demand", 0.5, load_profile("a6000-pcie4"), 2);
  const auto expected = decode(*plain, 24);
  const auto run = run_of("mixtral-offloading", 0.5, load_profile(kFour), 2);
  run->runner().set_boundary_hook([&](std::uint32_t token, TimeNs) {
    if (token == 6)
      run->runner().apply({.kind = CommandKind::set_policy, .text = "mixtral-offloading:capacity.balance=greedy"});
    if (token == 14)
      run->runner().apply({.kind = CommandKind::set_policy, .text = "on-demand:capacity.balance=anti-correlation"});
    if (token == 22) run->runner().apply({.kind = CommandKind::set_cache_ratio, .text = "", .value = 0.3});
    if (token == 30) run->runner().apply({.kind = CommandKind::set_policy, .text = "lookahead"});
    return true;
  });
  EXPECT_EQ(decode(*run, 24), expected);
  EXPECT_EQ(run->events.epochs.size(), 5U);
  std::set<std::vector<int>> divisions;
  std::map<std::uint32_t, std::map<ExpertId, int>> by_epoch;
  for (const DemandRecord& d : run->events.demands) {
    for (const StepRecord& s : run->events.steps) {
      if (s.step == d.step) by_epoch[s.epoch][{d.layer, d.expert}] = d.device;
    }
  }
  EXPECT_NE(by_epoch[0], by_epoch[1]);
}

TEST(Devices, WithoutAPriorNeighboursShareAGpuAndHealthSaysSo) {
  const auto run = run_of("expert-buffering", 0.25, load_profile(kFour));
  run->options.prior.reset();
  decode(*run);
  for (const auto& [id, device] : homes(run->events)) EXPECT_EQ(device, id.expert / 4);
  ASSERT_FALSE(run->events.health.empty());
  EXPECT_EQ(run->events.health[0].text,
            "no prior says how busy experts are: neighbours by number share a GPU; give --prior");
}

std::string refusal(const MachineProfile& profile, const std::string& shape, double ratio) {
  try {
    EmulatedRun run("on-demand", ratio, profile, shape);
    run.runner();
  } catch (const InputError& e) {
    return e.what();
  }
  return "";
}

TEST(Devices, EachOnesMemoryIsALimitOfItsOwn) {
  // What one A6000 cannot hold, four can.
  EXPECT_NE(refusal(load_profile("a6000-pcie4"), "mixtral-8x7b-bf16", 1), "");
  EXPECT_EQ(refusal(load_profile(kFour), "mixtral-8x7b-bf16", 1), "");
  MachineProfile uneven = load_profile(kFour);
  uneven.gpus[2].memory_bytes = 10'000'000'000;
  EXPECT_EQ(refusal(uneven, "mixtral-8x7b-bf16", 1),
            "machine a6000x4-pcie4: the memory of GPU 2 has 10.00 GB and 17.62 GB are needed (mixtral-8x7b-bf16 cost "
            "shape: dense weights 0.00 + KV cache of 1 sequence 0.00 + 48 expert slots 16.91 + 2 staging slots 0.70): "
            "lower the cache ratio or choose another machine or --cost-shape");
}

TEST(Devices, UnifiedMemoryHasOneGpu) {
  MachineProfile odd = load_profile("jetson-orin");
  odd.gpus.push_back(odd.gpus[0]);
  EXPECT_THROW(parse_profile(to_json(odd), "odd"), InputError);
}

// --- static gating

TEST(StaticGating, ComputesItsCapacityOfRowsInEveryExpertWhateverItWasGiven) {
  const auto run = run_of("resident:gate=static-capacity,gate.factor=0.5", 1, load_profile(kFour), 4);
  decode(*run);
  const std::int64_t one_row =
      2 * static_cast<std::int64_t>(load_cost_shape("mixtral-8x7b-q4", demo_model()).expert_parameters);
  std::map<std::uint32_t, int> tokens;
  for (const StepRecord& s : run->events.steps) tokens[s.step] = s.tokens;
  std::map<std::pair<std::uint32_t, int>, int> experts;
  for (const WorkRecord& w : run->events.works) {
    if (w.kind != WorkKind::expert) continue;
    ++experts[{w.step, w.layer}];
    const int room = (tokens.at(w.step) + 1) / 2;
    EXPECT_EQ(w.flops, room * one_row);
    EXPECT_LE(w.tokens, room);
  }
  for (const auto& [key, count] : experts) EXPECT_EQ(count, 16);
}

TEST(StaticGating, FetchesExpertsThatNobodyWants) {
  const auto run = run_of("on-demand:gate=static-capacity,gate.factor=1", 0.25, load_profile(kFour));
  const auto dynamic = run_of("on-demand", 0.25, load_profile(kFour));
  EXPECT_EQ(decode(*run), decode(*dynamic)) << "with room for all nothing is dropped";
  EXPECT_GT(run->events.expert_copies(), 4 * dynamic->events.expert_copies());
}

TEST(StaticGating, TakesMoreTimeAndMemoryThanExactBatches) {
  const auto padded = run_of("resident:gate=static-capacity,gate.factor=1", 1, load_profile(kFour), 4);
  const auto exact = run_of("resident", 1, load_profile(kFour), 4);
  decode(*padded);
  decode(*exact);
  EXPECT_GT(padded->events.decode_seconds(), 1.3 * exact->events.decode_seconds());
  // The longest prompt's chunk: rows in and out, and for padding a mask of tokens by experts by rows in 32 bits.
  std::int64_t longest = 0;
  for (const StepRecord& s : exact->events.steps) longest = std::max<std::int64_t>(longest, s.tokens);
  const auto row_bytes = static_cast<std::int64_t>(load_cost_shape("mixtral-8x7b-q4", demo_model()).width * 4);
  EXPECT_EQ(exact->events.info.memory.work_bytes, 2 * 2 * longest * row_bytes);
  EXPECT_EQ(padded->events.info.memory.work_bytes, 2 * 16 * longest * row_bytes + 4 * 16 * longest * longest);
}

}  // namespace
}  // namespace expertscope
