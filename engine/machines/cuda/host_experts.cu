#include <algorithm>
#include <string>
#include <vector>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/machines/cuda/host_experts.h"

namespace expertscope::cuda {
namespace {

// A device of storage is busy with so many requests at a time; the memory is filled by more at the start.
constexpr int kReadingThreads = 4, kFillingThreads = 16;

std::string in_gb(std::int64_t bytes) {
  return std::to_string(static_cast<double>(bytes) / 1e9).substr(0, 6) + " GB";
}

}  // namespace

HostExperts::HostExperts(const Model& model, std::optional<std::int64_t> host_bytes, const DeviceClock& clock)
    : model_(model), store_(model.expert_store()) {
  ES_ASSERT(host_bytes.has_value() == (model.expert_home() == ExpertHome::file),
            "host memory is bounded where experts stay in the file");
  if (!host_bytes) return;
  const ModelDescription& d = model.description();
  const std::int64_t place_bytes = (blob_bytes(Precision::native) + 255) / 256 * 256;
  const std::int64_t places = std::min(*host_bytes / place_bytes, std::int64_t{d.layers} * d.router.experts);
  if (places < d.router.top_k) {
    throw InputError("--host-bytes " + std::to_string(*host_bytes) + ": host memory must hold the " +
                     std::to_string(d.router.top_k) + " experts that a token uses in a layer, " +
                     in_gb(d.router.top_k * place_bytes) + ": give more");
  }
  pool_ = MappedArray<std::byte>(places * place_bytes);
  tier_ = std::make_unique<StorageTier>(
      d.layers, d.router.experts, pool(), place_bytes,
      [this, &model](ExpertId id, Precision precision, std::byte* blob) {
        if (precision != Precision::native) return version_files_[index(precision)]->read(id, blob);
        const Model::ExpertRead read{id, blob};
        model.read_experts({&read, 1}, kReadingThreads);
      },
      [&clock] { return clock.now(); });
  std::vector<Model::ExpertRead> reads;
  for (const StorageTier::Read& read : tier_->begin_full()) reads.push_back({read.expert, read.blob});
  model.read_experts(reads, kFillingThreads);
}

void HostExperts::prepare(Precision precision) {
  const std::size_t i = index(precision);
  if (precision == Precision::native || versions_[i] || version_files_[i]) return;
  if (blob_bytes(precision) > blob_bytes(Precision::native)) {
    throw InputError("the policy wants experts in " + std::string(name(precision)) +
                     ", which is above the precision of this model's file: choose a lower precision or another file");
  }
  if (tier_) {
    version_files_[i] = std::make_unique<ExpertVersionFile>(model_, precision, ExpertVersionFile::folder_for(model_));
  } else {
    versions_[i] = std::make_unique<Versions>(model_, precision);
  }
}

std::int64_t HostExperts::blob_bytes(Precision precision) const {
  std::int64_t most = 0;
  for (const ExpertBlobLayout& native : model_.description().expert_blob)
    most = std::max(most, precision == Precision::native ? native.bytes : layout_in(precision, native).bytes);
  return most;
}

std::int64_t HostExperts::bytes() const {
  std::int64_t sum = tier_ ? pool_.size() : static_cast<std::int64_t>(model_.expert_store().size());
  for (const auto& versions : versions_)
    sum += versions ? static_cast<std::int64_t>(versions->experts.store().size()) : 0;
  return sum;
}

std::optional<HostExperts::Held> HostExperts::hold(ExpertId id, Precision precision, CopyReason reason) {
  if (!tier_) {
    const bool native = precision == Precision::native;
    return Held{.blob = native ? model_.expert_blob(id).data() : versions_[index(precision)]->experts.blob(id).data()};
  }
  const StorageTier::Place place = tier_->hold(id, precision, reason);
  if (place == StorageTier::kNoPlace) return std::nullopt;
  return Held{.blob = tier_->blob(place), .place = place};
}

}  // namespace expertscope::cuda
