// A model that lies in several GGUF files, as llama-gguf-split writes it: `NAME-00001-of-00003.gguf` and so on, side by
// side. The first file has all metadata; every file has some of the tensors and says which one of how many it is.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "engine/model/gguf_file.h"
#include "engine/model/gguf_parser.h"

namespace expertscope {

struct GgufModel {
  std::vector<std::unique_ptr<const GgufFile>> files;  // in order; one for a model that is not split
  GgufHeader header;                                   // of the first, with the tensors of all
};

// Opens a model by its only or its first file. Every file may be hostile. Throws InputError when one is missing,
// belongs to another model or is damaged, and when `path` is a later file of a model, naming the first.
GgufModel open_gguf_model(const std::filesystem::path& path);

}  // namespace expertscope
