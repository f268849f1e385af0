// Takes the header of one GGUF file (versions 2 and 3) apart. The file may be hostile: every length is checked against
// the bytes that are really there before anything is allocated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/gguf_metadata.h"
#include "engine/model/tensor_type.h"

namespace expertscope {

struct GgufTensor {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;  // ggml order, fastest dimension first; 1 to 4 entries
  std::int64_t values = 0;
  std::int64_t bytes = 0;
  int file = 0;                  // which of the model's files it lies in
  std::int64_t file_offset = 0;  // from the start of that file
  std::int64_t info_offset = 0;  // where its entry stands in the header, for messages
};

struct GgufHeader {
  std::uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;  // in file order, names differ
};

// Throws InputError naming the file, the key or tensor, and the byte. `file` must outlive the result.
GgufHeader parse_gguf_header(const GgufFile& file);

}  // namespace expertscope
