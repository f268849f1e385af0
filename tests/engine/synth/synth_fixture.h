// Small models of the written architectures, in a folder of the test's own.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "engine/synth/synth_model.h"

namespace expertscope {

class SynthTest : public ::testing::Test {
 protected:
  SynthTest() {
    std::string pattern = ::testing::TempDir() + "/expertscope-synth-XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~SynthTest() override { std::filesystem::remove_all(folder_); }

  // A published shape with few small layers: its architecture, heads, experts and top-k are its own.
  static SynthShape small(std::string_view name, int layers = 2) {
    SynthShape s = find_synth_shape(name);
    s.layers = layers;
    s.width = 256;
    s.heads = 4;
    s.kv_heads = 2;
    s.head_dim = 64;
    s.expert_ff = s.dense_ff = 256;
    s.experts = std::min(s.experts, 32);
    s.vocab = 1024;
    s.context = 512;
    s.clusters = 8;
    return s;
  }

  SynthPaths paths(const std::string& name = "model.gguf") const { return synth_paths(folder_ / name); }
  static bool go_on(std::int64_t, std::int64_t) { return true; }

  SynthResult write(const SynthRequest& request, const std::string& name = "model.gguf", int threads = 2) const {
    return write_synthetic_model(request, paths(name), threads, go_on);
  }

  std::size_t files() const {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_)) ++n;
    return n;
  }

  std::filesystem::path folder_;
};

}  // namespace expertscope
