// What CUPTI saw lies in tables that scripts for Nsight Systems' exports understand, and comes back as it was.
#include <chrono>
#include <sstream>
#include <thread>

#include <gtest/gtest.h>
#include <unistd.h>

#include "profiler/cupti_metrics.h"
#include "profiler/health.h"
#include "profiler/report.h"
#include "storage/reader.h"
#include "storage/schema.h"
#include "tests/profiler/gpu_sample.h"
#include "tests/profiler/record_equality.h"
#include "tests/storage/session_file.h"

namespace expertscope {
namespace {

using Rows = std::vector<std::string>;

Trace read_trace(const std::string& path) {
  Trace trace;
  trace.append(SessionReader(path).read_all());
  return trace;
}

class GpuTables : public ::testing::Test {
 protected:
  void SetUp() override {
    batch_ = test::gpu_sample_batch();
    // Purposes of every sort, and none.
    batch_.gpu.copies[1].tag = 0;
    batch_.gpu.copies[2].tag = pack({.step = 3, .layer = 1, .kind = WorkKind::combine});
    batch_.gpu.copies[3].tag = pack({.step = 0xffffffff, .is_copy = true, .reason = CopyReason::input});
    batch_.gpu.copies[4].graph_node = 77;
    batch_.gpu.kernels[0].tag = 0;
    batch_.gpu_totals = totals_of(batch_.gpu);
    test::write_session(path_, {batch_});
  }
  test::TemporaryFolder folder_;
  const std::string path_ = folder_.file("gpu.session");
  Batch batch_;
};

TEST_F(GpuTables, GiveBackTheTraceThatWasRecordedLive) {
  Trace live;
  live.append(batch_);
  const Trace loaded = read_trace(path_);
  test::expect_equal(live, loaded);
  EXPECT_EQ(make_report(live).dump(), make_report(loaded).dump());
  EXPECT_GT(loaded.gpu_totals.kernels, 100u);
}

TEST_F(GpuTables, AreFollowedWhileTheyGrow) {
  const std::string path = folder_.file("growing.session");
  Trace followed, whole;
  SessionWriter writer(path);
  SessionReader reader(path);
  for (int i = 0; i < 3; ++i) {
    Batch part = i == 0 ? batch_ : Batch();
    part.gpu.kernels = batch_.gpu.kernels;
    part.gpu.copies = batch_.gpu.copies;
    part.gpu_totals = totals_of(part.gpu);
    writer.queue()->push(std::make_shared<const Batch>(part));
    whole.append(part);
    for (int n = 0; n < 500 && followed.gpu_copies.size() < whole.gpu_copies.size(); ++n) {
      followed.append(reader.poll());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  test::expect_equal(whole.gpu_copies, followed.gpu_copies, "copy");
  EXPECT_EQ(whole.gpu_totals, followed.gpu_totals);
  writer.queue()->close();
  EXPECT_EQ(writer.close(), std::nullopt);
}

TEST_F(GpuTables, HaveTheColumnsOfNsightSystems) {
  const auto columns = [&](const std::string& table) {
    return test::query(path_, "SELECT name FROM pragma_table_info('" + table + "')");
  };
  const std::string kernel =
      "start end deviceId contextId greenContextId streamId correlationId globalPid demangledName shortName "
      "mangledName "
      "launchType cacheConfig registersPerThread gridX gridY gridZ blockX blockY blockZ staticSharedMemory "
      "dynamicSharedMemory localMemoryPerThread localMemoryTotal gridId sharedMemoryExecuted graphNodeId "
      "sharedMemoryLimitConfig";
  const std::string copy =
      "start end deviceId contextId greenContextId streamId correlationId globalPid bytes copyKind deprecatedSrcId "
      "srcKind dstKind srcDeviceId srcContextId dstDeviceId dstContextId migrationCause graphNodeId virtualAddress "
      "copyCount";
  const std::string memset =
      "start end deviceId contextId greenContextId streamId correlationId globalPid value bytes graphNodeId memKind";
  const std::string sync =
      "start end deviceId contextId greenContextId streamId correlationId globalPid syncType eventId eventSyncId";
  for (const auto& [table, wanted] :
       {std::pair("KERNEL", kernel), {"MEMCPY", copy}, {"MEMSET", memset}, {"SYNCHRONIZATION", sync}}) {
    const Rows found = columns(std::string("CUPTI_ACTIVITY_KIND_") + table);
    std::istringstream names(wanted);
    std::size_t i = 0;
    for (std::string name; names >> name; ++i) {
      ASSERT_LT(i, found.size()) << table;
      EXPECT_EQ(found[i], name) << table;
    }
  }
}

// The joins and expressions of Nsight Systems' own report cuda_gpu_trace.
TEST_F(GpuTables, AnswerAQueryWrittenForNsightSystems) {
  const Rows rows = test::query(path_, R"(
      WITH recs AS (
        SELECT start AS "start", (end - start) AS "duration", gridX AS "gridX", blockX AS "blockX",
               registersPerThread AS "regs", NULL AS "bytes", NULL AS "srcmemkind", NULL AS "dstmemkind",
               printf('%s (%d)', gpu.name, deviceId) AS "device", contextId AS "context",
               NULLIF(greenContextId, 0) AS "greenContext", streamId AS "stream", str.value AS "name",
               correlationId AS "correlation"
        FROM CUPTI_ACTIVITY_KIND_KERNEL AS kern LEFT JOIN StringIds AS str ON str.id == kern.demangledName
             LEFT JOIN TARGET_INFO_GPU AS gpu ON gpu.id == kern.deviceId
        UNION ALL
        SELECT start, (end - start), NULL, NULL, NULL, bytes, msrck.label, mdstk.label,
               printf('%s (%d)', gpu.name, deviceId), contextId, greenContextId, streamId,
               '[CUDA memcpy ' || memopstr.label || ']', correlationId
        FROM CUPTI_ACTIVITY_KIND_MEMCPY AS memcpy
             LEFT JOIN ENUM_CUDA_MEMCPY_OPER AS memopstr ON memcpy.copyKind == memopstr.id
             LEFT JOIN ENUM_CUDA_MEM_KIND AS msrck ON memcpy.srcKind == msrck.id
             LEFT JOIN ENUM_CUDA_MEM_KIND AS mdstk ON memcpy.dstKind == mdstk.id
             LEFT JOIN TARGET_INFO_GPU AS gpu ON memcpy.deviceId == gpu.id
        UNION ALL
        SELECT start, (end - start), NULL, NULL, NULL, bytes, mk.label, NULL, printf('%s (%d)', gpu.name, deviceId),
               contextId, greenContextId, streamId, '[CUDA memset]', correlationId
        FROM CUPTI_ACTIVITY_KIND_MEMSET AS memset LEFT JOIN ENUM_CUDA_MEM_KIND AS mk ON memset.memKind == mk.id
             LEFT JOIN TARGET_INFO_GPU AS gpu ON memset.deviceId == gpu.id)
      SELECT name, device, srcmemkind, dstmemkind, count(*), sum(bytes) FROM recs GROUP BY 1, 2, 3, 4 ORDER BY 1)");
  const auto bytes = test::query(path_, "SELECT sum(bytes) FROM copy");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0], "[CUDA memcpy Host-to-Device]|Made-up GPU (0)|Pinned|Device|" +
                         std::to_string(batch_.gpu.copies.size()) + "|" + bytes[0]);
  EXPECT_EQ(rows[1], "[CUDA memset]|Made-up GPU (0)|Device|NULL|1|64");
  EXPECT_EQ(rows[2], "void gemv<float>(float*)|Made-up GPU (0)|NULL|NULL|" + std::to_string(batch_.gpu.kernels.size()) +
                         "|NULL");
}

TEST_F(GpuTables, SayWhatEachKernelAndCopyWasFor) {
  // Busy time on the GPU by reason, from CUPTI and from the engine: the sample's kernels are as long as its works.
  EXPECT_EQ(test::query(path_, "SELECT kind, sum(duration_ns) FROM v_kernel WHERE kind = 'expert' GROUP BY kind"),
            test::query(path_, "SELECT kind, sum(duration_ns) FROM v_work WHERE kind = 'expert' GROUP BY kind"));
  EXPECT_EQ(test::query(path_, "SELECT name, step, kind, reason, layer FROM v_kernel LIMIT 2"),
            (Rows{"gemv|NULL|NULL|NULL|NULL", "gemv|0|router|NULL|0"}));
  EXPECT_EQ(test::query(path_, "SELECT direction, step, reason, kind, source FROM v_memcpy LIMIT 4"),
            (Rows{"Host-to-Device|0|demand|NULL|Pinned", "Host-to-Device|NULL|NULL|NULL|Pinned",
                  "Host-to-Device|3|NULL|combine|Pinned", "Host-to-Device|4294967295|input|NULL|Pinned"}));
}

TEST_F(GpuTables, NameTheProcessAsNsightSystemsDoes) {
  EXPECT_EQ(test::query(path_, "SELECT DISTINCT (globalPid >> 24) & 0xFFFFFF FROM CUPTI_ACTIVITY_KIND_KERNEL"),
            Rows{std::to_string(getpid() & 0xffffff)});
}

TEST_F(GpuTables, LeaveOutRowsThatMakeNoSense) {
  const Trace before = read_trace(path_);
  test::tamper(path_, "UPDATE CUPTI_ACTIVITY_KIND_MEMCPY SET bytes = -1 WHERE rowid = 1");
  test::tamper(path_, "UPDATE CUPTI_ACTIVITY_KIND_MEMCPY SET copy_reason = 9 WHERE rowid = 1 + 4");
  test::tamper(path_, "UPDATE CUPTI_ACTIVITY_KIND_MEMCPY SET copyKind = 200 WHERE rowid = 6");
  test::tamper(path_, "UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET end = start - 1 WHERE rowid <= 2");
  test::tamper(path_, "UPDATE CUPTI_ACTIVITY_KIND_SYNCHRONIZATION SET end = 9223372036854775807");
  const Trace after = read_trace(path_);
  EXPECT_EQ(after.gpu_copies.size(), before.gpu_copies.size() - 3);
  EXPECT_EQ(after.gpu_totals.kernels, before.gpu_totals.kernels - 2);
  EXPECT_EQ(after.gpu_totals.syncs, 0u);
  EXPECT_EQ(after.health.at(health_code::kRowsSkipped).count, 6u);
}

TEST_F(GpuTables, SurviveSumsThatNoNumberHolds) {
  test::tamper(path_, "UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET start = 0, end = (1 << 55) - 1");
  const Trace trace = read_trace(path_);  // more than a hundred kernels of a year each
  EXPECT_EQ(trace.gpu_totals.kernels, 0u);
  EXPECT_EQ(trace.health.at(health_code::kRowsSkipped).count, batch_.gpu.kernels.size());
}

// The session as a program of that schema had written it.
void write_with_schema(const std::string& path, std::uint32_t version, const std::string& from) {
  sqlite::Database db(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX);
  db.exec("PRAGMA application_id = " + std::to_string(kApplicationId));
  db.exec("PRAGMA user_version = " + std::to_string(version));
  db.exec(std::string(schema_sql(version)));
  db.exec("ATTACH '" + from + "' AS whole");
  for (const std::string& table : test::query(path, "SELECT name FROM sqlite_schema WHERE type = 'table'")) {
    std::string columns;
    for (const std::string& c :
         test::query(path, "SELECT '\"' || name || '\"' FROM pragma_table_info('" + table + "')"))
      columns += (columns.empty() ? "" : ",") + c;
    db.exec("INSERT OR REPLACE INTO main." + table + " (" + columns + ") SELECT " + columns + " FROM whole." + table);
  }
}

TEST(Session, OfAnOlderSchemaIsStillRead) {
  test::TemporaryFolder folder;
  const std::string whole = folder.file("new.session");
  Batch batch = test::sample_batch();
  for (QualityRecord& q : batch.quality) q.kl_sum = 0, q.shadowed = 0, q.agreed = 0;  // nobody knew them
  test::write_session(whole, {batch});
  test::tamper(whole, "DELETE FROM session WHERE key = 'machine.clock_origin_ns'");  // nor clocks
  const Trace expected = read_trace(whole);
  for (std::uint32_t version = kOldestSchemaVersion; version < kSchemaVersion; ++version) {
    const std::string path = folder.file("old" + std::to_string(version) + ".session");
    write_with_schema(path, version, whole);
    test::expect_equal(read_trace(path), expected);
  }
  const std::string first = folder.file("old1.session");
  EXPECT_TRUE(test::query(first, "SELECT name FROM sqlite_schema WHERE name LIKE 'CUPTI%'").empty());
  test::tamper(first, "CREATE TABLE StringIds (id INTEGER)");
  EXPECT_THROW(SessionReader{first}, SessionRefused);
}

}  // namespace
}  // namespace expertscope
