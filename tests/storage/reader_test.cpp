// Session files are untrusted: what cannot be read is refused with the reason, what makes no sense is left out and
// counted.
#include "storage/reader.h"

#include <fstream>

#include <gtest/gtest.h>

#include "profiler/health.h"
#include "profiler/identities.h"
#include "profiler/report.h"
#include "tests/profiler/sample_run.h"
#include "tests/storage/session_file.h"

namespace expertscope {
namespace {

using test::tamper;
using test::TemporaryFolder;

class SessionFile : public testing::Test {
 protected:
  void SetUp() override { test::write_session(path_, {test::sample_batch()}); }

  Refusal refusal(const std::string& path) {
    try {
      SessionReader(path).read_all();
    } catch (const SessionRefused& refused) {
      message_ = refused.what();
      EXPECT_NE(message_.find(path), std::string::npos) << message_;
      return refused.why();
    }
    ADD_FAILURE() << "was not refused";
    return {};
  }
  Refusal refusal() { return refusal(path_); }

  TemporaryFolder folder_;
  const std::string path_ = folder_.file("run.session");
  std::string message_;
};

TEST_F(SessionFile, ThatIsATextFileIsRefused) {
  const std::string text = folder_.file("notes.txt");
  std::ofstream(text) << "Dear diary, this is long enough to be taken for a header. " << std::string(200, 'x');
  EXPECT_EQ(refusal(text), Refusal::not_a_session);
}

TEST_F(SessionFile, ThatIsEmptyIsRefused) {
  std::ofstream(folder_.file("empty")).flush();
  EXPECT_EQ(refusal(folder_.file("empty")), Refusal::not_a_session);
}

TEST_F(SessionFile, OfAnotherProgramIsRefused) {
  tamper(folder_.file("run.session"), "PRAGMA application_id = 42");
  EXPECT_EQ(refusal(), Refusal::not_a_session);
}

TEST_F(SessionFile, FromANewerVersionIsRefused) {
  tamper(path_, "PRAGMA user_version = 99");
  EXPECT_EQ(refusal(), Refusal::newer);
  EXPECT_NE(message_.find("99"), std::string::npos) << message_;
}

TEST_F(SessionFile, FromBeforeTheFirstVersionIsRefused) {
  tamper(path_, "PRAGMA user_version = 0");
  EXPECT_EQ(refusal(), Refusal::too_old);
}

TEST_F(SessionFile, ThatIsNotThereIsRefused) {
  EXPECT_EQ(refusal(folder_.file("nothing")), Refusal::cannot_open);
}

TEST_F(SessionFile, ThatIsAFolderIsRefused) {
  EXPECT_EQ(refusal(folder_.path().string()), Refusal::cannot_open);
}

TEST_F(SessionFile, ThatWasCutOffIsRefused) {
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2);
  EXPECT_EQ(refusal(), Refusal::damaged);
}

TEST_F(SessionFile, WithOverwrittenPagesIsRefused) {
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(std::filesystem::file_size(path_) / 2 / 4096 * 4096));
  file << std::string(4096, '\x5a');
  file.close();
  EXPECT_EQ(refusal(), Refusal::damaged);
}

TEST_F(SessionFile, WithATriggerIsRefused) {
  tamper(path_, "CREATE TRIGGER surprise AFTER INSERT ON mark BEGIN DELETE FROM work; END");
  EXPECT_EQ(refusal(), Refusal::damaged);
  EXPECT_NE(message_.find("surprise"), std::string::npos) << message_;
}

TEST_F(SessionFile, WithAViewInPlaceOfATableIsRefused) {
  tamper(path_, "ALTER TABLE mark RENAME TO mark2; CREATE VIEW mark AS SELECT * FROM mark2");
  EXPECT_EQ(refusal(), Refusal::damaged);
}

TEST_F(SessionFile, WithoutATableIsRefused) {
  tamper(path_, "DROP VIEW v_health; DROP TABLE health");
  EXPECT_EQ(refusal(), Refusal::damaged);
}

TEST_F(SessionFile, WhoseModelMakesNoSenseIsRefused) {
  tamper(path_, "UPDATE session SET value = '-3' WHERE key = 'model.layers'");
  EXPECT_EQ(refusal(), Refusal::damaged);
  EXPECT_NE(message_.find("model.layers"), std::string::npos) << message_;
}

TEST_F(SessionFile, MayHaveAnIndexThatTheUserMade) {
  tamper(path_, "CREATE INDEX by_expert ON demand (layer, expert); ANALYZE");
  EXPECT_FALSE(SessionReader(path_).read_all().demands.empty());
}

TEST_F(SessionFile, LeavesOutAndCountsARowWithANegativeDuration) {
  const std::size_t works = SessionReader(path_).read_all().works.size();
  tamper(path_, "UPDATE work SET end_ns = start_ns - 5 WHERE id = 10");
  Trace trace;
  trace.append(SessionReader(path_).read_all());
  EXPECT_EQ(trace.works.size(), works - 1);
  ASSERT_TRUE(trace.health.contains(health_code::kRowsSkipped));
  EXPECT_EQ(trace.health.at(health_code::kRowsSkipped).count, 1u);
  EXPECT_NE(trace.health.at(health_code::kRowsSkipped).text.find("work"), std::string::npos);
  EXPECT_EQ(make_report(trace)["health"]["session.rows_skipped"]["count"], 1);
}

// One change each that makes exactly one row senseless.
class SenselessRow : public SessionFile, public testing::WithParamInterface<const char*> {};

TEST_P(SenselessRow, IsLeftOutAndCounted) {
  tamper(path_, GetParam());
  Trace trace;
  trace.append(SessionReader(path_).read_all());
  ASSERT_TRUE(trace.health.contains(health_code::kRowsSkipped));
  EXPECT_EQ(trace.health.at(health_code::kRowsSkipped).count, 1u);
  // Whatever is left can be reported on.
  EXPECT_NO_THROW(make_report(trace).dump());
}

INSTANTIATE_TEST_SUITE_P(
    OfEveryTable, SenselessRow,
    testing::Values("UPDATE step SET end_ns = start_ns - 1 WHERE step = 7",
                    "UPDATE step SET start_ns = -1 WHERE step = 7", "UPDATE step SET phase = 2 WHERE step = 7",
                    "UPDATE step SET tokens = 70000 WHERE step = 7", "UPDATE work SET layer = 2 WHERE id = 10",
                    "UPDATE work SET expert = 8 WHERE id = 10", "UPDATE work SET kind = 13 WHERE id = 10",
                    "UPDATE work SET lane = -1 WHERE id = 10", "UPDATE work SET bytes = -1 WHERE id = 10",
                    "UPDATE work SET end_ns = 9223372036854775807 WHERE id = 10",
                    "UPDATE work SET flops = -9223372036854775807 WHERE id = 10",
                    "UPDATE copy SET end_ns = 0 WHERE id = 9", "UPDATE copy SET issued_ns = end_ns WHERE id = 9",
                    "UPDATE copy SET expert = NULL WHERE id = 9", "UPDATE copy SET reason = 6 WHERE id = 9",
                    "UPDATE copy SET last = 2 WHERE id = 9", "UPDATE demand SET layer = 2 WHERE id = 9",
                    "UPDATE demand SET picks = 0 WHERE id = 9", "UPDATE demand SET weight = 9e999 WHERE id = 9",
                    "UPDATE demand SET weight = 1e300 WHERE id = 9", "UPDATE demand SET state = 3 WHERE id = 9",
                    "UPDATE demand SET ready_ns = asked_ns - 1 WHERE id = 9",
                    "UPDATE demand SET step = 0 WHERE id = 90", "UPDATE residency SET expert = -1 WHERE id = 3",
                    "UPDATE residency SET slot = 65536 WHERE id = 3", "UPDATE token SET token_id = 1000 WHERE id = 3",
                    "UPDATE token SET token_id = -1 WHERE id = 3", "UPDATE epoch SET cache_ratio = 2 WHERE epoch = 1",
                    "UPDATE epoch SET policy_spec = printf('%.*c', 5000, 'x') WHERE epoch = 1",
                    "UPDATE prompt SET at_ns = -1 WHERE prompt = 1", "UPDATE mark SET at_ns = -1",
                    "UPDATE health SET severity = 9", "UPDATE health SET count = 0", "UPDATE quality SET nll_sum = -1",
                    "UPDATE logit SET logit = -9e999 WHERE id = 4", "UPDATE logit SET rank = 5 WHERE id = 4"));

TEST_F(SessionFile, WithManyHugeIntervalsAddsUpWithoutOverflow) {
  tamper(path_, "UPDATE work SET start_ns = 0, end_ns = 36028797018963968; UPDATE copy SET bytes = 1125899906842624");
  Trace trace;
  trace.append(SessionReader(path_).read_all());
  EXPECT_NO_THROW(make_report(trace).dump());
  EXPECT_TRUE(trace.health.contains(health_code::kRowsSkipped));
}

TEST_F(SessionFile, WhoseRoutesMakeNoSenseIsReplayedUpToTheFirstBadOne) {
  tamper(path_, "UPDATE route SET data = substr(data, 1, 20) WHERE id = (SELECT min(id) FROM route WHERE step = 4)");
  const RecordedRun run = SessionReader(path_).read_recorded_run();
  EXPECT_EQ(run.steps.size(), 4u);
  for (const RouteRecord& route : run.routes) EXPECT_LT(route.step, 4u);
}

TEST_F(SessionFile, ThatWasInterruptedSaysSo) {
  tamper(path_, "DELETE FROM session WHERE key = 'end_state'");
  Trace trace;
  trace.append(SessionReader(path_).read_all());
  EXPECT_FALSE(trace.ended);
  EXPECT_TRUE(make_report(trace)["health"].contains(health_code::kNotEnded));
}

}  // namespace
}  // namespace expertscope
