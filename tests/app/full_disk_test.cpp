// A disk that fills up during a capture: the run ends with a message, and what was committed stays readable.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>

#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

// Files of the child may not grow beyond this: writes fail as on a full disk.
void limit_files_to(rlim_t bytes) {
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_FSIZE, &limit);
}

class FullDisk : public ProgramTest {};

TEST_F(FullDisk, EndsTheRunWithAMessageAndLeavesTheCommittedPartReadable) {
  const Outcome outcome =
      run_program({"capture", "--tokens", "20000", "--out", path("a.expertscope")}, [] { limit_files_to(3 << 20); });
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_TRUE(outcome.err.starts_with("expertscope: capture: ")) << outcome.err;
  EXPECT_THAT(outcome.err, ::testing::HasSubstr("a.expertscope"));
  EXPECT_THAT(outcome.err, ::testing::HasSubstr("stays readable"));
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;

  const Outcome report = run_program({"report", path("a.expertscope"), "--json"});
  ASSERT_EQ(report.exit_code, 0) << report.err;
  const auto json = nlohmann::json::parse(report.out);
  EXPECT_GT(json["decode"]["tokens"].get<int>(), 0);
  EXPECT_TRUE(json["health"].contains("session.not_ended"));
}

TEST_F(FullDisk, OfTheReportIsAFailureToo) {
  const Outcome outcome = run_program({"capture", "--tokens", "4", "--profile", "off", "--json", path("report.json")},
                                      [] { limit_files_to(1000); });
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_THAT(outcome.err, ::testing::HasSubstr("report.json"));
}

}  // namespace
}  // namespace expertscope::testing
