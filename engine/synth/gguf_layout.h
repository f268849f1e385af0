// The header of a GGUF file (version 3) that is about to be written, and where its tensors will lie.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/tensor_type.h"

namespace expertscope {

class GgufLayout {
 public:
  struct Tensor {
    std::string name;
    std::vector<std::int64_t> shape;  // fastest first
    TensorType type = TensorType::f32;
    std::int64_t values = 0, bytes = 0;
    std::int64_t offset = 0;  // from the start of the data
  };

  void add_bool(std::string_view key, bool);
  void add_u32(std::string_view key, std::uint32_t);
  void add_u64(std::string_view key, std::uint64_t);
  void add_f32(std::string_view key, float);
  void add_string(std::string_view key, std::string_view);
  void add_strings(std::string_view key, const std::vector<std::string>&);
  void add_floats(std::string_view key, const std::vector<float>&);
  void add_ints(std::string_view key, const std::vector<std::int32_t>&);

  // In file order, one right behind the other up to alignment.
  void add_tensor(std::string name, std::vector<std::int64_t> shape, TensorType type);

  const std::vector<Tensor>& tensors() const { return tensors_; }
  std::string header() const;  // magic to tensor infos, padded to where the data begins
  std::int64_t data_bytes() const { return data_bytes_; }

  static constexpr std::int64_t kAlignment = 32;

 private:
  void begin_entry(std::string_view key, std::uint32_t type);
  void begin_array(std::string_view key, std::uint32_t element_type, std::size_t count);

  std::uint64_t entries_ = 0;
  std::string metadata_;
  std::vector<Tensor> tensors_;
  std::int64_t data_bytes_ = 0;
};

}  // namespace expertscope
