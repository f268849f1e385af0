#include "engine/model/gguf_shards.h"

#include <optional>
#include <string>
#include <unordered_set>

#include <fmt/format.h>

namespace expertscope {

namespace {

constexpr int kMaxFiles = 512;  // every one is kept open
constexpr const char* kNumber = "split.no";
constexpr const char* kCount = "split.count";
constexpr const char* kTensors = "split.tensors.count";

// What a file says of its place in a model.
struct Place {
  std::int64_t number = 0, count = 1;  // counted from 0
  std::int64_t tensors = 0;            // in all files together
  bool operator==(const Place&) const = default;
};

Place place_of(const GgufMetadata& metadata) {
  // A merged file keeps a count of 0.
  if (metadata.integer_or(kCount, 0, kMaxFiles, 0) <= 1) return {};
  Place place;
  place.count = metadata.integer(kCount, 2, kMaxFiles);
  place.number = metadata.integer(kNumber, 0, place.count - 1);
  place.tensors = metadata.integer(kTensors, 1, 1 << 30);
  return place;
}

std::string ending(const Place& place) {
  return fmt::format("-{:05}-of-{:05}.gguf", place.number + 1, place.count);
}

std::string name_of_file(const std::string& stem, std::int64_t number, std::int64_t count) {
  return stem + ending({.number = number, .count = count});
}

// What comes before the ending in the file's name.
std::string stem_of(const GgufFile& file, const Place& place) {
  const std::string name = file.path().filename().string();
  if (!name.ends_with(ending(place))) {
    file.fail(
        fmt::format("says that it is file {} of {} of a model, so its name must end in '{}'; name all its files so",
                    place.number + 1, place.count, ending(place)));
  }
  return name.substr(0, name.size() - ending(place).size());
}

std::unique_ptr<const GgufFile> open_beside(const GgufFile& first, const std::string& name, const Place& place) {
  const std::filesystem::path path = first.path().parent_path() / name;
  std::error_code unreadable;
  if (!std::filesystem::exists(path, unreadable)) {
    first.fail(fmt::format("is one of {} files of a model, of which {} is missing beside it; fetch it", place.count,
                           in_quotes(name)));
  }
  return std::make_unique<const GgufFile>(path);
}

// Adds the tensors of a later file to those so far.
void add_file(GgufModel& model, std::unordered_set<std::string>& names, const Place& expected,
              std::unique_ptr<const GgufFile> file) {
  GgufHeader header = parse_gguf_header(*file);
  const Place place = place_of(header.metadata);
  if (place != expected) {
    file->fail(fmt::format(
        "says that it is file {} of {} with {} tensors in all, where file {} of {} with {} is "
        "expected; files of different models are mixed, fetch them again",
        place.number + 1, place.count, place.tensors, expected.number + 1, expected.count, expected.tensors));
  }
  for (GgufTensor& tensor : header.tensors) {
    if (!names.insert(tensor.name).second) {
      file->fail_at(tensor.info_offset,
                    "tensor " + in_quotes(tensor.name) + " is in an earlier file of the model as well");
    }
    tensor.file = static_cast<int>(model.files.size());
    model.header.tensors.push_back(std::move(tensor));
  }
  model.files.push_back(std::move(file));
}

}  // namespace

GgufModel open_gguf_model(const std::filesystem::path& path) {
  auto file = std::make_unique<const GgufFile>(path);
  GgufHeader header = parse_gguf_header(*file);
  Place place = place_of(header.metadata);
  GgufModel model{{}, std::move(header)};
  model.files.push_back(std::move(file));
  const GgufFile& first = *model.files.front();
  if (place.count == 1) return model;
  const std::string stem = stem_of(first, place);
  if (place.number > 0) {
    first.fail(fmt::format("is file {} of {} of a model; give the first, {}", place.number + 1, place.count,
                           in_quotes(name_of_file(stem, 0, place.count))));
  }
  std::unordered_set<std::string> names;
  for (const GgufTensor& tensor : model.header.tensors) names.insert(tensor.name);
  for (place.number = 1; place.number < place.count; ++place.number)
    add_file(model, names, place, open_beside(first, name_of_file(stem, place.number, place.count), place));
  if (std::ssize(model.header.tensors) != place.tensors) {
    first.fail(fmt::format("and its {} other files hold {} tensors, where {} are announced; fetch them again",
                           place.count - 1, model.header.tensors.size(), place.tensors));
  }
  return model;
}

}  // namespace expertscope
