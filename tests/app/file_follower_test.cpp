#include "app/file_follower.h"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>
#include <sys/wait.h>

#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

using namespace std::chrono_literals;

class FollowedFile : public ProgramTest {
 protected:
  static std::unique_ptr<Trace> trace_of(FileFollower& follower) {
    for (int i = 0; i < 5000; ++i) {
      if (auto trace = follower.take_trace()) return trace;
      std::this_thread::sleep_for(2ms);
    }
    ADD_FAILURE() << "never loaded: " << follower.error();
    return std::make_unique<Trace>();
  }
};

TEST_F(FollowedFile, ASavedSessionIsThereAsAWhole) {
  capture("a.expertscope", {"--tokens", "16"});
  FileFollower follower(path("a.expertscope"));
  const auto trace = trace_of(follower);
  EXPECT_TRUE(trace->ended);
  EXPECT_EQ(trace->steps.size(), 16u);
  EXPECT_EQ(follower.error(), "");
}

TEST_F(FollowedFile, ASessionThatIsBeingWrittenGrows) {
  const std::string session = path("a.expertscope");
  const pid_t child = start_program({"capture", "--tokens", "400", "--out", session}, path("out"), path("err"));
  while (!std::filesystem::exists(session) || run_program({"report", session}).exit_code != 0)
    std::this_thread::sleep_for(20ms);
  FileFollower follower(session);
  const auto trace = trace_of(follower);
  const std::size_t at_first = trace->steps.size();
  EXPECT_FALSE(trace->ended);
  while (!follower.batches()->finished())
    for (const BatchPtr& batch : follower.batches()->wait_and_take(1s)) trace->append(*batch);
  EXPECT_TRUE(trace->ended);
  EXPECT_GT(trace->steps.size(), at_first);
  EXPECT_EQ(trace->steps.size(), 400u);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(exit_code_of(status), 0);
}

TEST_F(FollowedFile, WhatIsNoSessionIsRefused) {
  EXPECT_THROW(FileFollower(write("text.expertscope", "hello")), SessionRefused);
}

}  // namespace
}  // namespace expertscope::testing
