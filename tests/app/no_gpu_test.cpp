// What the program says where there is no GPU that it can use, and that the rest of it works there.
#include <cstdlib>

#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

using NoGpu = ProgramTest;

#ifdef ES_FAKE_DRIVER_DIR

// Runs the program before a driver that supports CUDA 12.2.
Outcome with_old_driver(const Arguments& arguments) {
  return run_program(arguments, [] { setenv("LD_LIBRARY_PATH", ES_FAKE_DRIVER_DIR, 1); });
}

TEST_F(NoGpu, ADriverThatIsTooOldIsNamedWithBothVersions) {
  for (const Arguments& arguments :
       {Arguments{"capture", "--machine", "cuda", "--out", path("a.expertscope")}, Arguments{"calibrate"}}) {
    const Outcome outcome = with_old_driver(arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find("the NVIDIA driver is too old: it supports CUDA 12.2, this program needs 13."),
              std::string::npos)
        << outcome.err;
    EXPECT_NE(outcome.err.find("580"), std::string::npos) << outcome.err;
  }
  EXPECT_FALSE(std::filesystem::exists(path("a.expertscope")));
}

TEST_F(NoGpu, WithADriverThatIsTooOldRunsAreEmulatedAndSaySo) {
  const Outcome outcome =
      with_old_driver({"capture", "--tokens", "2", "--out", path("a.expertscope"), "--json", path("a.json")});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("the GPU is not used: the NVIDIA driver is too old"), std::string::npos) << outcome.err;
  const auto report = nlohmann::json::parse(read_text(path("a.json")));
  EXPECT_EQ(report["machine"]["kind"], "emulated");
  EXPECT_EQ(report["health"]["machine.gpu_unusable"]["severity"], "warning");
  EXPECT_EQ(with_old_driver({"report", path("a.expertscope")}).exit_code, 0);
  EXPECT_EQ(with_old_driver({"replay", path("a.expertscope"), "--policies", "lfu"}).exit_code, 0);
}

TEST_F(NoGpu, TheListOfMachinesSaysWhatIsWrongWithTheDriver) {
  const Outcome outcome = with_old_driver({"machines"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_NE(outcome.out.find("driver is too old"), std::string::npos) << outcome.out;
}

#endif

TEST_F(NoGpu, WithoutADeviceAWishForOneIsRefusedAndTheDefaultIsEmulatedWithoutFuss) {
  expect_refused({"capture", "--machine", "cuda", "--out", path("a.expertscope")}, "there is no usable CUDA device: ");
  expect_refused({"calibrate"}, "there is no usable CUDA device: ");
  const Outcome outcome = run_program({"capture", "--tokens", "2", "--out", path("a.expertscope")});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.err, "");
}

TEST_F(NoGpu, ACalibrationThatCannotBeMadeLeavesNothingBehind) {
  const Outcome outcome = run_program({"calibrate"}, [this] { setenv("XDG_DATA_HOME", folder_.c_str(), 1); });
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

}  // namespace
}  // namespace expertscope::testing
