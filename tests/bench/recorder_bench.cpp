// What recording costs the engine: nanoseconds an event takes on the engine's thread while the collector empties the
// rings, and how fast the session writer and the lane index are.
#include <cstdio>
#include <filesystem>
#include <memory>

#include <benchmark/benchmark.h>

#include "profiler/cupti_joiner.h"
#include "profiler/cupti_names.h"
#include "profiler/lane_index.h"
#include "profiler/recorder.h"
#include "storage/reader.h"
#include "storage/writer.h"

namespace expertscope {
namespace {

WorkRecord some_work(std::int64_t i) {
  WorkRecord w;
  w.start_ns = i * 1000;
  w.end_ns = i * 1000 + 700;
  w.bytes = 1'000'000 + i;
  w.flops = 2'000'000;
  w.step = static_cast<std::uint32_t>(i / 100);
  w.layer = static_cast<std::uint16_t>(i % 12);
  w.expert = static_cast<std::uint16_t>(i % 16);
  w.kind = WorkKind::expert;
  return w;
}

// With a subscriber that lets the batches go, as a window does that keeps up.
void record_events(benchmark::State& state) {
  Recorder recorder;
  Collector collector(recorder);
  const auto queue = std::make_shared<BatchQueue>();
  collector.subscribe(queue);
  std::int64_t i = 0;
  for (auto _ : state) {
    recorder.on_event(some_work(i));
    if (++i % 100'000 == 0) queue->take();
  }
  state.SetItemsProcessed(state.iterations());
  state.counters["waited_s"] = static_cast<double>(recorder.waited().count()) * 1e-9;
  collector.close();
}
BENCHMARK(record_events)->UseRealTime()->Iterations(20'000'000);

void record_routes(benchmark::State& state) {
  Recorder recorder;
  Collector collector(recorder);
  const auto queue = std::make_shared<BatchQueue>();
  collector.subscribe(queue);
  RouteRecord route;
  route.picks = 2;
  route.gates = 4;
  route.gate_entries = 16;
  std::int64_t i = 0;
  for (auto _ : state) {
    route.step = static_cast<std::uint32_t>(i);
    recorder.on_route(route);
    if (++i % 10'000 == 0) queue->take();
  }
  state.SetItemsProcessed(state.iterations());
  collector.close();
}
BENCHMARK(record_routes)->UseRealTime()->Iterations(1'000'000);

// What the engine pays for each launch when nobody traces the device: through the observer's interface, as it calls it.
void announce_launches(benchmark::State& state) {
  Recorder recorder;
  Observer* observer = &recorder;
  LaunchTag tag{.layer = 3, .kind = WorkKind::expert};
  for (auto _ : state) {
    benchmark::DoNotOptimize(observer);
    ++tag.step;
    observer->on_launch_begin(tag);
    observer->on_launch_end();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(announce_launches);

// What the tracer's thread needs for each kernel: its name, its tag, its place in a batch.
void join_kernels(benchmark::State& state) {
  CuptiJoiner joiner;
  CuptiNames names;
  const char* name = "_ZN11expertscope4cuda12gemv_kernelsEPf";
  GpuKernelRecord kernel;
  for (auto _ : state) {
    ++kernel.correlation;
    joiner.add_call(kernel.correlation, pack({.step = kernel.correlation, .layer = 3}));
    kernel.short_name = names.of(name).short_name;
    joiner.add(kernel);
    if (kernel.correlation % 10'000 != 0) continue;
    GpuRecords records;
    joiner.hand_over(records, false);
    benchmark::DoNotOptimize(totals_of(records));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(join_kernels);

std::string session_path() {
  return (std::filesystem::temp_directory_path() / "expertscope-bench.session").string();
}

void write_kernels(benchmark::State& state) {
  auto batch = std::make_shared<Batch>();
  batch->gpu.kernels.resize(20'000);
  for (std::size_t i = 0; i < batch->gpu.kernels.size(); ++i) {
    GpuKernelRecord& k = batch->gpu.kernels[i];
    k.start_ns = static_cast<TimeNs>(1'000'000'000 + i * 1000);
    k.end_ns = k.start_ns + 700;
    k.tag = pack({.step = static_cast<std::uint32_t>(i / 100), .layer = static_cast<std::uint16_t>(i % 48)});
    k.correlation = static_cast<std::uint32_t>(i);
    k.grid_x = 512;
    k.block_x = 256;
  }
  std::int64_t rows = 0;
  for (auto _ : state) {
    SessionWriter writer(session_path());
    for (int i = 0; i < 20; ++i, rows += 20'000) writer.queue()->push(batch);
    writer.queue()->close();
    if (const auto error = writer.close()) state.SkipWithError(error->c_str());
  }
  state.SetItemsProcessed(rows);
  state.counters["bytes_per_row"] = static_cast<double>(std::filesystem::file_size(session_path())) / 400'000;
  std::filesystem::remove(session_path());
}
BENCHMARK(write_kernels)->Unit(benchmark::kMillisecond)->UseRealTime();

void write_rows(benchmark::State& state) {
  auto batch = std::make_shared<Batch>();
  for (std::int64_t i = 0; i < 20'000; ++i) batch->works.push_back(some_work(i));
  std::int64_t rows = 0;
  for (auto _ : state) {
    SessionWriter writer(session_path());
    for (int i = 0; i < 50; ++i, rows += 20'000) writer.queue()->push(batch);
    writer.queue()->close();
    if (const auto error = writer.close()) state.SkipWithError(error->c_str());
  }
  state.SetItemsProcessed(rows);
}
BENCHMARK(write_rows)->UseRealTime()->Unit(benchmark::kMillisecond)->Iterations(1);

// The million rows that write_rows left.
void read_rows(benchmark::State& state) {
  std::int64_t rows = 0;
  for (auto _ : state) rows += static_cast<std::int64_t>(SessionReader(session_path()).read_all().works.size());
  state.SetItemsProcessed(rows);
  std::filesystem::remove(session_path());
}
BENCHMARK(read_rows)->UseRealTime()->Unit(benchmark::kMillisecond)->Iterations(1);

LaneIndex ten_million_items() {
  LaneIndex index;
  for (TimeNs i = 0; i < 10'000'000; ++i) {
    index.append(LaneItem{i * 100, i * 100 + 70, 0, static_cast<std::uint8_t>(i % kWorkKinds), false});
  }
  return index;
}

void append_lane_items(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(ten_million_items());
  state.SetItemsProcessed(state.iterations() * 10'000'000);
}
BENCHMARK(append_lane_items)->Unit(benchmark::kMillisecond)->Iterations(1);

void summarise_ten_million_items(benchmark::State& state) {
  static const LaneIndex index = ten_million_items();
  std::vector<LaneSummary> buckets(2000);
  for (auto _ : state) {
    index.summarise(0, 1'000'000'000, buckets);
    benchmark::DoNotOptimize(buckets.data());
  }
}
BENCHMARK(summarise_ten_million_items)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace expertscope

BENCHMARK_MAIN();
