#include "engine/synth/synth_model.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <exception>
#include <mutex>
#include <string_view>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "engine/error.h"
#include "engine/model/gguf_reader.h"

namespace expertscope {
namespace {

// --- the file

// Written under another name and renamed when complete. Any thread may write.
class NewFile {
 public:
  explicit NewFile(const std::filesystem::path& path) : path_(path), part_(path.string() + ".part") {
    descriptor_ = ::open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor_ < 0)
      throw InputError(part_.string() + ": cannot be written: " + std::generic_category().message(errno));
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() {
    ::close(descriptor_);
    if (!kept_) ::unlink(part_.c_str());
  }

  void write(std::int64_t offset, std::string_view text) const { write(offset, std::as_bytes(std::span(text))); }
  void write(std::int64_t offset, std::span<const std::byte> bytes) const {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(descriptor_, bytes.data(), bytes.size(), offset);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) throw RunError(failure(n < 0 ? errno : ENOSPC));
      offset += n;
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  }

  void keep(std::int64_t bytes) {
    // The last tensor's padding is not written.
    if (::ftruncate(descriptor_, bytes) != 0) throw RunError(failure(errno));
    std::error_code error;
    std::filesystem::rename(part_, path_, error);
    if (error) throw RunError(path_.string() + ": cannot be put in place: " + error.message());
    kept_ = true;
  }

 private:
  std::string failure(int error) const {
    return path_.string() + ": could not be written completely: " + std::generic_category().message(error) +
           (error == ENOSPC ? "; free some space or choose another disk" : "") + "; nothing of it was kept";
  }

  std::filesystem::path path_, part_;
  int descriptor_ = -1;
  bool kept_ = false;
};

// All parts of all tensors, shared among threads; the calling thread works along.
class ParallelWriter {
 public:
  ParallelWriter(const SynthPlan& plan, const NewFile& file, std::int64_t data_begin)
      : plan_(plan), file_(file), data_begin_(data_begin) {
    for (std::size_t tensor = 0; tensor < plan.layout().tensors().size(); ++tensor) {
      const std::int64_t values = plan.layout().tensors()[tensor].values, step = plan.part_values(tensor);
      for (std::int64_t first = 0; first < values; first += step)
        parts_.push_back({tensor, first, std::min(step, values - first)});
    }
  }

  void run(int threads, const std::function<bool(std::int64_t)>& go_on) {
    const auto continue_all = [] { return true; };
    {
      std::vector<std::jthread> workers;
      for (int i = 1; i < threads; ++i) workers.emplace_back([&] { work(continue_all); });
      work([&] { return go_on(done_bytes_); });
    }
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  struct Part {
    std::size_t tensor;
    std::int64_t first, values;
  };

  template <typename GoOn>
  void work(const GoOn& go_on) {
    std::vector<std::byte> buffer;
    try {
      for (std::size_t i = next_++; i < parts_.size() && !stop_; i = next_++) {
        write(parts_[i], buffer);
        if (!go_on()) throw RunError("interrupted; no file was kept");
      }
    } catch (...) {
      stop_ = true;
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }

  void write(const Part& part, std::vector<std::byte>& buffer) {
    const GgufLayout::Tensor& t = plan_.layout().tensors()[part.tensor];
    buffer.resize(static_cast<std::size_t>(tensor_bytes(t.type, part.values)));
    plan_.fill(part.tensor, part.first, buffer);
    file_.write(data_begin_ + t.offset + tensor_bytes(t.type, part.first), buffer);
    done_bytes_ += static_cast<std::int64_t>(buffer.size());
  }

  const SynthPlan& plan_;
  const NewFile& file_;
  std::int64_t data_begin_;
  std::vector<Part> parts_;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::int64_t> done_bytes_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::exception_ptr failure_;
};

// --- what was there before

bool was_written_by_synth(const std::filesystem::path& path) {
  try {
    return GgufReader(path).has(kSynthVersionKey);
  } catch (const InputError&) {
    return false;
  }
}

void refuse_foreign_files(const SynthPaths& paths) {
  if (std::filesystem::exists(paths.model)) {
    if (was_written_by_synth(paths.model)) return;
    throw InputError(paths.model.string() +
                     ": exists and was not written by synth: choose another name, or remove it yourself");
  }
  for (const std::filesystem::path& beside : {paths.ids, paths.routing}) {
    if (std::filesystem::exists(beside))
      throw InputError(beside.string() + ": exists without a model beside it and would be replaced: choose another " +
                       "name for the model, or remove it yourself");
  }
}

std::int64_t size_or_0(const std::filesystem::path& path) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<std::int64_t>(bytes);
}

// Before anything is written; another process may still take the space.
void require_space(const std::filesystem::path& model, std::int64_t bytes) {
  const std::filesystem::path folder = model.has_parent_path() ? model.parent_path() : ".";
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(folder, error);
  if (error) throw InputError(folder.string() + ": " + error.message());
  const std::int64_t there = static_cast<std::int64_t>(space.available) + size_or_0(model);
  if (bytes > there)
    throw RunError(fmt::format("{}: needs {:.2f} GB and its disk has {:.2f} GB left: free some space or choose another",
                               model.string(), static_cast<double>(bytes) / 1e9, static_cast<double>(there) / 1e9));
}

}  // namespace

SynthPaths synth_paths(const std::filesystem::path& model) {
  if (model.extension() != ".gguf")
    throw InputError("--out: " + model.string() + " is not the name of a GGUF file: let it end in .gguf");
  SynthPaths paths{.model = model, .ids = model, .routing = model};
  paths.ids.replace_extension(".ids.json");
  paths.routing.replace_extension(".routing.json");
  return paths;
}

SynthResult write_synthetic_model(const SynthRequest& request, const SynthPaths& paths, int threads,
                                  const std::function<bool(std::int64_t, std::int64_t)>& go_on) {
  const PlantedRouting planted(request.shape, request.routing, request.seed);
  const SynthPlan plan(request, planted);
  const std::string header = plan.layout().header();
  const auto data_begin = static_cast<std::int64_t>(header.size());
  const std::int64_t file_bytes = data_begin + plan.layout().data_bytes();
  refuse_foreign_files(paths);
  require_space(paths.model, file_bytes);

  const std::vector<std::int32_t> stream = planted.stream(request.stream_tokens);
  SynthResult result{.file_bytes = file_bytes, .routing = measure_routing(request.shape, planted, stream, threads)};
  const std::string ids_text = fmt::format("[{}]\n", fmt::join(stream, ",")), routing_text = to_json(result.routing);
  NewFile model(paths.model), ids(paths.ids), routing(paths.routing);
  // Now, else the old and the new model would need their place at once.
  for (const std::filesystem::path& old : {paths.model, paths.ids, paths.routing}) std::filesystem::remove(old);
  ids.write(0, ids_text);
  routing.write(0, routing_text);
  model.write(0, header);
  ParallelWriter(plan, model, data_begin).run(threads, [&](std::int64_t done) { return go_on(done, file_bytes); });
  ids.keep(static_cast<std::int64_t>(ids_text.size()));
  routing.keep(static_cast<std::int64_t>(routing_text.size()));
  model.keep(file_bytes);
  return result;
}

}  // namespace expertscope
