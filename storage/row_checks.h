// Turns rows of a session into records, and tells which rows make no sense. Internal to storage/.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "profiler/batch.h"
#include "storage/sqlite.h"

namespace expertscope {

// Reads the columns of one row in order and remembers whether all were in range.
class RowFields {
 public:
  explicit RowFields(const sqlite::Statement& row, int first_column) : row_(row), column_(first_column) {}

  template <typename T>
  T integer(std::int64_t smallest, std::int64_t largest) {
    const std::int64_t value = row_.integer(column_++);
    if (value < smallest || value > largest) sound_ = false;
    return static_cast<T>(value);
  }
  template <typename T>
  T integer(std::int64_t largest) {
    return integer<T>(0, largest);
  }
  template <typename Enum>
  Enum one_of(int count) {
    const auto value = integer<std::int64_t>(0, count - 1);
    return sound_ ? static_cast<Enum>(value) : Enum{};
  }
  bool flag() { return integer<int>(1) != 0; }
  std::uint16_t or_none(std::int64_t largest);  // NULL: kNone16
  template <typename T>
  T or_zero(std::int64_t largest) {  // NULL: 0
    if (is_null()) return skip<T>();
    return integer<T>(largest);
  }
  bool is_null() const { return row_.is_null(column_); }
  template <typename T = int>
  T skip() {
    ++column_;
    return T{};
  }
  double real();
  TimeNs time();
  std::string text(std::size_t longest);

  void require(bool condition) { sound_ = sound_ && condition; }
  bool sound() const { return sound_; }

 private:
  const sqlite::Statement& row_;
  int column_;
  bool sound_ = true;
};

// Keeps what later rows are judged by: the model's shape, what came before, and how much has been added up.
class RowChecks {
 public:
  void set_shape(const RunInfo&);

  // Columns as in reader_tables.cpp, from `first` on. Empty when the row makes no sense.
  std::optional<StepRecord> step(const sqlite::Statement&, int first);
  std::optional<WorkRecord> work(const sqlite::Statement&, int first);
  std::optional<CopyRecord> copy(const sqlite::Statement&, int first);
  std::optional<DemandRecord> demand(const sqlite::Statement&, int first);
  std::optional<ResidencyRecord> residency(const sqlite::Statement&, int first);
  std::optional<TokenRecord> token(const sqlite::Statement&, int first);
  std::optional<RouteRecord> route(const sqlite::Statement&, int first);
  std::optional<EpochRecord> epoch(const sqlite::Statement&, int first);
  std::optional<PromptRecord> prompt(const sqlite::Statement&, int first);
  std::optional<MarkRecord> mark(const sqlite::Statement&, int first);
  std::optional<HealthNote> health(const sqlite::Statement&, int first);
  std::optional<QualityRecord> quality(const sqlite::Statement&, int first);
  std::optional<GpuCopyRecord> gpu_copy(const sqlite::Statement&, int first);

 private:
  // Sums over a session must not overflow: a row that would take one past the bound makes no sense.
  bool within_budget(std::int64_t& sum, std::int64_t more);

  std::int64_t layers_ = 0xfffe, experts_ = 0xfffe, vocab_ = 0x7fffffff;
  std::int64_t last_step_ = -1, last_demand_step_ = 0, last_epoch_ = -1;
  TimeNs last_step_start_ns_ = 0;
  std::int64_t work_ns_ = 0, work_bytes_ = 0, copy_ns_ = 0, copy_bytes_ = 0, step_ns_ = 0, demand_ns_ = 0,
               gpu_copy_bytes_ = 0;
};

}  // namespace expertscope
