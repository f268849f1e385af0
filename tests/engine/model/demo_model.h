// The bundled model and what it must compute, loaded once for all tests.
#pragma once

#include <fstream>
#include <string>

#include <nlohmann/json.hpp>

#include "engine/model/model.h"

namespace expertscope {

inline const std::string kDemoModelPath = std::string(ES_ASSETS_DIR) + "/model/tidepool-42m-moe-q8_0.gguf";

inline const Model& demo_model() {
  static const Model model(kDemoModelPath);
  return model;
}

inline const nlohmann::json& golden_outputs() {
  static const nlohmann::json golden =
      nlohmann::json::parse(std::ifstream(std::string(ES_ASSETS_DIR) + "/model/tidepool-42m-moe.golden.json"));
  return golden;
}

}  // namespace expertscope
