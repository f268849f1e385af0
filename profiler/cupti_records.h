// What CUPTI tells about the device, in a form of our own: joined to what the engine launched it for, names interned,
// enumerations numbered as Nsight Systems numbers them. Nothing here needs CUPTI.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/observer.h"

namespace expertscope {

// What all work on a device has in common. Start and end are 0 when CUPTI had no room for the times.
struct GpuInterval {
  TimeNs start_ns = 0, end_ns = 0;
  std::uint64_t tag = 0;         // packed LaunchTag of the call that issued it; 0: of no call that the engine tagged
  std::uint64_t graph_node = 0;  // 0: not launched by a CUDA graph
  std::uint32_t device = 0, context = 0, stream = 0;
  std::uint32_t correlation = 0;  // of the API call
};

struct GpuKernelRecord : GpuInterval {
  std::int64_t grid_id = 0;
  std::int32_t grid_x = 0, grid_y = 0, grid_z = 0, block_x = 0, block_y = 0, block_z = 0;
  std::int32_t static_shared_bytes = 0, dynamic_shared_bytes = 0;
  std::uint32_t local_bytes_per_thread = 0, shared_executed_bytes = 0;
  std::uint64_t local_bytes = 0;                                       // of all threads
  std::uint32_t demangled_name = 0, short_name = 0, mangled_name = 0;  // GpuRecords::strings
  std::uint16_t registers_per_thread = 0;
  std::uint8_t launch_type = 0, cache_config = 0, shared_limit_config = 0;
};

// ENUM_CUDA_MEMCPY_OPER and ENUM_CUDA_MEM_KIND of Nsight Systems.
inline constexpr std::uint8_t kCopyHostToDevice = 1, kCopyDeviceToHost = 2, kCopyDeviceToDevice = 8, kCopyPeer = 10;
inline constexpr int kGpuCopyKinds = 14;
inline constexpr std::uint8_t kMemoryUnknown = 7;
inline constexpr int kGpuMemoryKinds = 8;

struct GpuCopyRecord : GpuInterval {
  std::int64_t bytes = 0;
  std::uint64_t copies = 1;  // merged into this one by a batch call
  std::uint8_t copy_kind = 0, source_kind = kMemoryUnknown, target_kind = kMemoryUnknown;
  // Of a copy between devices; equal on any other.
  std::uint32_t source_device = 0, target_device = 0;
};

struct GpuMemsetRecord : GpuInterval {
  std::int64_t bytes = 0;
  std::uint32_t value = 0;
  std::uint8_t memory_kind = kMemoryUnknown;
};

inline constexpr std::uint32_t kNoStream = 0xffffffff;  // also: no event

// A wait of the host or of a stream for the device.
struct GpuSyncRecord : GpuInterval {
  std::uint64_t event_sync = 0;
  std::uint32_t event = kNoStream;
  std::uint8_t type = 0;  // ENUM_CUPTI_SYNC_TYPE
};

// What CUPTI itself and the driver cost a thread of the host.
struct GpuOverheadRecord {
  TimeNs start_ns = 0, end_ns = 0;
  std::uint32_t correlation = 0;
  std::uint32_t kind = 0;  // ENUM_CUPTI_OVERHEAD_TYPE
  std::uint32_t thread = 0;
};

struct GpuDeviceRecord {
  std::uint32_t device = 0;
  std::string name;
  std::int64_t memory_bytes = 0, memory_bytes_per_s = 0, clock_hz = 0, l2_bytes = 0;
  std::int32_t multiprocessors = 0, compute_major = 0, compute_minor = 0;
};

// Numbers that add up over a session. Made from the records live and by one query from a file, so that nobody has to
// keep every kernel in memory.
struct GpuTotals {
  std::uint64_t kernels = 0, joined_kernels = 0;
  std::uint64_t memsets = 0, joined_memsets = 0;
  std::uint64_t syncs = 0, overheads = 0;
  std::int64_t kernel_ns = 0, sync_ns = 0, overhead_ns = 0;
  bool operator==(const GpuTotals&) const = default;
  GpuTotals& operator+=(const GpuTotals&);
};

struct GpuRecords {
  std::vector<GpuKernelRecord> kernels;
  std::vector<GpuCopyRecord> copies;
  std::vector<GpuMemsetRecord> memsets;
  std::vector<GpuSyncRecord> syncs;
  std::vector<GpuOverheadRecord> overheads;
  std::vector<GpuDeviceRecord> devices;
  std::vector<std::pair<std::uint32_t, std::string>> strings;  // id, text; each id once in a session

  bool empty() const;
  void append(GpuRecords&&);
};

// Of everything but the copies, which a trace keeps.
GpuTotals totals_of(const GpuRecords&);

// From CLOCK_MONOTONIC to the session's clock. Work that had started before `from_ns` of CLOCK_MONOTONIC is left out;
// returns how many records that were. Times of 0 stay 0.
std::uint64_t move_to_session_clock(GpuRecords&, std::int64_t clock_origin_ns, std::int64_t from_ns);

}  // namespace expertscope
