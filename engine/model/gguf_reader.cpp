#include "engine/model/gguf_reader.h"

#include <algorithm>

#include "engine/error.h"
#include "engine/model/sha256.h"

namespace expertscope {

GgufReader::GgufReader(const std::filesystem::path& path) : GgufReader(open_gguf_model(path)) {}

GgufReader::GgufReader(GgufModel model)
    : GgufMetadata(std::move(model.header.metadata)),
      files_(std::move(model.files)),
      version_(model.header.version),
      tensors_(std::move(model.header.tensors)) {
  for (std::size_t i = 0; i < tensors_.size(); ++i) tensor_index_.emplace(tensors_[i].name, i);
}

std::int64_t GgufReader::file_bytes() const {
  std::int64_t sum = 0;
  for (const auto& file : files_) sum += file->bytes();
  return sum;
}

std::int64_t GgufReader::data_bytes() const {
  std::int64_t sum = 0;
  for (const GgufTensor& tensor : tensors_) sum += tensor.bytes;
  return sum;
}

const GgufTensor* GgufReader::find_tensor(std::string_view tensor) const {
  const auto it = tensor_index_.find(tensor);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

void GgufReader::read(const GgufTensor& tensor, std::int64_t offset, std::span<std::byte> out) const {
  files_[static_cast<std::size_t>(tensor.file)]->read(tensor.file_offset + offset, out, tensor.name);
}

void GgufReader::uncache(const GgufTensor& tensor, std::int64_t offset, std::int64_t bytes) const {
  files_[static_cast<std::size_t>(tensor.file)]->uncache(tensor.file_offset + offset, bytes);
}

std::string GgufReader::sha256() const {
  Sha256 hash;
  std::vector<std::byte> buffer(1024 * 1024);
  for (const auto& file : files_) {
    if (file->changed()) {
      throw RunError(in_quotes(file->path().string()) +
                     " changed after it was loaded; its checksum would not be that of the model in use, start again");
    }
    for (std::int64_t offset = 0; offset < file->bytes();) {
      const std::span<std::byte> piece = std::span(buffer).first(
          static_cast<std::size_t>(std::min<std::int64_t>(file->bytes() - offset, std::ssize(buffer))));
      file->read(offset, piece, "the file for its checksum");
      hash.update(piece);
      offset += std::ssize(piece);
    }
  }
  return hash.hex();
}

void GgufReader::fail_tensor(std::string_view tensor, const std::string& problem) const {
  const GgufTensor* found = find_tensor(tensor);
  const std::string message = "tensor " + in_quotes(tensor) + " " + problem;
  if (found) files_[static_cast<std::size_t>(found->file)]->fail_at(found->info_offset, message);
  fail(message);
}

}  // namespace expertscope
