// Compares a recorded run with the outputs of a float32 reference: the ids of a prompt, the experts of every token and
// layer, the best logits, the greedy continuation.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "engine/observer.h"
#include "profiler/batch.h"
#include "storage/reader.h"

namespace expertscope::testing {

inline constexpr double kLogitTolerance = 1e-2;
inline constexpr int kGoldenLogits = 16;  // best ones that the reference keeps

// The run of a session file, read once for all of its prompts.
struct GoldenRun {
  explicit GoldenRun(const std::string& session_path);
  RecordedRun run;
  Batch batch;
};

// `expected` is the reference's entry of the prompt, `got` what the report says of it.
void expect_golden_prompt(const GoldenRun&, std::uint32_t prompt, const nlohmann::ordered_json& expected,
                          const nlohmann::ordered_json& got);

// Nothing was lost, every identity of the numbers holds, and the parts of a token's time add up to it.
void expect_sound_report(const nlohmann::json& report);

}  // namespace expertscope::testing
