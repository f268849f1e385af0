// A machine profile: the rates an emulated machine charges, one small JSON file in assets/machines/ each. SI units,
// named in the key. `source` says where the numbers come from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/ids.h"

namespace expertscope {

// What one kind of operation takes with this program's own kernels: a fixed part, with the gap before it, and a rate.
struct OperationRate {
  WorkKind kind = WorkKind::expert;
  double fixed_s = 0;
  double bytes_per_s = 0;
  double issue_s = 0;  // of the host, to queue it
};

struct GpuProfile {
  std::string name;
  std::int64_t memory_bytes = 0;
  double memory_bytes_per_s = 0;  // achievable, not the data sheet's peak
  double flops_per_s = 0;         // 16-bit matrix products, achievable
  double launch_s = 0;            // fixed cost of one operation on the lane
  double sync_s = 0;              // until the host knows that an operation finished
  // Measured on a real machine, or empty: every operation then takes launch_s and runs at memory_bytes_per_s. Where
  // they are known, experts that start together are one operation, as on a real machine.
  std::vector<OperationRate> operations;
};

// Every GPU has a link of its own like this; together they share the host's memory bandwidth.
struct LinkProfile {                                // unused with unified memory
  double h2d_bytes_per_s = 0, d2h_bytes_per_s = 0;  // pinned, large
  double latency_s = 0;                             // of one copy
  double start_s = 0;                               // more for a copy that finds the link idle
  std::int64_t chunk_bytes = 0;                     // a better class overtakes at this boundary
};

struct HostProfile {
  std::int64_t memory_bytes = 0;
  double memory_bytes_per_s = 0;         // read by CPU experts alone
  double shared_memory_bytes_per_s = 0;  // by CPU experts and the link together
  double flops_per_s = 0;
  int threads = 0;
  double task_s = 0;            // fixed cost of one CPU expert
  double policy_s = 0;          // deciding one layer
  double sampling_s = 0;        // sampling one token
  double sampling_logit_s = 0;  // more for each token of the vocabulary
};

struct StorageProfile {
  double read_bytes_per_s = 0;
  double latency_s = 0;
};

// One of the numbers behind a measured profile: its median and its range over the repeats.
struct Measurement {
  std::string name;  // "h2d 1 MB", "host read, 8 threads"
  std::string unit;  // "B/s" or "s"
  double median = 0, low = 0, high = 0;
  bool operator==(const Measurement&) const = default;
};

struct MachineProfile {
  std::string name, source;
  std::vector<GpuProfile> gpus;  // at least one
  LinkProfile link;
  double peer_bytes_per_s = 0;  // from a GPU to another; 0: through the host
  HostProfile host;
  StorageProfile storage;
  bool unified_memory = false;        // GPU and CPU share host memory: no link
  std::vector<Measurement> measured;  // by `expertscope calibrate`; empty where the numbers come from elsewhere
};

// Checked against what is declared: unknown, missing or senseless keys throw InputError with file and key.
MachineProfile parse_profile(const std::string& json_text, const std::string& origin);
std::string to_json(const MachineProfile&);  // parse_profile(to_json(p)) == p

// `name_or_path`: a shipped profile's name, or a file (contains '/' or ends in .json). InputError lists what ships.
MachineProfile load_profile(const std::string& name_or_path);
std::vector<std::string> shipped_profiles();  // names, sorted

}  // namespace expertscope
