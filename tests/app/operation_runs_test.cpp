// The last part of a calibration, on an emulated machine whose costs are known.
#include "app/operation_runs.h"

#include <algorithm>

#include "engine/machines/emulated_machine.h"
#include "engine/model/arithmetic.h"
#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

using OperationRunsTest = ProgramTest;

TEST_F(OperationRunsTest, LearnAMachinesCostsFromTwoModelsAndLeaveNoFile) {
  MachineProfile truth = load_profile("h100-pcie5");
  truth.gpus[0].operations = {{WorkKind::attention, 20e-6, 0.5e12}, {WorkKind::router, 9e-6, 1e12},
                              {WorkKind::expert, 15e-6, 0.8e12},    {WorkKind::combine, 3e-6, 2e12},
                              {WorkKind::head, 6e-6, 1.5e12},       {WorkKind::embed, 5e-6, 2e12}};
  truth.gpus[0].sync_s = 3e-6;
  truth.link.start_s = 8e-6;
  SynthShape shape = find_synth_shape("tiny");
  shape.width = 1024;
  shape.layers = 2;
  shape.experts = 4;
  std::unique_ptr<Arithmetic> arithmetic;
  const OperationRuns runs{.threads = 1,
                           .tokens = 12,
                           .scratch = folder_,
                           .shape = shape,
                           .make_machine =
                               [&](const Model& model, ThreadPool& pool) {
                                 arithmetic = std::make_unique<Arithmetic>(model, pool, kOperationRunsChunk, 1);
                                 return make_emulated_machine(truth, own_shape(model),
                                                              run_shape(model.description(), kOperationRunsChunk),
                                                              &model, arithmetic.get());
                               },
                           .said = [](const std::string&) {}};
  MachineProfile found = truth;
  found.gpus[0].operations.clear();
  found.link.start_s = 0;
  time_operations(runs, found);
  for (const OperationRate& wanted : truth.gpus[0].operations) {
    const auto& all = found.gpus[0].operations;
    const auto got = std::ranges::find(all, wanted.kind, &OperationRate::kind);
    ASSERT_NE(got, all.end()) << name(wanted.kind);
    EXPECT_NEAR(got->fixed_s, wanted.fixed_s, 0.1e-6) << name(wanted.kind);
  }
  EXPECT_NEAR(found.link.start_s, 8e-6, 0.1e-6);
  EXPECT_GT(found.measured.size(), truth.measured.size());
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

}  // namespace
}  // namespace expertscope::testing
