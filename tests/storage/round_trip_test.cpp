// What was recorded is what is read, whole or while it is being written.
#include <atomic>
#include <chrono>
#include <fstream>
#include <map>
#include <thread>

#include <gtest/gtest.h>

#include "profiler/recorder.h"
#include "profiler/report.h"
#include "storage/reader.h"
#include "tests/profiler/record_equality.h"
#include "tests/profiler/sample_run.h"
#include "tests/storage/session_file.h"

namespace expertscope {
namespace {

using test::TemporaryFolder;
using test::write_session;

Trace read_trace(const std::string& path) {
  Trace trace;
  trace.append(SessionReader(path).read_all());
  return trace;
}

TEST(Session, GivesBackTheTraceThatWasRecordedLive) {
  TemporaryFolder folder;
  Recorder recorder;
  Collector collector(recorder, std::chrono::milliseconds(1));
  SessionWriter writer(folder.file("run.session"));
  const auto window = std::make_shared<BatchQueue>();
  collector.subscribe(writer.queue());
  collector.subscribe(window);
  recorder.set_wall("started_at", "2026-11-22T10:00:00");
  test::play_sample(recorder, 100);
  collector.close();
  ASSERT_EQ(writer.close(), std::nullopt);
  Trace live;
  for (const BatchPtr& batch : window->take()) live.append(*batch);
  const Trace loaded = read_trace(folder.file("run.session"));
  test::expect_equal(live, loaded);
  EXPECT_EQ(make_report(live).dump(), make_report(loaded).dump());
}

TEST(Session, GivesBackTheRoutesBitForBit) {
  TemporaryFolder folder;
  const Batch batch = test::sample_batch();
  write_session(folder.file("run.session"), {batch});
  SessionReader reader(folder.file("run.session"));
  const RecordedRun run = reader.read_recorded_run();
  test::expect_equal(run.routes, batch.routes, "route");
  test::expect_equal(run.steps, batch.steps, "step");
  test::expect_equal(run.epochs, batch.epochs, "epoch");
  EXPECT_EQ(run.info.profile_json, batch.start->profile_json);
  EXPECT_EQ(reader.read_all().routes.size(), 0u);  // a trace does not need them
}

TEST(Session, IsReplayedUpToItsLastWholeStep) {
  TemporaryFolder folder;
  Batch batch = test::sample_batch();
  batch.routes.pop_back();
  write_session(folder.file("run.session"), {batch});
  const RecordedRun run = SessionReader(folder.file("run.session")).read_recorded_run();
  EXPECT_EQ(run.steps.size(), batch.steps.size() - 1);
  EXPECT_EQ(run.routes.size(), batch.routes.size() + 1 - test::SampleRun::kLayers);
}

TEST(Session, CanBeReadByAnotherConnectionWhileItIsWritten) {
  TemporaryFolder folder;
  const std::string path = folder.file("run.session");
  const Batch whole = test::sample_batch(50);
  SessionWriter writer(path);
  Trace followed;
  SessionReader reader(path);
  followed.append(reader.read_all());
  EXPECT_FALSE(followed.started);

  Batch first, second = whole;
  first.start = whole.start;
  first.epochs = whole.epochs;
  first.works.assign(whole.works.begin(), whole.works.begin() + 100);
  second.start.reset();
  second.epochs.clear();
  second.works.erase(second.works.begin(), second.works.begin() + 100);

  writer.queue()->push(std::make_shared<const Batch>(first));
  for (int i = 0; i < 500 && followed.works.size() < 100; ++i) {
    followed.append(reader.poll());
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ASSERT_EQ(followed.works.size(), 100u);
  EXPECT_TRUE(followed.started);
  EXPECT_FALSE(followed.ended);
  EXPECT_TRUE(reader.poll().empty());

  writer.queue()->push(std::make_shared<const Batch>(second));
  writer.queue()->close();
  ASSERT_EQ(writer.close(), std::nullopt);  // a reader that looks on does not keep the writer from closing
  followed.append(reader.poll());
  Trace wanted;
  wanted.append(whole);
  test::expect_equal(wanted, followed);
}

TEST(Session, IsFollowedWithoutGapsByAReaderThatKeepsPolling) {
  TemporaryFolder folder;
  const std::string path = folder.file("run.session");
  SessionWriter writer(path);
  Recorder recorder;
  Collector collector(recorder, std::chrono::milliseconds(1));
  collector.subscribe(writer.queue());
  std::atomic<bool> done = false;
  Trace followed;
  std::thread reading([&] {
    SessionReader reader(path);
    followed.append(reader.read_all());
    while (!done) followed.append(reader.poll());
    followed.append(reader.poll());
  });
  test::play_sample(recorder, 300);
  collector.close();
  EXPECT_EQ(writer.close(), std::nullopt);
  done = true;
  reading.join();
  test::expect_equal(test::sample_trace(300), followed);
}

TEST(Session, IsOneFileOnceItIsClosed) {
  TemporaryFolder folder;
  write_session(folder.file("run.session"), {test::sample_batch()});
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    files.push_back(entry.path().filename().string());
  EXPECT_EQ(files, std::vector<std::string>{"run.session"});
}

TEST(Session, CanBeReadFromAFolderThatCannotBeWritten) {
  TemporaryFolder folder;
  write_session(folder.file("run.session"), {test::sample_batch()});
  std::filesystem::permissions(folder.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  test::expect_equal(read_trace(folder.file("run.session")), test::sample_trace());
}

// Every row of every table but `wall`, in order of their keys.
std::map<std::string, std::vector<std::string>> all_rows(const std::string& path) {
  std::map<std::string, std::vector<std::string>> tables;
  for (const std::string& table :
       test::query(path, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'wall'")) {
    tables[table] = test::query(path, "SELECT *, quote(rowid) FROM " + table + " ORDER BY rowid");
  }
  return tables;
}

TEST(Session, HasEqualRowsForEqualRunsHoweverTheyWereCutIntoBatches) {
  TemporaryFolder folder;
  const auto record = [&](const char* name, std::chrono::milliseconds period, RecorderOptions options,
                          const char* date) {
    Recorder recorder(options);
    Collector collector(recorder, period);
    SessionWriter writer(folder.file(name));
    collector.subscribe(writer.queue());
    recorder.set_wall("started_at", date);
    test::play_sample(recorder, 60);
    collector.close();
    ASSERT_EQ(writer.close(), std::nullopt);
  };
  record("one", std::chrono::milliseconds(1), {WhenFull::push_back, 64, 64}, "2026-11-22");
  record("two", std::chrono::milliseconds(50), {}, "2026-11-23");
  const auto one = all_rows(folder.file("one")), two = all_rows(folder.file("two"));
  ASSERT_EQ(one.size(), two.size());
  EXPECT_GT(one.at("work").size(), 100u);
  for (const auto& [table, rows] : one) EXPECT_EQ(rows, two.at(table)) << table;
  EXPECT_NE(test::query(folder.file("one"), "SELECT * FROM wall"),
            test::query(folder.file("two"), "SELECT * FROM wall"));
}

}  // namespace
}  // namespace expertscope
