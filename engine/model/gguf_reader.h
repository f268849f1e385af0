// A model in a GGUF file (versions 2 and 3) or several, their headers read and proved. They may be hostile: whatever is
// wrong with one is an InputError naming the file, the key or tensor, and the byte offset.
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
#include "engine/model/gguf_shards.h"

namespace expertscope {

class GgufReader : public GgufMetadata {
 public:
  explicit GgufReader(const std::filesystem::path& path);  // of the only or the first file

  const std::filesystem::path& path() const { return files_.front()->path(); }
  const std::vector<std::unique_ptr<const GgufFile>>& files() const { return files_; }  // at least one
  std::int64_t file_bytes() const;                                                      // of all files
  std::int64_t data_bytes() const;                                                      // sum over the tensors
  std::uint32_t version() const { return version_; }

  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in file order
  const GgufTensor* find_tensor(std::string_view name) const;

  // Fills `out` from a tensor's data, `offset` bytes into it. A file that was shortened meanwhile throws.
  void read(const GgufTensor& tensor, std::int64_t offset, std::span<std::byte> out) const;
  // That part of it need not stay in the system's cache of files.
  void uncache(const GgufTensor& tensor, std::int64_t offset, std::int64_t bytes) const;

  // Hexadecimal SHA-256 of the whole file as it is now; of several, as if they were one after the other in one file.
  // Throws RunError when one changed since it was opened.
  std::string sha256() const;

  // For checks made by others on the tensors.
  [[noreturn]] void fail_tensor(std::string_view tensor, const std::string& problem) const;

 private:
  explicit GgufReader(GgufModel model);

  std::vector<std::unique_ptr<const GgufFile>> files_;
  std::uint32_t version_ = 0;
  std::vector<GgufTensor> tensors_;
  NameMap<std::size_t> tensor_index_;
};

}  // namespace expertscope
