// A machine profile: the rates an emulated machine charges, one small JSON file in assets/machines/ each. SI units,
// named in the key. `source` says where the numbers come from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace expertscope {

struct GpuProfile {
  std::string name;
  std::int64_t memory_bytes = 0;
  double memory_bytes_per_s = 0;  // achievable, not the data sheet's peak
  double flops_per_s = 0;         // 16-bit matrix products, achievable
  double launch_s = 0;            // fixed cost of one operation on the lane
  double sync_s = 0;              // until the host knows that an operation finished
};

struct LinkProfile {                                // unused with unified memory
  double h2d_bytes_per_s = 0, d2h_bytes_per_s = 0;  // pinned, large
  double latency_s = 0;                             // of one copy
  std::int64_t chunk_bytes = 0;                     // a better class overtakes at this boundary
};

struct HostProfile {
  std::int64_t memory_bytes = 0;
  double memory_bytes_per_s = 0;         // read by CPU experts alone
  double shared_memory_bytes_per_s = 0;  // by CPU experts and the link together
  double flops_per_s = 0;
  int threads = 0;
  double task_s = 0;      // fixed cost of one CPU expert
  double policy_s = 0;    // deciding one layer
  double sampling_s = 0;  // sampling one token
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
  double peer_bytes_per_s = 0;  // between GPUs; 0: through the host
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
