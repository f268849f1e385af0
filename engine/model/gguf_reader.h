// A GGUF model file (versions 2 and 3), its header read and proved. The file may be hostile: whatever is wrong with it
// is an InputError naming the file, the key or tensor, and the byte offset.
// Immutable after construction; all functions may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/gguf_file.h"
#include "engine/model/gguf_metadata.h"
#include "engine/model/gguf_parser.h"

namespace expertscope {

class GgufReader : public GgufMetadata {
 public:
  explicit GgufReader(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_->path(); }
  std::int64_t file_bytes() const { return file_->bytes(); }
  std::int64_t data_bytes() const;  // sum over the tensors
  std::uint32_t version() const { return version_; }

  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in file order
  const GgufTensor* find_tensor(std::string_view name) const;

  // Fills `out` from a tensor's data, `offset` bytes into it. A file that was shortened meanwhile throws.
  void read(const GgufTensor& tensor, std::int64_t offset, std::span<std::byte> out) const;

  // Hexadecimal SHA-256 of the whole file as it is now; throws RunError when the file changed since it was opened.
  std::string sha256() const;

  // For checks made by others on the tensors.
  [[noreturn]] void fail_tensor(std::string_view tensor, const std::string& problem) const;

 private:
  struct Opened {
    std::unique_ptr<GgufFile> file;
    GgufHeader header;
  };
  static Opened open(const std::filesystem::path& path);
  explicit GgufReader(Opened opened);

  std::unique_ptr<GgufFile> file_;
  std::uint32_t version_ = 0;
  std::vector<GgufTensor> tensors_;
  NameMap<std::size_t> tensor_index_;
};

}  // namespace expertscope
