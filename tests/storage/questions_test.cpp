// The stable views answer what users ask: tests/storage/questions/ holds each question, its query and the expected
// rows.
#include <algorithm>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "profiler/metrics.h"
#include "tests/profiler/sample_run.h"
#include "tests/storage/session_file.h"

namespace expertscope {
namespace {

struct Question {
  std::string query;
  std::vector<std::string> rows;
};

Question read_question(const std::filesystem::path& path) {
  Question question;
  std::ifstream file(path);
  int part = 0;
  for (std::string line; std::getline(file, line);) {
    if (line == "--")
      ++part;
    else if (part == 1)
      question.query += line + "\n";
    else if (part == 2)
      question.rows.push_back(line);
  }
  return question;
}

TEST(Questions, HaveTheExpectedAnswers) {
  test::TemporaryFolder folder;
  const std::string session = folder.file("sample.session");
  test::write_session(session, {test::sample_batch(10)});
  int asked = 0;
  for (const auto& entry : std::filesystem::directory_iterator(ES_TESTS_DIR "/storage/questions")) {
    if (entry.path().extension() != ".sql") continue;
    const Question question = read_question(entry.path());
    EXPECT_EQ(test::query(session, question.query), question.rows) << entry.path().filename();
    ++asked;
  }
  EXPECT_GE(asked, 8);
}

TEST(Questions, AreAnsweredAsTheReportAnswersThem) {
  test::TemporaryFolder folder;
  const std::string session = folder.file("sample.session");
  test::write_session(session, {test::sample_batch(10)});
  const Trace trace = test::sample_trace(10);
  const ExpertCounts decode = count_experts(trace, Phase::decode);
  EXPECT_EQ(test::query(session, "SELECT count(*), sum(state = 'hit') FROM v_demand WHERE phase = 'decode'"),
            std::vector<std::string>{std::to_string(decode.demands) + "|" + std::to_string(decode.hits)});
  const TransferTotals transfers = count_transfers(trace);
  EXPECT_EQ(test::query(session, "SELECT sum(count), sum(bytes), sum(copy_ns) FROM v_transfer"),
            std::vector<std::string>{std::to_string(transfers.count) + "|" + std::to_string(transfers.bytes) + "|" +
                                     std::to_string(transfers.copy_ns)});
  const auto cells = expert_totals(trace);
  std::vector<std::string> rows;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (cells[i].demands == 0) continue;
    rows.push_back(std::to_string(i / 8) + "|" + std::to_string(i % 8) + "|" + std::to_string(cells[i].activations) +
                   "|" + std::to_string(cells[i].hits) + "|" + std::to_string(cells[i].misses));
  }
  EXPECT_EQ(
      test::query(session, "SELECT layer, expert, activations, hits, misses FROM v_expert ORDER BY layer, expert"),
      rows);
}

}  // namespace
}  // namespace expertscope
