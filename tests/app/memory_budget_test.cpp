// A memory budget that changes while a run goes on: what does not fit is refused with the sums, and what was recorded
// until then stays.
#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

using MemoryBudget = ProgramTest;

TEST_F(MemoryBudget, ACacheThatNoLongerFitsEndsTheRunWithTheSumsAndItsSessionIsKept) {
  const std::string script = write("up.json", R"([{"at_token": 8, "cache_ratio": 1}])");
  const Outcome outcome =
      run_program({"capture", "--machine", "emulated:rtx3060-pcie4", "--cost-shape", "mixtral-8x7b-bf16",
                   "--cache-ratio", "0.05", "--tokens", "16", "--script", script, "--out", path("a.expertscope")});
  EXPECT_EQ(outcome.exit_code, 2);
  for (const char* words : {"at token 8", "GPU memory has 12.88 GB and 69.93 GB are needed", "lower the cache ratio"})
    EXPECT_NE(outcome.err.find(words), std::string::npos) << outcome.err;
  const auto report = nlohmann::json::parse(run_program({"report", path("a.expertscope"), "--json"}).out);
  EXPECT_EQ(report["decode"]["tokens"], 7);
}

TEST_F(MemoryBudget, ACacheThatIsLoweredAndRaisedWhileRunningChangesNoToken) {
  const std::string script =
      write("down.json", R"([{"at_token": 6, "cache_ratio": 0.02}, {"at_token": 12, "cache_ratio": 0.125}])");
  const auto changed = capture("a.expertscope", {"--cache-ratio", "0.25", "--tokens", "24", "--script", script});
  const auto steady = capture("b.expertscope", {"--cache-ratio", "0.25", "--tokens", "24"});
  EXPECT_EQ(changed["epochs"].size(), 3U);
  EXPECT_EQ(changed["output"], steady["output"]);
}

}  // namespace
}  // namespace expertscope::testing
