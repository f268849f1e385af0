#include "storage/schema.h"

#include <sstream>

#include <gtest/gtest.h>

#include "engine/observer.h"
#include "profiler/health.h"
#include "tests/storage/session_file.h"

namespace expertscope {
namespace {

template <typename Enum>
void expect_names(const std::string& path, const std::string& table, int count) {
  std::vector<std::string> wanted;
  for (int i = 0; i < count; ++i) wanted.push_back(std::to_string(i) + "|" + std::string(name(static_cast<Enum>(i))));
  EXPECT_EQ(test::query(path, "SELECT id, name FROM " + table + " ORDER BY id"), wanted) << table;
}

TEST(Schema, NamesItsEnumerationsAsTheProgramDoes) {
  test::TemporaryFolder folder;
  const std::string path = folder.file("run.session");
  test::write_session(path, {});
  expect_names<Phase>(path, "ENUM_PHASE", 2);
  expect_names<Lane>(path, "ENUM_LANE", kLaneKinds);
  expect_names<WorkKind>(path, "ENUM_WORK_KIND", kWorkKinds);
  expect_names<CopyReason>(path, "ENUM_COPY_REASON", kCopyReasons);
  expect_names<DemandState>(path, "ENUM_DEMAND_STATE", 3);
  expect_names<Outcome>(path, "ENUM_OUTCOME", kOutcomes);
  expect_names<Precision>(path, "ENUM_PRECISION", 4);
  expect_names<Severity>(path, "ENUM_SEVERITY", 3);
}

TEST(Schema, ExplainsEveryColumnWhoseNameDoesNot) {
  // Times carry their unit in the name; whatever refers to an enumeration says to which.
  std::istringstream lines{std::string(schema_sql())};
  int enumerations = 0;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_EQ(line.find("TIMESTAMP"), std::string::npos);
    enumerations += line.find("-- ENUM_") != std::string::npos ? 1 : 0;
  }
  EXPECT_GE(enumerations, 12);
}

TEST(Schema, KeepsTypesInEveryTable) {
  test::TemporaryFolder folder;
  const std::string path = folder.file("run.session");
  test::write_session(path, {});
  EXPECT_EQ(
      test::query(path,
                  "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 0 AND "
                  "name NOT LIKE 'sqlite_%'"),
      std::vector<std::string>());
  EXPECT_EQ(test::query(path, "PRAGMA application_id"), std::vector<std::string>{std::to_string(kApplicationId)});
  EXPECT_EQ(test::query(path, "PRAGMA user_version"), std::vector<std::string>{std::to_string(kSchemaVersion)});
}

}  // namespace
}  // namespace expertscope
