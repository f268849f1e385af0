#include "profiler/cupti_records.h"

#include <algorithm>
#include <iterator>

namespace expertscope {
namespace {

template <typename T>
void move_to_end(std::vector<T>& to, std::vector<T>&& from) {
  if (to.empty()) {
    to = std::move(from);
  } else {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  }
}

template <typename T>
std::uint64_t shift(std::vector<T>& records, std::int64_t origin_ns, std::int64_t from_ns) {
  const std::uint64_t early = static_cast<std::uint64_t>(
      std::erase_if(records, [&](const T& r) { return r.start_ns != 0 && r.start_ns < from_ns; }));
  for (T& r : records) {
    if (r.start_ns == 0) continue;
    r.start_ns -= origin_ns;
    r.end_ns -= origin_ns;
  }
  return early;
}

}  // namespace

GpuTotals& GpuTotals::operator+=(const GpuTotals& more) {
  kernels += more.kernels;
  joined_kernels += more.joined_kernels;
  memsets += more.memsets;
  joined_memsets += more.joined_memsets;
  syncs += more.syncs;
  overheads += more.overheads;
  kernel_ns += more.kernel_ns;
  sync_ns += more.sync_ns;
  overhead_ns += more.overhead_ns;
  return *this;
}

bool GpuRecords::empty() const {
  return kernels.empty() && copies.empty() && memsets.empty() && syncs.empty() && overheads.empty() &&
         devices.empty() && strings.empty();
}

void GpuRecords::append(GpuRecords&& more) {
  move_to_end(kernels, std::move(more.kernels));
  move_to_end(copies, std::move(more.copies));
  move_to_end(memsets, std::move(more.memsets));
  move_to_end(syncs, std::move(more.syncs));
  move_to_end(overheads, std::move(more.overheads));
  move_to_end(devices, std::move(more.devices));
  move_to_end(strings, std::move(more.strings));
}

GpuTotals totals_of(const GpuRecords& records) {
  GpuTotals totals;
  totals.kernels = records.kernels.size();
  totals.memsets = records.memsets.size();
  totals.syncs = records.syncs.size();
  totals.overheads = records.overheads.size();
  for (const GpuKernelRecord& k : records.kernels) {
    totals.joined_kernels += k.tag != 0 ? 1 : 0;
    totals.kernel_ns += k.end_ns - k.start_ns;
  }
  for (const GpuMemsetRecord& m : records.memsets) totals.joined_memsets += m.tag != 0 ? 1 : 0;
  for (const GpuSyncRecord& s : records.syncs) totals.sync_ns += s.end_ns - s.start_ns;
  for (const GpuOverheadRecord& o : records.overheads) totals.overhead_ns += o.end_ns - o.start_ns;
  return totals;
}

std::uint64_t move_to_session_clock(GpuRecords& records, std::int64_t clock_origin_ns, std::int64_t from_ns) {
  return shift(records.kernels, clock_origin_ns, from_ns) + shift(records.copies, clock_origin_ns, from_ns) +
         shift(records.memsets, clock_origin_ns, from_ns) + shift(records.syncs, clock_origin_ns, from_ns) +
         shift(records.overheads, clock_origin_ns, from_ns);
}

}  // namespace expertscope
