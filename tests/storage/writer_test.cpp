#include "storage/writer.h"

#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/error.h"
#include "profiler/metrics.h"
#include "profiler/recorder.h"
#include "storage/reader.h"
#include "tests/profiler/sample_run.h"
#include "tests/storage/session_file.h"

namespace expertscope {
namespace {

using test::TemporaryFolder;

TEST(SessionWriter, RefusesAFolderThatIsNotThere) {
  TemporaryFolder folder;
  try {
    SessionWriter writer(folder.file("nowhere/run.session"));
    FAIL() << "wrote into a folder that does not exist";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("nowhere"), std::string::npos);
  }
}

TEST(SessionWriter, RefusesAFolderThatCannotBeWritten) {
  if (geteuid() == 0) {
    // Permissions do not stop root; a device file stands where the session should go.
    EXPECT_THROW(SessionWriter("/proc/run.session"), InputError);
    return;
  }
  TemporaryFolder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  EXPECT_THROW(SessionWriter(folder.file("run.session")), InputError);
}

TEST(SessionWriter, OverwritesASessionAndAnEmptyFileButNothingElse) {
  TemporaryFolder folder;
  const std::string path = folder.file("run.session");
  std::ofstream(path).flush();
  test::write_session(path, {test::sample_batch(5)});
  test::write_session(path, {test::sample_batch(9)});
  EXPECT_EQ(SessionReader(path).read_all().steps.size(), 18u);

  const std::string thesis = folder.file("thesis.txt");
  std::ofstream(thesis) << "Years of work.";
  EXPECT_THROW(SessionWriter{thesis}, InputError);
  std::string kept;
  std::getline(std::ifstream(thesis), kept);
  EXPECT_EQ(kept, "Years of work.");
  EXPECT_THROW(SessionWriter{folder.path().string()}, InputError);
}

TEST(SessionWriter, LeavesAloneASessionThatIsBeingRecorded) {
  TemporaryFolder folder;
  const std::string path = folder.file("run.session");
  {
    SessionWriter first(path);
    EXPECT_THROW(SessionWriter{path}, InputError);
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_NO_THROW(SessionWriter{path});
}

TEST(SessionWriter, KeepsWhatWasCommittedWhenTheDiskIsFull) {
  TemporaryFolder folder;
  const std::string path = folder.file("run.session");
  SessionWriter writer(path, {.max_pages = 100});
  Recorder recorder;
  Collector collector(recorder, std::chrono::milliseconds(1));
  collector.subscribe(writer.queue());
  test::SampleRun run(recorder);
  run.start();
  run.prompt(10);
  collector.flush();
  while (!writer.error()) {
    run.prompt(20);
    collector.flush();
  }
  run.prompt(2000);  // the run goes on
  collector.close();
  const auto error = writer.close();
  ASSERT_TRUE(error);
  EXPECT_NE(error->find(path), std::string::npos);
  EXPECT_NE(error->find("full"), std::string::npos) << *error;

  Trace trace;
  trace.append(SessionReader(path).read_all());
  EXPECT_GE(trace.steps.size(), 10u);
  EXPECT_FALSE(trace.ended);
}

TEST(SessionWriter, LosesNoMoreThanTheLastMomentsWhenTheProcessIsKilled) {
  TemporaryFolder folder;
  const std::string path = folder.file("run.session");
  int progress[2];
  ASSERT_EQ(pipe(progress), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // A run that says when it took each step, until it is killed.
    SessionWriter writer(path);
    Recorder recorder;
    Collector collector(recorder);
    collector.subscribe(writer.queue());
    test::SampleRun run(recorder);
    run.start();
    for (std::uint32_t steps = 1;; ++steps) {
      run.prompt(1);
      const struct {
        std::chrono::steady_clock::time_point at;
        std::uint32_t steps;
      } said{std::chrono::steady_clock::now(), steps};
      if (write(progress[1], &said, sizeof said) != sizeof said) _exit(1);
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
  }
  struct Said {
    std::chrono::steady_clock::time_point at;
    std::uint32_t steps;
  } said{};
  std::vector<Said> all;
  // A sanitizer's run is slow: it goes on until there is something to lose.
  const auto begin = std::chrono::steady_clock::now();
  while ((std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(700) || all.size() < 100) &&
         read(progress[0], &said, sizeof said) == sizeof said) {
    all.push_back(said);
  }
  const auto killed = std::chrono::steady_clock::now();
  kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  close(progress[0]);
  close(progress[1]);

  const std::size_t stored = SessionReader(path).read_all().steps.size();  // passes quick_check
  std::uint32_t due = 0;
  for (const Said& s : all) {
    if (s.at < killed - std::chrono::milliseconds(100)) due = s.steps;
  }
  EXPECT_GT(due, 50u);
  EXPECT_GE(stored, due);
}

TEST(SessionWriter, KeepsItsLogShortHoweverLongTheRun) {
  TemporaryFolder folder;
  const std::string path = folder.file("run.session");
  SessionWriter writer(path);
  Batch batch;
  WorkRecord work;
  work.start_ns = work.end_ns = work.bytes = work.flops = TimeNs{1} << 50;
  batch.works.resize(20'000, work);
  std::uintmax_t longest = 0;
  for (int i = 0; i < 120; ++i) {
    writer.queue()->push(std::make_shared<const Batch>(batch));
    longest = std::max(longest, std::filesystem::file_size(path + "-wal"));
  }
  writer.queue()->close();
  ASSERT_EQ(writer.close(), std::nullopt);
  EXPECT_GT(std::filesystem::file_size(path), 80u << 20);
  EXPECT_LT(longest, 64u << 20);
}

TEST(SessionWriter, KeepsItsHeadlineNumbersUpToDate) {
  TemporaryFolder folder;
  const std::string path = folder.file("run.session");
  const Trace trace = test::sample_trace();
  test::write_session(path, {test::sample_batch()});
  const DecodeNumbers decode = decode_numbers(trace);
  const ExpertCounts experts = count_experts(trace, Phase::decode);
  const PrefillNumbers prefill = prefill_numbers(trace);
  const auto row = test::query(
      path, "SELECT prefill_tokens, prefill_ns, decode_tokens, decode_ns, decode_demands, decode_hits FROM headline");
  ASSERT_EQ(row.size(), 1u);
  EXPECT_EQ(row[0], std::to_string(prefill.tokens) + "|" + std::to_string(prefill.prefill_ns) + "|" +
                        std::to_string(decode.tokens) + "|" + std::to_string(decode.decode_ns) + "|" +
                        std::to_string(experts.demands) + "|" + std::to_string(experts.hits));
}

}  // namespace
}  // namespace expertscope
