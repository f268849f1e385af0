#include "engine/model/gguf_reader.h"

#include <algorithm>

#include "engine/error.h"
#include "engine/model/sha256.h"

namespace expertscope {

GgufReader::GgufReader(const std::filesystem::path& path) : GgufReader(open(path)) {}

GgufReader::GgufReader(Opened opened)
    : GgufMetadata(std::move(opened.header.metadata)),
      file_(std::move(opened.file)),
      version_(opened.header.version),
      tensors_(std::move(opened.header.tensors)) {
  for (std::size_t i = 0; i < tensors_.size(); ++i) tensor_index_.emplace(tensors_[i].name, i);
}

GgufReader::Opened GgufReader::open(const std::filesystem::path& path) {
  auto file = std::make_unique<GgufFile>(path);
  GgufHeader header = parse_gguf_header(*file);
  if (header.metadata.integer_or("split.count", 0, 65535, 1) > 1) {
    header.metadata.fail_key("split.count",
                             "says that the model is split over several files, which is not supported; "
                             "merge them into one file first (llama-gguf-split --merge)");
  }
  return {std::move(file), std::move(header)};
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
  file_->read(tensor.file_offset + offset, out, tensor.name);
}

std::string GgufReader::sha256() const {
  if (file_->changed()) {
    throw RunError(in_quotes(path().string()) +
                   " changed after it was loaded; its checksum would not be that of the model in use, start again");
  }
  Sha256 hash;
  std::vector<std::byte> buffer(1024 * 1024);
  for (std::int64_t offset = 0; offset < file_bytes();) {
    const std::span<std::byte> piece = std::span(buffer).first(
        static_cast<std::size_t>(std::min<std::int64_t>(file_bytes() - offset, std::ssize(buffer))));
    file_->read(offset, piece, "the file for its checksum");
    hash.update(piece);
    offset += std::ssize(piece);
  }
  return hash.hex();
}

void GgufReader::fail_tensor(std::string_view tensor, const std::string& problem) const {
  const GgufTensor* found = find_tensor(tensor);
  const std::string message = "tensor " + in_quotes(tensor) + " " + problem;
  if (found) file_->fail_at(found->info_offset, message);
  fail(message);
}

}  // namespace expertscope
