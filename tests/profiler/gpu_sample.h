// What CUPTI would have seen of the sample run: a kernel for each unit of work on the GPU, a copy for each piece.
#pragma once

#include "profiler/cupti_tracer.h"
#include "tests/profiler/sample_run.h"

namespace expertscope::test {

inline LaunchTag tag_of(const CopyRecord& c) {
  return {.step = c.step, .layer = c.layer, .expert = c.expert, .is_copy = true, .reason = c.reason};
}

// `late_ns`: by how much CUPTI's times of copies are later than the engine's.
inline void add_gpu_records(Batch& batch, TimeNs late_ns = 3'000) {
  GpuRecords& gpu = batch.gpu;
  gpu.strings = {{1, "void gemv<float>(float*)"}, {2, "gemv"}, {3, "_Z4gemvIfEvPT_"}};
  gpu.devices.push_back({.device = 0, .name = "Made-up GPU", .memory_bytes = 1 << 30});
  for (const WorkRecord& w : batch.works) {
    if (w.lane != Lane::gpu || w.kind > WorkKind::head) continue;
    GpuKernelRecord k;
    k.start_ns = w.start_ns + 1;
    k.end_ns = w.end_ns + 1;
    k.tag = pack({.step = w.step, .layer = w.layer, .expert = w.expert, .kind = w.kind});
    k.correlation = static_cast<std::uint32_t>(gpu.kernels.size() + 1);
    k.context = 1;
    k.stream = 7;
    k.grid_x = 4;
    k.grid_y = k.grid_z = k.block_y = k.block_z = 1;
    k.block_x = 256;
    k.registers_per_thread = 40;
    k.demangled_name = 1;
    k.short_name = 2;
    k.mangled_name = 3;
    k.launch_type = 1;
    gpu.kernels.push_back(k);
  }
  for (const CopyRecord& c : batch.copies) {
    GpuCopyRecord copy;
    copy.start_ns = c.start_ns + late_ns;
    copy.end_ns = c.end_ns + late_ns;
    copy.tag = pack(tag_of(c));
    copy.correlation = static_cast<std::uint32_t>(100'000 + gpu.copies.size());
    copy.context = 1;
    copy.stream = 9;
    copy.bytes = c.bytes;
    copy.copy_kind = kCopyHostToDevice;
    copy.source_kind = 1;
    copy.target_kind = 2;
    gpu.copies.push_back(copy);
  }
  GpuMemsetRecord memset;
  memset.start_ns = 10;
  memset.end_ns = 20;
  memset.bytes = 64;
  memset.memory_kind = 2;
  gpu.memsets.push_back(memset);
  GpuSyncRecord sync;
  sync.start_ns = 30;
  sync.end_ns = 130;
  sync.type = 3;
  sync.stream = 7;
  gpu.syncs.push_back(sync);
  gpu.overheads.push_back({5, 7, 0, 1u << 16, 4242});
  batch.gpu_totals = totals_of(gpu);
  batch.wall[cupti_fact::kVersion] = "13.0.1";
}

inline Batch gpu_sample_batch(int tokens_per_prompt = 20) {
  Batch batch = sample_batch(tokens_per_prompt);
  add_gpu_records(batch);
  return batch;
}

}  // namespace expertscope::test
