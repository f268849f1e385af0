#include "storage/gpu_tables.h"

#include <unistd.h>

#include "storage/row_insert.h"

namespace expertscope {
namespace {

// Nsight Systems' way to name a process: its number above 24 bits for a thread.
std::int64_t global_pid() {
  static const std::int64_t pid = std::int64_t{getpid()} << 24;
  return pid;
}

// The five columns that say what the engine launched it for.
struct Purpose {
  explicit Purpose(std::uint64_t packed) {
    if (packed == 0) return;
    const LaunchTag tag = unpack_tag(packed);
    step = tag.step;
    layer.value = tag.layer;
    expert.value = tag.expert;
    if (tag.is_copy)
      copy_reason = static_cast<std::int64_t>(tag.reason);
    else
      work_kind = static_cast<std::int64_t>(tag.kind);
  }
  MaybeNumber step, work_kind, copy_reason;
  MaybeNone layer{kNone16}, expert{kNone16};
};

MaybeNumber graph_node(const GpuInterval& record) {
  if (record.graph_node == 0) return std::nullopt;
  return static_cast<std::int64_t>(record.graph_node);
}

constexpr double kSumBound = 0x1p61;

}  // namespace

GpuTables::GpuTables(sqlite::Database& db)
    : string_(db, "INSERT OR REPLACE INTO StringIds (id, value) VALUES (?,?)"),
      device_(db, insert_sql("TARGET_INFO_GPU",
                             "vmId, id, name, l2CacheSize, totalMemory, memoryBandwidth, clockRate, smCount, cuDevice, "
                             "computeMajor, computeMinor",
                             11)),
      kernel_(db,
              insert_sql("CUPTI_ACTIVITY_KIND_KERNEL",
                         "start, end, deviceId, contextId, streamId, correlationId, globalPid, demangledName, "
                         "shortName, mangledName, launchType, cacheConfig, registersPerThread, gridX, gridY, gridZ, "
                         "blockX, blockY, blockZ, staticSharedMemory, dynamicSharedMemory, localMemoryPerThread, "
                         "localMemoryTotal, gridId, sharedMemoryExecuted, graphNodeId, sharedMemoryLimitConfig, "
                         "step, layer, expert, work_kind, copy_reason",
                         32)),
      copy_(db, insert_sql("CUPTI_ACTIVITY_KIND_MEMCPY",
                           "start, end, deviceId, contextId, streamId, correlationId, globalPid, bytes, copyKind, "
                           "srcKind, dstKind, srcDeviceId, dstDeviceId, graphNodeId, copyCount, step, layer, expert, "
                           "work_kind, copy_reason",
                           20)),
      memset_(db, insert_sql("CUPTI_ACTIVITY_KIND_MEMSET",
                             "start, end, deviceId, contextId, streamId, correlationId, globalPid, value, bytes, "
                             "graphNodeId, memKind, step, layer, expert, work_kind, copy_reason",
                             16)),
      sync_(db, insert_sql("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",
                           "start, end, deviceId, contextId, streamId, correlationId, globalPid, syncType, eventId, "
                           "eventSyncId",
                           10)),
      overhead_(db, insert_sql("CUPTI_ACTIVITY_KIND_OVERHEAD",
                               "start, end, eventClass, globalTid, correlationId, overheadType", 6)) {}

void GpuTables::insert(const GpuRecords& records) {
  for (const auto& [id, text] : records.strings) insert_row(string_, id, text);
  for (const GpuDeviceRecord& d : records.devices) {
    insert_row(device_, 0, d.device, d.name, d.l2_bytes, d.memory_bytes, d.memory_bytes_per_s, d.clock_hz,
               d.multiprocessors, d.device, d.compute_major, d.compute_minor);
  }
  for (const GpuKernelRecord& k : records.kernels) {
    const Purpose purpose(k.tag);
    insert_row(kernel_, k.start_ns, k.end_ns, k.device, k.context, k.stream, k.correlation, global_pid(),
               k.demangled_name, k.short_name, k.mangled_name, k.launch_type, k.cache_config, k.registers_per_thread,
               k.grid_x, k.grid_y, k.grid_z, k.block_x, k.block_y, k.block_z, k.static_shared_bytes,
               k.dynamic_shared_bytes, k.local_bytes_per_thread, k.local_bytes, k.grid_id, k.shared_executed_bytes,
               graph_node(k), k.shared_limit_config, purpose.step, purpose.layer, purpose.expert, purpose.work_kind,
               purpose.copy_reason);
  }
  for (const GpuCopyRecord& c : records.copies) {
    const Purpose purpose(c.tag);
    insert_row(copy_, c.start_ns, c.end_ns, c.device, c.context, c.stream, c.correlation, global_pid(), c.bytes,
               c.copy_kind, c.source_kind, c.target_kind, c.source_device, c.target_device, graph_node(c), c.copies,
               purpose.step, purpose.layer, purpose.expert, purpose.work_kind, purpose.copy_reason);
  }
  for (const GpuMemsetRecord& m : records.memsets) {
    const Purpose purpose(m.tag);
    insert_row(memset_, m.start_ns, m.end_ns, m.device, m.context, m.stream, m.correlation, global_pid(), m.value,
               m.bytes, graph_node(m), m.memory_kind, purpose.step, purpose.layer, purpose.expert, purpose.work_kind,
               purpose.copy_reason);
  }
  for (const GpuSyncRecord& s : records.syncs) {
    insert_row(sync_, s.start_ns, s.end_ns, s.device, s.context, s.stream, s.correlation, global_pid(), s.type, s.event,
               s.event_sync);
  }
  for (const GpuOverheadRecord& o : records.overheads) {
    insert_row(overhead_, o.start_ns, o.end_ns, 0, global_pid() | (o.thread & 0xffffff), o.correlation, o.kind);
  }
}

// Sums as floating point: a file's numbers may be anything, and a sum of integers that overflows is an error to SQLite.
GpuTotalsReader::Table::Table(sqlite::Database& db, const char* name, const char* joined)
    : sums(db, std::string("SELECT coalesce(max(rowid), 0), count(*), sum(sane), sum(sane AND joined), "
                           "total(CASE WHEN sane THEN busy_ns END) FROM (SELECT rowid, start >= 0 AND end >= start AND "
                           "end < (1 << 55) AS sane, ") +
                   joined + " AS joined, end - start AS busy_ns FROM " + name + " WHERE rowid > ?)") {}

GpuTotalsReader::Sums GpuTotalsReader::Table::read_new(std::uint64_t& skipped) {
  Sums result;
  sums.bind(1, last);
  if (sums.step() && sums.integer(1) > 0) {
    const auto rows = static_cast<std::uint64_t>(sums.integer(1));
    last = sums.integer(0);
    if (sums.real(4) < kSumBound) {
      result.rows = static_cast<std::uint64_t>(sums.integer(2));
      result.joined = static_cast<std::uint64_t>(sums.integer(3));
      result.busy_ns = static_cast<std::int64_t>(sums.real(4));
    }
    skipped += rows - result.rows;
  }
  sums.reset();
  return result;
}

GpuTotalsReader::GpuTotalsReader(sqlite::Database& db)
    : kernels_(db, "CUPTI_ACTIVITY_KIND_KERNEL", "step IS NOT NULL"),
      memsets_(db, "CUPTI_ACTIVITY_KIND_MEMSET", "step IS NOT NULL"),
      syncs_(db, "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", "0"),
      overheads_(db, "CUPTI_ACTIVITY_KIND_OVERHEAD", "0") {}

GpuTotals GpuTotalsReader::read_new(std::uint64_t& skipped) {
  const Sums kernels = kernels_.read_new(skipped), memsets = memsets_.read_new(skipped),
             syncs = syncs_.read_new(skipped), overheads = overheads_.read_new(skipped);
  GpuTotals totals;
  totals.kernels = kernels.rows;
  totals.joined_kernels = kernels.joined;
  totals.kernel_ns = kernels.busy_ns;
  totals.memsets = memsets.rows;
  totals.joined_memsets = memsets.joined;
  totals.syncs = syncs.rows;
  totals.sync_ns = syncs.busy_ns;
  totals.overheads = overheads.rows;
  totals.overhead_ns = overheads.busy_ns;
  return totals;
}

void GpuTotalsReader::start_over() {
  for (Table* table : {&kernels_, &memsets_, &syncs_, &overheads_}) table->last = 0;
}

}  // namespace expertscope
