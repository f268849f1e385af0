#include "engine/machines/lane_simulation.h"

#include <gtest/gtest.h>

namespace expertscope {
namespace {

struct Piece {
  Ticket ticket;
  TimeNs start_ns, end_ns;
  std::int64_t bytes;
  bool last;
  bool operator==(const Piece&) const = default;
};

class Recorder final : public LaneEvents {
 public:
  void started(const LaneOp&, TimeNs) override {}
  void ran(const LaneOp& op, TimeNs end_ns, std::int64_t bytes, bool last) override {
    pieces.push_back({op.ticket, op.started_ns, end_ns, bytes, last});
  }
  void completed(const LaneOp&) override {}
  std::vector<Piece> pieces;
};

constexpr double kHost = 100e9;  // bytes per second

LaneOp work(Lane lane, double ns) {
  LaneOp op;
  op.lane = lane;
  op.work_ns = ns;
  return op;
}

LaneOp copy(std::uint8_t copy_class, std::int64_t bytes, std::int64_t chunk_bytes) {
  LaneOp op = work(Lane::h2d, static_cast<double>(bytes));  // 1 byte per ns
  op.copy_class = copy_class;
  op.bytes = bytes;
  op.chunk_bytes = chunk_bytes;
  return op;
}

struct LaneSimulationTest : testing::Test {
  Recorder recorder;
  LaneSimulation simulation{recorder, 1, kHost, kHost};
  Ticket add(LaneOp op, std::vector<Ticket> after = {}) {
    return simulation.add(std::move(op), after.data(), after.size());
  }
};

TEST_F(LaneSimulationTest, OperationsOfOneLaneRunInTheOrderTheyWereQueued) {
  const Ticket a = add(work(Lane::gpu, 100)), b = add(work(Lane::gpu, 50));
  EXPECT_EQ(simulation.run_until(b), 150);
  EXPECT_EQ(simulation.done_ns(a), 100);
}

TEST_F(LaneSimulationTest, LanesRunBesideEachOther) {
  add(work(Lane::gpu, 100));
  const Ticket cpu = add(work(Lane::cpu, 70));
  EXPECT_EQ(simulation.run_until(cpu), 70);
}

TEST_F(LaneSimulationTest, AnOperationWaitsForWhatItNeeds) {
  const Ticket filled = add(copy(1, 300, 0));
  const Ticket expert = add(work(Lane::gpu, 10), {filled});
  EXPECT_EQ(simulation.run_until(expert), 310);
}

TEST_F(LaneSimulationTest, ADemandCopyOvertakesQueuedPrefetchesAtTheNextChunkBoundary) {
  const Ticket prefetch = add(copy(3, 1000, 100)), queued = add(copy(3, 1000, 100));
  simulation.advance_to(250);  // in the middle of the third chunk
  const Ticket demand = add(copy(1, 400, 100));
  EXPECT_EQ(simulation.run_until(demand), 300 + 400);
  EXPECT_EQ(simulation.run_until(prefetch), 300 + 400 + 700);
  EXPECT_EQ(simulation.run_until(queued), 300 + 400 + 700 + 1000);
  const std::vector<Piece> expected = {{prefetch, 0, 300, 300, false},
                                       {demand, 300, 700, 400, true},
                                       {prefetch, 700, 1400, 700, true},
                                       {queued, 1400, 2400, 1000, true}};
  EXPECT_EQ(recorder.pieces, expected);
}

TEST_F(LaneSimulationTest, APrefetchThatADemandWaitsForJoinsTheDemandClass) {
  add(copy(3, 100, 0));
  const Ticket second = add(copy(3, 100, 0)), raised = add(copy(3, 100, 0));
  simulation.change_class(raised, 1);
  EXPECT_EQ(simulation.run_until(raised), 200);
  EXPECT_EQ(simulation.run_until(second), 300);
}

TEST_F(LaneSimulationTest, ACopyCanBeCancelledUntilItBegins) {
  const Ticket running = add(copy(3, 100, 0)), queued = add(copy(3, 100, 0)), last = add(copy(3, 100, 0));
  EXPECT_FALSE(simulation.cancel(running));
  EXPECT_TRUE(simulation.cancel(queued));
  EXPECT_EQ(simulation.run_until(last), 200);
}

TEST_F(LaneSimulationTest, UsersOfHostMemoryShareItsBandwidth) {
  LaneOp expert = work(Lane::cpu, 1000), fetched = copy(1, 1000, 0);
  expert.host_bytes_per_s = 80e9;
  fetched.host_bytes_per_s = 40e9;  // 120 wanted, 100 there: both run at 5/6
  const Ticket c = add(fetched), e = add(expert);
  EXPECT_EQ(simulation.run_until(c), 1200);
  EXPECT_EQ(simulation.run_until(e), 1200);
}

TEST_F(LaneSimulationTest, ALateComerSlowsDownWhatIsAlreadyRunning) {
  LaneOp expert = work(Lane::cpu, 1000), fetched = copy(1, 400, 0);
  expert.host_bytes_per_s = 100e9;
  fetched.host_bytes_per_s = 100e9;
  const Ticket e = add(expert);
  simulation.advance_to(500);
  const Ticket c = add(fetched);
  EXPECT_EQ(simulation.run_until(c), 500 + 800);  // half speed each
  EXPECT_EQ(simulation.run_until(e), 500 + 800 + 100);
}

TEST_F(LaneSimulationTest, FixedCostsAreNotSlowedDown) {
  LaneOp expert = work(Lane::cpu, 0), fetched = copy(1, 100, 0);
  expert.fixed_ns = 1000;
  expert.host_bytes_per_s = 100e9;
  fetched.host_bytes_per_s = 100e9;
  const Ticket e = add(expert), c = add(fetched);
  EXPECT_EQ(simulation.run_until(c), 100);
  EXPECT_EQ(simulation.run_until(e), 1000);
}

TEST_F(LaneSimulationTest, EndsAreRoundedUpToWholeNanoseconds) {
  const Ticket a = add(work(Lane::gpu, 10.25));
  EXPECT_EQ(simulation.run_until(a), 11);
}

}  // namespace
}  // namespace expertscope
