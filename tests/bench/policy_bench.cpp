// What deciding costs: microseconds that a layer's plan takes the host, evictions and prefetches included, by preset,
// in decode at batch 1; what is decided before a step's first layer is shared by its layers. The machine behind it does
// nothing; its clock is read where the executor says that it decides.
// Two shapes: 12 layers of 16 experts, top-2, with the demo model's prior, and 48 of 128, top-8, without one.
#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "engine/machines/layer_routing.h"
#include "engine/run/executor.h"

namespace expertscope {
namespace {

using Clock = std::chrono::steady_clock;

struct Shape {
  int layers, experts, top_k;
};
constexpr Shape kShapes[] = {{12, 16, 2}, {48, 128, 8}};
constexpr int kTokens = 96;  // whose routes are taken in turn
constexpr double kCacheRatio = 0.25;

// Copies are there one layer after they were asked for.
class IdleMachine final : public Machine {
 public:
  explicit IdleMachine(const Shape& shape)
      : shape_(shape), table_(static_cast<std::size_t>(shape.layers * shape.experts), kNone16) {}

  double decided_s = 0;
  std::int64_t decisions = 0;

  void describe(RunInfo&) const override {}
  void set_observer(Observer*) override {}
  int gpus() const override { return 1; }
  TimeNs now() const override { return static_cast<TimeNs>(layers_begun_) * 1000; }

  void ensure_fits(const SlotCounts&) const override {}
  std::vector<SlotId> add_slots(int, int count, bool, Precision) override {
    std::vector<SlotId> slots(static_cast<std::size_t>(count));
    for (SlotId& s : slots) s = next_slot_++;
    return slots;
  }
  void remove_slot(SlotId) override {}
  MemoryUse memory() const override { return {}; }
  void prepare(Precision) override {}
  std::int64_t expert_bytes(Precision p) const override {
    return p == Precision::native ? 16 : p == Precision::int8 ? 8 : p == Precision::int4 ? 4 : 2;
  }

  Ticket copy_expert(const ExpertCopy& c) override {
    if (c.publish) table_[static_cast<std::size_t>(c.expert.layer * shape_.experts + c.expert.expert)] = c.slot;
    return layers_begun_ + 1;
  }
  void raise_copy(Ticket) override {}
  bool cancel_copy(Ticket) override { return false; }
  void unpublish(ExpertId id) override {
    table_[static_cast<std::size_t>(id.layer * shape_.experts + id.expert)] = kNone16;
  }
  bool is_done(Ticket t) override { return t < layers_begun_; }
  TimeNs wait(Ticket t) override {
    layers_begun_ = std::max(layers_begun_, t + 1);
    return now();
  }

  void begin_step(const StepInput&) override { began_ = Clock::now(); }
  void attention(int layer) override {
    if (layer == 0) decided_s += seconds_since_begun();
  }
  void router(const RouterRequest& r) override {
    ++layers_begun_;
    request_ = r;
    routes_.assign(r.given.begin(), r.given.end());
    truth_ = truth_groups_.group(r.layer, shape_.experts, routes_);
    demands_ = truth_;
    if (!r.executed.empty()) {
      executed_.assign(r.executed.begin(), r.executed.end());
      demands_ = executed_groups_.group(r.layer, shape_.experts, executed_);
    }
    if (!r.start_resident) return;
    for (Demand& d : demands_) {
      const auto i = static_cast<std::size_t>(r.layer * shape_.experts + d.expert.expert);
      if (table_[i] != kNone16) d.started = layers_begun_;
    }
  }
  LayerRoutes wait_routes() override {
    return {.asked_ns = now(), .tokens = routes_, .truth = truth_, .demands = demands_};
  }
  bool can_revise() const override { return true; }
  LayerRoutes revise(std::span<const RouteRecord> executed, int) override {
    executed_.assign(executed.begin(), executed.end());
    demands_ = executed_groups_.group(request_.layer, shape_.experts, executed_);
    return {.asked_ns = now(), .tokens = routes_, .truth = truth_, .demands = demands_};
  }
  Ticket expert_on_gpu(const Demand&, SlotId, Ticket, Precision) override { return layers_begun_; }
  Ticket expert_on_cpu(const Demand&, Precision) override { return layers_begun_; }
  Ticket expert_on_cpu_early(const Demand&) override { return layers_begun_; }
  void combine(int, std::span<const Ticket>) override {}
  void head() override {}
  void wait_logits() override {}
  std::span<const float> logits(int) const override { return {}; }
  void reset_sequence(int) override {}

  void begin_host_work(WorkKind) override { began_ = Clock::now(); }
  void end_host_work() override {
    decided_s += seconds_since_begun();
    ++decisions;
  }
  TimeNs completed_ns(Ticket t) const override { return static_cast<TimeNs>(t) * 1000; }
  TimeNs copy_cost_ns() const override { return 100'000; }
  TimeNs gpu_expert_cost_ns(int rows) const override { return 5'000 + 100 * rows; }
  TimeNs cpu_expert_cost_ns(int rows) const override { return 80'000 * rows; }

 private:
  double seconds_since_begun() const { return std::chrono::duration<double>(Clock::now() - began_).count(); }

  Shape shape_;
  std::vector<SlotId> table_;  // by expert, what the device starts from
  SlotId next_slot_ = 0;
  Ticket layers_begun_ = 1;
  RouterRequest request_;
  std::vector<RouteRecord> routes_, executed_;
  DemandGroups truth_groups_, executed_groups_;
  std::span<Demand> truth_, demands_;
  Clock::time_point began_;
};

// Routes with the locality of text: each pick stays with the next token half of the time. Gates of coming layers name
// what is picked there three times out of four. [token][layer]
std::vector<std::vector<RouteRecord>> routes_of(const Shape& shape) {
  std::mt19937 random(7);
  const auto draw = [&](int n) { return static_cast<std::uint16_t>(random() % static_cast<unsigned>(n)); };
  std::vector<std::vector<RouteRecord>> tokens(kTokens);
  const int entries = std::min(kGateEntries, shape.experts);
  const auto fill = [&](std::span<GateEntry> gate, std::span<const std::uint16_t> first, bool sure) {
    std::vector<std::uint16_t> order;
    const auto add = [&](std::uint16_t e) {
      if (std::ranges::find(order, e) == order.end()) order.push_back(e);
    };
    for (std::uint16_t e : first) add(sure || draw(4) != 0 ? e : draw(shape.experts));
    while (static_cast<int>(order.size()) < entries) add(draw(shape.experts));
    for (std::size_t i = 0; i < static_cast<std::size_t>(entries); ++i)
      gate[i] = {order[i], static_cast<std::uint16_t>(20000U >> i)};
  };
  for (int t = 0; t < kTokens; ++t) {
    for (int l = 0; l < shape.layers; ++l) {
      RouteRecord r{.layer = static_cast<std::uint16_t>(l), .picks = static_cast<std::uint8_t>(shape.top_k)};
      r.gate_entries = static_cast<std::uint8_t>(entries);
      for (int k = 0; k < shape.top_k; ++k) {
        const auto before = t > 0 && draw(2) == 0 ? tokens[static_cast<std::size_t>(t) - 1][static_cast<std::size_t>(l)]
                                                        .expert[static_cast<std::size_t>(k)]
                                                  : draw(shape.experts);
        std::uint16_t e = before;
        while (std::find(r.expert.begin(), r.expert.begin() + k, e) != r.expert.begin() + k) e = draw(shape.experts);
        r.expert[static_cast<std::size_t>(k)] = e;
        r.weight[static_cast<std::size_t>(k)] = 1.0f / static_cast<float>(shape.top_k);
      }
      fill(r.gate[0], {r.expert.data(), r.picks}, true);
      tokens[static_cast<std::size_t>(t)].push_back(r);
    }
    for (int l = 0; l < shape.layers; ++l) {
      RouteRecord& r = tokens[static_cast<std::size_t>(t)][static_cast<std::size_t>(l)];
      const int gates = std::min(kMaxLookahead, shape.layers - 1 - l);
      r.gates = static_cast<std::uint8_t>(1 + gates);
      for (int d = 1; d <= gates; ++d) {
        const RouteRecord& there = tokens[static_cast<std::size_t>(t)][static_cast<std::size_t>(l + d)];
        fill(r.gate[static_cast<std::size_t>(d)], {there.expert.data(), there.picks}, false);
      }
    }
  }
  return tokens;
}

void Layer(benchmark::State& state, const std::string& preset, const Shape& shape) {
  IdleMachine machine(shape);
  std::unique_ptr<Prior> prior;
  if (shape.experts == 16)
    prior = std::make_unique<Prior>(
        load_prior(std::string(ES_ASSETS_DIR) + "/model/tidepool-42m-moe.prior.json", shape.layers, shape.experts));
  Executor executor(machine, nullptr, {.layers = shape.layers, .experts = shape.experts, .top_k = shape.top_k},
                    prior.get(), nullptr);
  const int all = shape.layers * shape.experts;
  executor.configure(parse_policy_spec(preset), preset == "resident" ? all : static_cast<int>(kCacheRatio * all),
                     false);
  executor.wait_for_placement();
  std::vector<std::vector<RouteRecord>> tokens = routes_of(shape);
  std::uint32_t step = 0;
  const auto run = [&] {
    std::vector<RouteRecord>& given = tokens[step % kTokens];
    for (RouteRecord& r : given) r.step = step;
    const TokenInput token{.id = static_cast<std::int32_t>(5 + step % 900), .position = static_cast<int>(step)};
    executor.run_step({.step = step, .tokens = {&token, 1}}, Phase::decode, given);
    ++step;
  };
  for (int sequence = 0; sequence < 2; ++sequence) {  // until the cache is full and something is known of the first
    executor.sequence_begins(0);
    for (int i = 0; i < kTokens; ++i) run();
  }
  machine.decided_s = 0;
  machine.decisions = 0;
  for (auto _ : state) {
    const double before = machine.decided_s;
    run();
    state.SetIterationTime(machine.decided_s - before);
  }
  state.counters["us_a_layer"] = 1e6 * machine.decided_s / static_cast<double>(machine.decisions);
}

}  // namespace
}  // namespace expertscope

int main(int argc, char** argv) {
  using namespace expertscope;
  for (const Shape& shape : kShapes) {
    std::vector<std::string> names;
    for (const PresetDecl& preset : preset_decls()) {
      if (!preset.replay_only) names.emplace_back(preset.name);
    }
    names.emplace_back("edgemoe:precision=native");  // in int4 its cache is four times as large: nearly all is resident
    for (const std::string& name : names) {
      benchmark::RegisterBenchmark((name + "/" + std::to_string(shape.layers) + "x" + std::to_string(shape.experts) +
                                    "/top" + std::to_string(shape.top_k))
                                       .c_str(),
                                   [name, shape](benchmark::State& state) { Layer(state, name, shape); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond)
          ->MinTime(0.02);
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
