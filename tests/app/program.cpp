#include "tests/app/program.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

namespace fs = std::filesystem;

namespace expertscope::testing {
namespace {

void redirect(const std::string& path, int descriptor) {
  const int file = open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0644);
  if (file < 0 || dup2(file, descriptor) < 0) _exit(126);
  close(file);
}

fs::path new_folder() {
  std::string pattern = (fs::temp_directory_path() / "expertscope-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
  return pattern;
}

std::string column_text(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_NULL:
      return "null";
    case SQLITE_BLOB: {
      std::ostringstream hex;
      const auto* bytes = static_cast<const unsigned char*>(sqlite3_column_blob(statement, column));
      for (int i = 0; i < sqlite3_column_bytes(statement, column); ++i)
        hex << std::hex << static_cast<int>(bytes[i]) << '.';
      return hex.str();
    }
    default:
      return reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
  }
}

std::vector<std::string> query(sqlite3* database, const std::string& sql) {
  sqlite3_stmt* statement = nullptr;
  std::vector<std::string> rows;
  EXPECT_EQ(sqlite3_prepare_v2(database, sql.c_str(), -1, &statement, nullptr), SQLITE_OK)
      << sql << ": " << sqlite3_errmsg(database);
  while (sqlite3_step(statement) == SQLITE_ROW) {
    std::string row;
    for (int i = 0; i < sqlite3_column_count(statement); ++i) row += (i ? "|" : "") + column_text(statement, i);
    rows.push_back(std::move(row));
  }
  sqlite3_finalize(statement);
  return rows;
}

}  // namespace

int exit_code_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

pid_t start_program(const Arguments& arguments, const std::string& out_path, const std::string& err_path,
                    const std::function<void()>& prepare) {
  const pid_t child = fork();
  if (child != 0) return child;
  redirect("/dev/null", STDIN_FILENO);
  redirect(out_path, STDOUT_FILENO);
  redirect(err_path, STDERR_FILENO);
  if (prepare) prepare();
  std::vector<char*> argv = {const_cast<char*>(ES_TEST_PROGRAM)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(ES_TEST_PROGRAM, argv.data());
  _exit(127);
}

Outcome run_program(const Arguments& arguments, const std::function<void()>& prepare) {
  const fs::path folder = new_folder();
  const std::string out = (folder / "out").string(), err = (folder / "err").string();
  const pid_t child = start_program(arguments, out, err, prepare);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  Outcome outcome{exit_code_of(status), read_text(out), read_text(err)};
  fs::remove_all(folder);
  return outcome;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string asset(const std::string& relative_path) {
  return std::string(ES_ASSETS_DIR) + "/" + relative_path;
}

ProgramTest::ProgramTest() : folder_(new_folder()) {}
ProgramTest::~ProgramTest() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

std::string ProgramTest::write(const std::string& name, const std::string& content) const {
  std::ofstream(folder_ / name, std::ios::binary) << content;
  return path(name);
}

nlohmann::json ProgramTest::capture(const std::string& out_name, Arguments extra) const {
  Arguments arguments = {"capture", "--out", path(out_name), "--json", "-"};
  const auto given = [&](const std::string& option) {
    return std::find(extra.begin(), extra.end(), option) != extra.end();
  };
  if (!given("--tokens") && !given("--text")) arguments.insert(arguments.end(), {"--tokens", "16"});
  arguments.insert(arguments.end(), extra.begin(), extra.end());
  const Outcome outcome = run_program(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  auto report = nlohmann::json::parse(outcome.out, nullptr, false);
  EXPECT_FALSE(report.is_discarded()) << outcome.out.substr(0, 400);
  return report;
}

void ProgramTest::expect_refused(const Arguments& arguments, const std::string& mention) {
  const Outcome outcome = run_program(arguments);
  std::string line = "expertscope";
  for (const std::string& argument : arguments) line += " " + argument;
  SCOPED_TRACE(line);
  EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_TRUE(outcome.err.starts_with("expertscope: ")) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  EXPECT_NE(outcome.err.find(mention), std::string::npos) << "no '" << mention << "' in: " << outcome.err;
}

std::map<std::string, std::vector<std::string>> rows_of(const std::string& session_path) {
  sqlite3* database = nullptr;
  EXPECT_EQ(sqlite3_open_v2(session_path.c_str(), &database, SQLITE_OPEN_READONLY, nullptr), SQLITE_OK);
  std::map<std::string, std::vector<std::string>> tables;
  for (const std::string& table :
       query(database,
             "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'wall'"))
    tables[table] = query(database, "SELECT * FROM \"" + table + "\"");
  sqlite3_close(database);
  return tables;
}

nlohmann::json without_wall(nlohmann::json report) {
  report.erase("wall");
  return report;
}

}  // namespace expertscope::testing
