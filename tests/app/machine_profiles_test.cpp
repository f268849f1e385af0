// Profiles by name: those that ship, those measured here, and which one a run on a GPU predicts with.
#include "app/machine_profiles.h"

#include <cstdlib>
#include <filesystem>

#include "engine/error.h"
#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

namespace fs = std::filesystem;

class MachineProfiles : public ProgramTest {
 protected:
  MachineProfiles() { setenv("XDG_DATA_HOME", folder_.c_str(), 1); }
  ~MachineProfiles() override { unsetenv("XDG_DATA_HOME"); }

  // As `calibrate` leaves it.
  MachineProfile calibrated(const std::string& gpu, int threads) const {
    MachineProfile profile = load_profile("h100-pcie5");
    profile.name = profile.gpus[0].name = gpu;
    profile.host.threads = threads;
    profile.link.h2d_bytes_per_s = 12.5e9;
    fs::create_directories(folder_ / "expertscope" / "machines");
    write("expertscope/machines/" + calibrated_name(gpu, threads) + ".json", to_json(profile));
    return profile;
  }
};

TEST_F(MachineProfiles, ACalibrationIsNamedAfterItsGpuAndThreads) {
  EXPECT_EQ(calibrated_name("NVIDIA H200", 16), "nvidia-h200-16-threads");
  EXPECT_EQ(calibrated_name("NVIDIA GeForce RTX 4090 (x)", 8), "nvidia-geforce-rtx-4090-x-8-threads");
  EXPECT_EQ(calibrated_name("../../etc", 1), "etc-1-threads");
}

TEST_F(MachineProfiles, ARunPredictsWithTheCalibrationOfItsGpuAndThreads) {
  const MachineProfile profile = calibrated("NVIDIA H200", 16);
  const Calibration found = find_calibration("NVIDIA H200", 16);
  ASSERT_TRUE(found.profile);
  EXPECT_EQ(to_json(*found.profile), to_json(profile));
  EXPECT_EQ(found.note.code, "machine.calibrated");
  EXPECT_NE(found.note.text.find(calibrated_path("NVIDIA H200", 16)), std::string::npos) << found.note.text;
}

TEST_F(MachineProfiles, ARunWithoutOneSaysThatItUsesQuickValuesAndWhatMeasuresThem) {
  calibrated("NVIDIA H200", 16);
  for (const auto& [gpu, threads] : {std::pair{"NVIDIA H200", 8}, std::pair{"NVIDIA H100", 16}}) {
    const Calibration found = find_calibration(gpu, threads);
    EXPECT_FALSE(found.profile);
    EXPECT_EQ(found.note.code, "machine.not_calibrated");
    EXPECT_EQ(found.note.severity, Severity::info);
    EXPECT_NE(found.note.text.find("expertscope calibrate"), std::string::npos) << found.note.text;
  }
}

TEST_F(MachineProfiles, ADamagedCalibrationIsAWarningAndNotTheEndOfTheRun) {
  calibrated("NVIDIA H200", 16);
  write("expertscope/machines/nvidia-h200-16-threads.json", "{\"name\": ");
  const Calibration found = find_calibration("NVIDIA H200", 16);
  EXPECT_FALSE(found.profile);
  EXPECT_EQ(found.note.severity, Severity::warning);
  EXPECT_NE(found.note.text.find("nvidia-h200-16-threads.json"), std::string::npos) << found.note.text;
}

TEST_F(MachineProfiles, ACalibrationOfAnotherMachineUnderThatNameIsNotUsed) {
  MachineProfile profile = calibrated("NVIDIA H200", 16);
  profile.host.threads = 4;
  write("expertscope/machines/nvidia-h200-16-threads.json", to_json(profile));
  const Calibration found = find_calibration("NVIDIA H200", 16);
  EXPECT_FALSE(found.profile);
  EXPECT_NE(found.note.text.find("4 CPU threads"), std::string::npos) << found.note.text;
}

TEST_F(MachineProfiles, AreListedAndEmulatedByName) {
  calibrated("NVIDIA H200", 16);
  const auto listed = nlohmann::json::parse(run_program({"machines", "--json"}).out);
  ASSERT_EQ(listed["own_profiles"].size(), 1U);
  EXPECT_EQ(listed["own_profiles"][0]["name"], "nvidia-h200-16-threads");
  EXPECT_NE(run_program({"machines"}).out.find("nvidia-h200-16-threads\n"), std::string::npos);
  const auto report = capture("a.expertscope", {"--machine", "emulated:nvidia-h200-16-threads", "--tokens", "2"});
  EXPECT_EQ(report["machine"]["profile"], "NVIDIA H200");
  expect_refused({"machines", "nonesuch"}, "of your own: nvidia-h200-16-threads");
}

TEST_F(MachineProfiles, WhatShipsIsFoundByItsNameEvenWhereTheUserHasOneOfThatName) {
  calibrated("x", 1);
  MachineProfile mine = load_profile("a6000-pcie4");
  mine.source = "mine";
  write("expertscope/machines/a6000-pcie4.json", to_json(mine));
  EXPECT_NE(find_profile("a6000-pcie4").source, "mine");
}

}  // namespace
}  // namespace expertscope::testing
