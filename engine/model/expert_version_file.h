// All experts of a model in a precision below the file's, in a file of their own: for a machine whose experts stay in
// storage. It is made once, expert by expert, and has no name: it goes with the object, or with the process.
#pragma once

#include <cstddef>
#include <filesystem>

#include "engine/ids.h"
#include "engine/model/expert_versions.h"
#include "engine/model/model.h"

namespace expertscope {

class ExpertVersionFile {
 public:
  // Where such files lie: $TMPDIR, else beside the model, on the same storage.
  static std::filesystem::path folder_for(const Model&);

  // Reads the whole model once. InputError when the folder cannot take the file. The model outlives it.
  ExpertVersionFile(const Model&, Precision below_native, const std::filesystem::path& folder);
  ~ExpertVersionFile();
  ExpertVersionFile(const ExpertVersionFile&) = delete;
  ExpertVersionFile& operator=(const ExpertVersionFile&) = delete;

  const ExpertBlobLayout& layout(int layer) const { return places_.layout(layer); }
  // One expert, laid out as layout() says; it leaves the system's cache of files. Any thread. Throws RunError.
  void read(ExpertId, std::byte* blob) const;

 private:
  void write_all(const Model&, Precision) const;
  void write(ExpertId, std::span<const std::byte> blob) const;

  VersionPlaces places_;
  std::filesystem::path folder_;
  int fd_ = -1;
};

}  // namespace expertscope
