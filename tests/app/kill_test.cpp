// kill -9 at any moment loses at most what was not yet committed: the last tenth of a second.
#include <chrono>
#include <cstdlib>
#include <optional>
#include <random>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kKills = 20;
constexpr auto kPromise = std::chrono::milliseconds(100);
constexpr unsigned kSeed = 20261122;

std::string quick_check(const std::string& path) {
  sqlite3* database = nullptr;
  sqlite3_stmt* statement = nullptr;
  std::string answer = "cannot be opened";
  if (sqlite3_open_v2(path.c_str(), &database, SQLITE_OPEN_READWRITE, nullptr) == SQLITE_OK &&
      sqlite3_prepare_v2(database, "PRAGMA quick_check", -1, &statement, nullptr) == SQLITE_OK &&
      sqlite3_step(statement) == SQLITE_ROW)
    answer = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
  sqlite3_finalize(statement);
  sqlite3_close(database);
  return answer;
}

// A capture whose standard error is a terminal, so that it shows its progress: how many tokens it had generated at
// which time.
class WatchedCapture {
 public:
  WatchedCapture(const std::string& session, const std::string& out) {
    int slave = -1;
    if (openpty(&terminal_, &slave, nullptr, nullptr, nullptr) != 0) return;
    process_ = start_program({"capture", "--tokens", "1000000", "--policy", "lookahead", "--out", session}, out,
                             ttyname(slave));
    slave_ = slave;
  }
  ~WatchedCapture() {
    close(slave_);
    close(terminal_);
  }

  void watch_until(Clock::time_point until) {
    while (Clock::now() < until) {
      pollfd waiting{terminal_, POLLIN, 0};
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
      if (poll(&waiting, 1, static_cast<int>(left.count())) <= 0) continue;
      char buffer[4096];
      const ssize_t length = read(terminal_, buffer, sizeof buffer);
      if (length > 0) note(std::string(buffer, static_cast<std::size_t>(length)));
    }
  }

  bool watch_for_tokens() {
    const auto deadline = Clock::now() + std::chrono::seconds(30);
    while (shown_before(Clock::now()) == 0 && Clock::now() < deadline)
      watch_until(Clock::now() + std::chrono::milliseconds(10));
    return shown_before(Clock::now()) > 0;
  }

  int kill_now() {
    kill(process_, SIGKILL);
    int status = 0;
    waitpid(process_, &status, 0);
    return exit_code_of(status);
  }

  // Tokens that had been shown before a moment.
  int shown_before(Clock::time_point moment) const {
    int tokens = 0;
    for (const auto& [at, count] : shown_)
      if (at <= moment) tokens = count;
    return tokens;
  }

 private:
  void note(const std::string& text) {
    if (const std::size_t at = text.rfind("token "); at != std::string::npos)
      shown_.emplace_back(Clock::now(), std::atoi(text.c_str() + at + 6));
  }

  int terminal_ = -1, slave_ = -1;
  pid_t process_ = -1;
  std::vector<std::pair<Clock::time_point, int>> shown_;
};

class Killed : public ProgramTest {};

TEST_F(Killed, RunsKeepAllButTheLastTenthOfASecond) {
  std::mt19937 random(kSeed);
  std::uniform_int_distribution<int> moment_ms(50, 1400);
  for (int number = 0; number < kKills; ++number) {
    const std::string session = path("killed-" + std::to_string(number) + ".expertscope");
    WatchedCapture capture(session, path("out"));
    ASSERT_TRUE(capture.watch_for_tokens());
    const auto moment = Clock::now() + std::chrono::milliseconds(moment_ms(random));
    capture.watch_until(moment);
    const auto killed_at = Clock::now();
    ASSERT_EQ(capture.kill_now(), 128 + SIGKILL);
    SCOPED_TRACE("kill " + std::to_string(number));

    EXPECT_EQ(quick_check(session), "ok");
    const Outcome outcome = run_program({"report", session, "--json"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const auto report = nlohmann::json::parse(outcome.out);
    EXPECT_TRUE(report["health"].contains("session.not_ended"));
    int kept = 0;
    for (const auto& prompt : report["output"]["prompts"]) kept += static_cast<int>(prompt["token_ids"].size());
    EXPECT_GE(kept, capture.shown_before(killed_at - kPromise));
  }
}

}  // namespace
}  // namespace expertscope::testing
