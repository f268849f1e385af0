// Experts in page-locked host memory, where copies and the CPU read them: the model's own store and versions of it
// below the file's precision, or, where the experts stay in the file (--host-bytes), a bounded cache over that and over
// files of such versions.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>

#include "engine/ids.h"
#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_clock.h"
#include "engine/machines/storage_tier.h"
#include "engine/model/expert_version_file.h"
#include "engine/model/expert_versions.h"
#include "engine/model/model.h"

namespace expertscope::cuda {

class HostExperts {
 public:
  // `host_bytes` for a model whose experts stay in the file. InputError when they do not hold what a token uses in a
  // layer. Model and clock outlive it.
  HostExperts(const Model&, std::optional<std::int64_t> host_bytes, const DeviceClock&);

  void prepare(Precision);  // InputError when this model has no such version or storage no room for it
  const ExpertBlobLayout& layout(int layer, Precision p) const {
    if (p == Precision::native) return model_.blob_layout(layer);
    return tier_ ? version_files_[index(p)]->layout(layer) : versions_[index(p)]->experts.layout(layer);
  }
  std::int64_t blob_bytes(Precision) const;  // of the largest; known before prepare
  std::int64_t bytes() const;                // of host memory
  std::span<const std::byte> page_locked() const {
    return tier_ ? std::span<const std::byte>(pool()) : model_.expert_store();
  }

  // An expert that stays where it is until it is released. Nothing: all of host memory is held, for now.
  struct Held {
    const std::byte* blob = nullptr;
    StorageTier::Place place = StorageTier::kNoPlace;  // none: it is always there
  };
  std::optional<Held> hold(ExpertId, Precision, CopyReason);
  bool there(const Held& h) const { return h.place == StorageTier::kNoPlace || tier_->there(h.place); }
  void raise(const Held& h) {
    if (h.place != StorageTier::kNoPlace) tier_->raise(h.place);
  }
  void release(const Held& h) {
    if (h.place != StorageTier::kNoPlace) tier_->release(h.place);
  }
  // How many may be held at once.
  std::size_t places() const { return tier_ ? static_cast<std::size_t>(tier_->places()) : SIZE_MAX; }
  // The next read from storage that has ended: see StorageTier.
  bool next_read(StorageTier::Read& read) { return tier_ && tier_->next_read(read); }

 private:
  struct Versions {
    Versions(const Model& model, Precision p) : experts(model, p), lock(experts.store()) {}
    ExpertVersions experts;
    PageLock lock;
  };
  static std::size_t index(Precision p) { return static_cast<std::size_t>(p); }
  std::span<std::byte> pool() const { return {pool_.data(), static_cast<std::size_t>(pool_.size())}; }

  const Model& model_;
  PageLock store_;
  std::array<std::unique_ptr<Versions>, 4> versions_;                // by precision; without a tier
  std::array<std::unique_ptr<ExpertVersionFile>, 4> version_files_;  // by precision; with one
  MappedArray<std::byte> pool_;
  std::unique_ptr<StorageTier> tier_;
};

}  // namespace expertscope::cuda
