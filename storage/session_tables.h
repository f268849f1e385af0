// Writes the records of batches into the tables of an open session. Internal to storage/.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "profiler/batch.h"
#include "storage/gpu_tables.h"
#include "storage/sqlite.h"

namespace expertscope {

class SessionTables {
 public:
  explicit SessionTables(sqlite::Database&);
  void insert(const Batch&);  // inside the caller's transaction; throws sqlite::Error

 private:
  void insert_start(const Batch&);
  void insert_steps(const Batch&);
  void insert_lanes(const Batch&);
  void insert_experts(const Batch&);
  void insert_texts(const Batch&);
  void insert_rare(const Batch&);
  void update_headline(const Batch&);

  struct Demands {
    std::int64_t demands = 0, hits = 0;
  };
  struct Headline {
    std::int64_t prefill_tokens = 0, prefill_ns = 0, decode_tokens = 0, decode_ns = 0;
    Demands decode;
  };

  sqlite::Statement fact_, wall_, headline_, step_, work_, copy_, demand_, residency_, token_, piece_, route_, epoch_,
      prompt_, mark_, health_, logit_, quality_;
  GpuTables gpu_;
  Headline totals_;
  std::map<std::uint32_t, Demands> open_demands_;  // of steps whose record has not come yet
  std::string route_bytes_;
};

}  // namespace expertscope
