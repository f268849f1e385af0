#include "storage/session_list.h"

#include <fstream>

#include <gtest/gtest.h>
#include <stdlib.h>

#include "engine/error.h"
#include "profiler/metrics.h"
#include "storage/reader.h"
#include "tests/profiler/sample_run.h"
#include "tests/storage/session_file.h"

namespace expertscope {
namespace {

namespace fs = std::filesystem;
using test::TemporaryFolder;

Batch sample_with_wall() {
  Batch batch = test::sample_batch();
  batch.wall["started_at"] = "2026-11-22T10:00:00";
  return batch;
}

TEST(SessionList, TellsTheHeadlineNumbersOfEachSession) {
  TemporaryFolder folder;
  test::write_session(folder.file("run.session"), {sample_with_wall()});
  std::ofstream(folder.file("readme.txt")) << "not a session";
  const auto list = list_sessions(folder.path().string());
  ASSERT_EQ(list.size(), 1u);
  const SessionEntry& entry = list[0];
  const Trace trace = test::sample_trace();
  EXPECT_EQ(entry.file_name, "run.session");
  EXPECT_EQ(entry.refusal, "");
  EXPECT_EQ(entry.model, "sample");
  EXPECT_EQ(entry.machine, "emulated:rtx4090-pcie4");
  EXPECT_EQ(entry.policy, "on-demand");
  EXPECT_EQ(entry.label, "ESTIMATED");
  EXPECT_EQ(entry.epochs, 2u);
  EXPECT_EQ(entry.started_at, "2026-11-22T10:00:00");
  EXPECT_TRUE(entry.ended);
  EXPECT_GT(entry.size_bytes, 4096);
  EXPECT_DOUBLE_EQ(entry.tokens_per_s.value(), decode_numbers(trace).tokens_per_s());
  EXPECT_DOUBLE_EQ(entry.hit_rate.value(), count_experts(trace, Phase::decode).hit_rate());
}

TEST(SessionList, ShowsASessionThatIsStillBeingWritten) {
  TemporaryFolder folder;
  SessionWriter writer(folder.file("run.session"));
  const auto list = list_sessions(folder.path().string());
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].refusal, "");
  EXPECT_FALSE(list[0].ended);
  EXPECT_FALSE(list[0].tokens_per_s.has_value());
}

TEST(SessionList, ShowsWhyASessionCannotBeOpened) {
  TemporaryFolder folder;
  test::write_session(folder.file("new.session"), {test::sample_batch()});
  test::tamper(folder.file("new.session"), "PRAGMA user_version = 99");
  const auto list = list_sessions(folder.path().string());
  ASSERT_EQ(list.size(), 1u);
  EXPECT_NE(list[0].refusal.find("newer"), std::string::npos) << list[0].refusal;
}

TEST(SessionList, IsEmptyForAFolderThatIsNotThere) {
  EXPECT_TRUE(list_sessions("/no/such/folder").empty());
}

TEST(SessionList, RenamesWithoutOverwriting) {
  TemporaryFolder folder;
  test::write_session(folder.file("a.session"), {test::sample_batch()});
  test::write_session(folder.file("b.session"), {test::sample_batch()});
  EXPECT_THROW(rename_session(folder.file("a.session"), "b.session"), RunError);
  EXPECT_THROW(rename_session(folder.file("a.session"), "../c.session"), RunError);
  EXPECT_EQ(rename_session(folder.file("a.session"), "c.session"), folder.file("c.session"));
  EXPECT_FALSE(fs::exists(folder.file("a.session")));
  EXPECT_FALSE(SessionReader(folder.file("c.session")).read_all().steps.empty());
}

TEST(SessionList, KeepsTheUsersNote) {
  TemporaryFolder folder;
  test::write_session(folder.file("a.session"), {test::sample_batch()});
  set_session_note(folder.file("a.session"), "the good one");
  set_session_note(folder.file("a.session"), "the very good one");
  EXPECT_EQ(describe_session(folder.file("a.session")).note, "the very good one");
  EXPECT_EQ(SessionReader(folder.file("a.session")).read_all().wall.at("note"), "the very good one");
}

TEST(SessionList, LeavesASessionAloneThatIsBeingWritten) {
  TemporaryFolder folder;
  SessionWriter writer(folder.file("a.session"));
  EXPECT_THROW(rename_session(folder.file("a.session"), "b.session"), RunError);
  EXPECT_THROW(trash_session(folder.file("a.session")), RunError);
  EXPECT_THROW(set_session_note(folder.file("a.session"), "x"), RunError);
  writer.queue()->push(std::make_shared<const Batch>(test::sample_batch()));
  writer.queue()->close();
  EXPECT_EQ(writer.close(), std::nullopt);
}

TEST(SessionList, MovesToTheTrashFromWhereItCanBeRestored) {
  TemporaryFolder folder, home;
  setenv("XDG_DATA_HOME", home.path().c_str(), 1);
  for (int i = 0; i < 2; ++i) {  // two of one name
    test::write_session(folder.file("a b.session"), {test::sample_batch()});
    trash_session(folder.file("a b.session"));
    EXPECT_FALSE(fs::exists(folder.file("a b.session")));
  }
  unsetenv("XDG_DATA_HOME");
  EXPECT_TRUE(fs::exists(home.path() / "Trash/files/a b.session"));
  EXPECT_TRUE(fs::exists(home.path() / "Trash/files/a b.session 2"));
  std::ifstream info(home.path() / "Trash/info/a b.session.trashinfo");
  std::string head, path;
  std::getline(info, head);
  std::getline(info, path);
  EXPECT_EQ(head, "[Trash Info]");
  EXPECT_EQ(path.substr(0, 6), "Path=/");
  EXPECT_NE(path.find("a%20b.session"), std::string::npos) << path;
}

}  // namespace
}  // namespace expertscope
