// Runs the built program as a user does, and small helpers for the files it reads and writes.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/types.h>

namespace expertscope::testing {

struct Outcome {
  int exit_code = -1;  // 128 + signal when a signal ended it
  std::string out, err;
};

using Arguments = std::vector<std::string>;

// Starts the program; `prepare` runs in the child before it (limits). Paths of out and err as given.
pid_t start_program(const Arguments&, const std::string& out_path, const std::string& err_path,
                    const std::function<void()>& prepare = {});
Outcome run_program(const Arguments&, const std::function<void()>& prepare = {});
int exit_code_of(int wait_status);

std::string read_text(const std::filesystem::path&);
std::string asset(const std::string& relative_path);

// A folder of its own for each test, removed afterwards.
class ProgramTest : public ::testing::Test {
 protected:
  ProgramTest();
  ~ProgramTest() override;

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string write(const std::string& name, const std::string& content) const;  // returns the path

  // A capture that must succeed; returns its report. A short prompt and few tokens unless the arguments say otherwise.
  nlohmann::json capture(const std::string& out_name, Arguments extra) const;
  // One clear line "expertscope: COMMAND: …" on standard error that holds `mention`, nothing on standard output, exit
  // code 2.
  static void expect_refused(const Arguments&, const std::string& mention);

  std::filesystem::path folder_;
};

// The rows of every table of a session file but `wall`, as text, by table.
std::map<std::string, std::vector<std::string>> rows_of(const std::string& session_path);
// A report without what may differ between two equal runs.
nlohmann::json without_wall(nlohmann::json report);

}  // namespace expertscope::testing
