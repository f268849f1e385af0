#include "app/demo_model.h"

#include <cstdint>
#include <system_error>

#include "engine/assets.h"

namespace expertscope {
namespace {

constexpr std::uintmax_t kBytes = 45'253'344;  // spares hashing files that cannot be it
constexpr const char* kSha256 = "8ef9c59b8ed73ee471490278748c1461fee0285a2d8d168e9c4e9788e49680af";

}  // namespace

std::filesystem::path demo_model_path() {
  return assets_dir() / "model" / "tidepool-42m-moe-q8_0.gguf";
}
std::filesystem::path demo_prompts_path() {
  return assets_dir() / "model" / "prompts.json";
}
std::filesystem::path demo_workloads_path() {
  return assets_dir() / "model" / "workloads.json";
}

bool is_demo_model(const Model& model) {
  std::error_code error;
  if (std::filesystem::equivalent(model.path(), demo_model_path(), error)) return true;
  return std::filesystem::file_size(model.path(), error) == kBytes && model.file_sha256() == kSha256;
}

}  // namespace expertscope
