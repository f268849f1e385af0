#include "storage/reader.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "profiler/health.h"
#include "storage/gpu_tables.h"
#include "storage/row_checks.h"
#include "storage/session_facts.h"
#include "storage/session_open.h"

namespace expertscope {
namespace {

constexpr std::int64_t kFirstSchemaWithGpuTables = 2;
constexpr std::int64_t kFirstSchemaWithShadows = 3;  // and with revised demands, and prompts' sequences

// One table that grows: reads the rows after the last one seen. The first column is the key that says so.
struct Cursor {
  Cursor(sqlite::Database& db, const char* name, const char* key, const std::string& columns)
      : table(name),
        rows(db, std::string("SELECT ") + key + ", " + columns + " FROM " + name + " WHERE " + key + " > ? ORDER BY " +
                     key) {}

  const char* table;
  sqlite::Statement rows;
  static constexpr std::int64_t kBeforeFirst = std::numeric_limits<std::int64_t>::min();
  std::int64_t last = kBeforeFirst;
};

// The steps from the first on that have a route for every token in every layer, and those routes: what can be replayed
// of a run that was killed, or of a file with rows that make no sense.
void keep_whole_steps(RecordedRun& run) {
  std::size_t routes = 0, steps = 0;
  for (; steps < run.steps.size(); ++steps) {
    const StepRecord& step = run.steps[steps];
    const std::size_t needed = std::size_t{step.tokens} * static_cast<std::size_t>(run.info.layers);
    if (step.step != steps || needed > run.routes.size() - routes) break;
    const auto first = run.routes.begin() + static_cast<std::ptrdiff_t>(routes);
    const auto complete = [&](const RouteRecord& r) { return r.step == step.step && r.token < step.tokens; };
    if (!std::all_of(first, first + static_cast<std::ptrdiff_t>(needed), complete)) break;
    routes += needed;
  }
  run.steps.resize(steps);
  run.routes.resize(routes);
}

}  // namespace

struct SessionReader::State {
  State(const std::string& file, Check);

  void start_over();
  Batch read_new();
  RecordedRun read_recorded_run();
  void read_facts(Batch&);
  void read_rows(Batch&);
  void read_pieces(Batch&);
  void read_logits(Batch&);
  template <typename Record, typename RowCheck>
  void read_table(Cursor&, std::vector<Record>&, RowCheck);
  template <typename Read>
  void in_transaction(Read&&);
  std::vector<RouteRecord> read_routes();
  void report_skipped(Batch&);

  const std::string path;
  sqlite::Database db;
  std::int64_t data_version = -1;
  const std::int64_t schema;
  SessionFacts facts, wall;
  RowChecks checks;
  Cursor steps, works, copies, demands, residency, tokens, epochs, prompts, marks, health, logits, quality;
  sqlite::Statement piece;
  std::optional<Cursor> gpu_copies;  // a session of the first schema has none
  std::optional<GpuTotalsReader> gpu_totals;
  std::set<std::int32_t> known_pieces;
  std::uint64_t skipped = 0;
  std::set<std::string> skipped_tables;
};

SessionReader::State::State(const std::string& file, Check check)
    : path(file),
      db(open_session(file, check)),
      schema(db.integer("PRAGMA user_version")),
      steps(db, "step", "step",
            "step, phase, prompt, epoch, start_ns, end_ns, first_position, first_generated, tokens, sampled, logits"),
      works(db, "work", "id",
            "start_ns, end_ns, step, kind, lane, device, layer, expert, tokens, precision, bytes, flops"),
      copies(
          db, "copy", "id",
          "copy, issued_ns, start_ns, end_ns, step, reason, lane, device, layer, expert, slot, precision, bytes, last"),
      demands(db, "demand", "id",
              std::string("step, layer, expert, asked_ns, ready_ns, picks, rank, weight, state, outcome, precision, "
                          "device, prefetched, ") +
                  (schema < kFirstSchemaWithShadows ? "0" : "revised")),
      residency(db, "residency", "id", "at_ns, step, layer, expert, slot, device, change, reason, used"),
      tokens(db, "token", "id", "at_ns, step, prompt, position, token_id, generated"),
      epochs(db, "epoch", "epoch",
             "epoch, step, at_token, at_ns, source, change, policy_spec, cache_ratio, cache_bytes, slots, cache_reset"),
      prompts(db, "prompt", "prompt",
              std::string("prompt, first_step, at_ns, workload, text, ") +
                  (schema < kFirstSchemaWithShadows ? "0" : "sequence")),
      marks(db, "mark", "id", "at_ns, at_token, text"),
      health(db, "health", "id", "code, severity, count, text"),
      logits(db, "logit", "id", "prompt, rank, token_id, logit"),
      quality(db, "quality", "id",
              std::string("prompt, nll_sum, tokens, ") +
                  (schema < kFirstSchemaWithShadows ? "0.0, 0, 0" : "kl_sum, shadowed, agreed")),
      piece(db, "SELECT bytes FROM piece WHERE token_id = ?") {
  if (schema < kFirstSchemaWithGpuTables) return;
  gpu_totals.emplace(db);
  gpu_copies.emplace(db, "CUPTI_ACTIVITY_KIND_MEMCPY", "rowid",
                     "start, end, deviceId, contextId, streamId, correlationId, bytes, copyKind, srcKind, dstKind, "
                     "srcDeviceId, dstDeviceId, graphNodeId, copyCount, step, layer, expert, work_kind, copy_reason");
}

void SessionReader::State::start_over() {
  data_version = -1;
  facts.clear();
  wall.clear();
  checks = {};
  known_pieces.clear();
  for (Cursor* cursor : {&steps, &works, &copies, &demands, &residency, &tokens, &epochs, &prompts, &marks, &health,
                         &logits, &quality}) {
    cursor->last = Cursor::kBeforeFirst;
  }
  if (!gpu_copies) return;
  gpu_copies->last = Cursor::kBeforeFirst;
  gpu_totals->start_over();
}

template <typename Record, typename RowCheck>
void SessionReader::State::read_table(Cursor& cursor, std::vector<Record>& records, RowCheck check) {
  cursor.rows.bind(1, cursor.last);
  while (cursor.rows.step()) {
    cursor.last = cursor.rows.integer(0);
    if (std::optional<Record> record = (checks.*check)(cursor.rows, 1)) {
      records.push_back(std::move(*record));
    } else {
      ++skipped;
      skipped_tables.insert(cursor.table);
    }
  }
  cursor.rows.reset();
}

void SessionReader::State::read_facts(Batch& batch) {
  const auto read = [&](const char* sql, SessionFacts& known) {
    SessionFacts changed;
    sqlite::Statement rows(db, sql);
    while (rows.step()) {
      const std::string key(rows.bytes(0)), value(rows.bytes(1));
      const auto [place, is_new] = known.try_emplace(key, value);
      if (!is_new && place->second == value) continue;
      place->second = value;
      changed[key] = value;
    }
    return changed;
  };
  SessionFacts changed = read("SELECT key, value FROM session", facts);
  if (const auto end = changed.find(kEndStateKey); end != changed.end()) {
    batch.ended = end->second == kEnded;
    changed.erase(end);
  }
  if (!changed.empty()) {
    try {
      batch.start = run_info_of(facts);
    } catch (const InputError& error) {
      throw SessionRefused(Refusal::damaged, path + " is damaged: " + error.what());
    }
    checks.set_shape(*batch.start);
  }
  batch.wall = read("SELECT key, value FROM wall", wall);
}

void SessionReader::State::read_rows(Batch& batch) {
  read_table(steps, batch.steps, &RowChecks::step);
  read_table(works, batch.works, &RowChecks::work);
  read_table(copies, batch.copies, &RowChecks::copy);
  read_table(demands, batch.demands, &RowChecks::demand);
  read_table(residency, batch.residency, &RowChecks::residency);
  read_table(tokens, batch.tokens, &RowChecks::token);
  read_table(epochs, batch.epochs, &RowChecks::epoch);
  read_table(prompts, batch.prompts, &RowChecks::prompt);
  read_table(marks, batch.marks, &RowChecks::mark);
  read_table(health, batch.health, &RowChecks::health);
  read_table(quality, batch.quality, &RowChecks::quality);
  if (!gpu_copies) return;
  read_table(*gpu_copies, batch.gpu.copies, &RowChecks::gpu_copy);
  const std::uint64_t before = skipped;
  batch.gpu_totals = gpu_totals->read_new(skipped);
  if (skipped > before) skipped_tables.insert("CUPTI_ACTIVITY_KIND_*");
}

// The table is not in the order of arrival: read whole at first, then the texts of newly seen tokens one by one.
void SessionReader::State::read_pieces(Batch& batch) {
  if (known_pieces.empty()) {
    sqlite::Statement all(db, "SELECT token_id, bytes FROM piece");
    while (all.step()) {
      RowFields f(all, 0);
      const auto id = f.integer<std::int32_t>(0x7fffffff);
      if (f.sound() && known_pieces.insert(id).second) batch.pieces[id] = std::string(all.bytes(1));
    }
  }
  const auto look_up = [&](std::int32_t id) {
    if (known_pieces.contains(id)) return;
    piece.bind(1, std::int64_t{id});
    if (piece.step()) {
      batch.pieces[id] = std::string(piece.bytes(0));
      known_pieces.insert(id);
    }
    piece.reset();
  };
  for (const TokenRecord& token : batch.tokens) look_up(token.id);
  for (const LogitsRecord& record : batch.logits) {
    for (const auto& [id, logit] : record.best) look_up(id);
  }
}

void SessionReader::State::read_logits(Batch& batch) {
  logits.rows.bind(1, logits.last);
  while (logits.rows.step()) {
    logits.last = logits.rows.integer(0);
    RowFields f(logits.rows, 1);
    const auto prompt = f.integer<std::uint32_t>(0xffffffff);
    const auto rank = f.integer<std::size_t>(0xffffff);
    const auto id = f.integer<std::int32_t>(0x7fffffff);
    const auto logit = static_cast<float>(f.real());
    if (f.sound() && rank == 0) batch.logits.push_back({prompt, {}});
    f.require(!batch.logits.empty() && batch.logits.back().prompt == prompt && batch.logits.back().best.size() == rank);
    if (f.sound()) {
      batch.logits.back().best.emplace_back(id, logit);
    } else {
      ++skipped;
      skipped_tables.insert(logits.table);
    }
  }
  logits.rows.reset();
}

void SessionReader::State::report_skipped(Batch& batch) {
  if (skipped == 0) return;
  std::string tables;
  for (const std::string& table : skipped_tables) tables += (tables.empty() ? "" : ", ") + table;
  batch.health.push_back({health_code::kRowsSkipped, Severity::loss, skipped,
                          "Rows of the session file that make no sense were left out; they were in: " + tables + "."});
  skipped = 0;
}

// One read transaction, so that all tables are seen at the same moment of a session that is being written.
template <typename Read>
void SessionReader::State::in_transaction(Read&& read) {
  db.exec("BEGIN");
  try {
    read();
  } catch (...) {
    sqlite3_exec(db.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
    throw;
  }
  db.exec("COMMIT");
}

Batch SessionReader::State::read_new() {
  Batch batch;
  in_transaction([&] {
    read_facts(batch);
    read_rows(batch);
    read_logits(batch);
    read_pieces(batch);
  });
  report_skipped(batch);
  return batch;
}

RecordedRun SessionReader::State::read_recorded_run() {
  Batch batch;
  RecordedRun run;
  in_transaction([&] {
    read_facts(batch);
    read_table(steps, batch.steps, &RowChecks::step);
    read_table(epochs, batch.epochs, &RowChecks::epoch);
    read_table(prompts, batch.prompts, &RowChecks::prompt);
    read_table(tokens, batch.tokens, &RowChecks::token);
    run.routes = read_routes();
  });
  if (batch.start) run.info = std::move(*batch.start);
  run.steps = std::move(batch.steps);
  run.epochs = std::move(batch.epochs);
  run.prompts = std::move(batch.prompts);
  run.tokens = std::move(batch.tokens);
  keep_whole_steps(run);
  return run;
}

std::vector<RouteRecord> SessionReader::State::read_routes() {
  Cursor cursor(db, "route", "id", "step, layer, token, picks, gates, gate_entries, data");
  std::vector<RouteRecord> routes;
  read_table(cursor, routes, &RowChecks::route);
  const auto place = [](const RouteRecord& r) { return std::tuple(r.step, r.layer, r.token); };
  if (!std::ranges::is_sorted(routes, {}, place)) std::ranges::stable_sort(routes, {}, place);
  const auto doubled = std::ranges::unique(routes, {}, place);
  routes.erase(doubled.begin(), doubled.end());
  return routes;
}

SessionReader::SessionReader(const std::string& path) {
  try {
    state_ = std::make_unique<State>(path, Check::whole);
  } catch (const sqlite::Error& error) {
    throw refusal_of(path, error);
  }
}

SessionReader::~SessionReader() = default;
SessionReader::SessionReader(SessionReader&&) noexcept = default;
SessionReader& SessionReader::operator=(SessionReader&&) noexcept = default;
const std::string& SessionReader::path() const {
  return state_->path;
}

Batch SessionReader::read_all() {
  state_->start_over();
  return poll();
}

Batch SessionReader::poll() {
  try {
    // Changes whenever another connection has committed.
    const std::int64_t version = state_->db.integer("PRAGMA data_version");
    if (version == state_->data_version) return {};
    Batch batch = state_->read_new();
    state_->data_version = version;
    return batch;
  } catch (const sqlite::Error& error) {
    throw refusal_of(state_->path, error);
  }
}

RecordedRun SessionReader::read_recorded_run() {
  try {
    return State(state_->path, Check::identity).read_recorded_run();
  } catch (const sqlite::Error& error) {
    throw refusal_of(state_->path, error);
  }
}

std::vector<RouteRecord> SessionReader::read_routes() {
  return read_recorded_run().routes;
}

}  // namespace expertscope
