// What CUPTI saw, in the tables that bear Nsight Systems' names, and back. Internal to storage/.
#pragma once

#include <cstdint>
#include <string>

#include "profiler/batch.h"
#include "storage/sqlite.h"

namespace expertscope {

class GpuTables {
 public:
  explicit GpuTables(sqlite::Database&);
  void insert(const GpuRecords&);  // inside the caller's transaction; throws sqlite::Error

 private:
  sqlite::Statement string_, device_, kernel_, copy_, memset_, sync_, overhead_;
};

// Totals of the rows of all tables but that of copies, as they grow: what a trace keeps of them.
class GpuTotalsReader {
 public:
  explicit GpuTotalsReader(sqlite::Database&);
  // Of the rows since the last call. Adds rows that make no sense to `skipped`.
  GpuTotals read_new(std::uint64_t& skipped);
  void start_over();

 private:
  struct Sums {
    std::uint64_t rows = 0, joined = 0;
    std::int64_t busy_ns = 0;
  };
  struct Table {
    Table(sqlite::Database&, const char* name, const char* joined);
    Sums read_new(std::uint64_t& skipped);

    sqlite::Statement sums;
    std::int64_t last = 0;
  };
  Table kernels_, memsets_, syncs_, overheads_;
};

}  // namespace expertscope
