#include <array>
#include <cstdio>
#include <string>

#include <nvtx3/nvToolsExt.h>

#include "profiler/nvtx_ranges.h"

namespace expertscope {
namespace {

constexpr std::uint32_t kStepCategory = 1, kLayerCategory = 2, kLaunchCategory = 3, kCopyCategory = 4;

class Ranges : public NvtxRanges {
 public:
  explicit Ranges(nvtxDomainHandle_t domain) : domain_(domain) {
    nvtxDomainNameCategoryA(domain_, kStepCategory, "step");
    nvtxDomainNameCategoryA(domain_, kLayerCategory, "layer");
    nvtxDomainNameCategoryA(domain_, kLaunchCategory, "launch");
    nvtxDomainNameCategoryA(domain_, kCopyCategory, "copy");
    for (int i = 0; i < kWorkKinds; ++i)
      work_[static_cast<std::size_t>(i)] = registered(std::string(name(static_cast<WorkKind>(i))));
    for (int i = 0; i < kCopyReasons; ++i)
      copy_[static_cast<std::size_t>(i)] = registered(std::string(name(static_cast<CopyReason>(i))) + " copy");
  }

  ~Ranges() override {
    close_layer();
    if (in_step_) nvtxDomainRangePop(domain_);
  }

  void begin(const LaunchTag& tag) override {
    if (!in_step_ || tag.step != step_) open_step(tag.step);
    // A copy for a coming layer is no visit to it.
    if (!tag.is_copy && tag.layer != layer_) open_layer(tag.layer);
    nvtxEventAttributes_t range = attributes(tag.is_copy ? kCopyCategory : kLaunchCategory);
    range.messageType = NVTX_MESSAGE_TYPE_REGISTERED;
    const auto what = tag.is_copy ? static_cast<std::size_t>(tag.reason) : static_cast<std::size_t>(tag.kind);
    const auto& names = tag.is_copy ? copy_.data() : work_.data();
    range.message.registered = names[what];
    range.payloadType = NVTX_PAYLOAD_TYPE_UNSIGNED_INT64;
    range.payload.ullValue = pack(tag);
    nvtxDomainRangePushEx(domain_, &range);
  }
  void end() override { nvtxDomainRangePop(domain_); }

 private:
  static nvtxEventAttributes_t attributes(std::uint32_t category) {
    nvtxEventAttributes_t range{};
    range.version = NVTX_VERSION;
    range.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    range.category = category;
    return range;
  }
  nvtxStringHandle_t registered(const std::string& text) const {
    return nvtxDomainRegisterStringA(domain_, text.c_str());
  }

  void push(std::uint32_t category, const char* what, std::uint32_t number) {
    char text[32];
    std::snprintf(text, sizeof text, "%s %u", what, number);
    nvtxEventAttributes_t range = attributes(category);
    range.messageType = NVTX_MESSAGE_TYPE_ASCII;
    range.message.ascii = text;
    nvtxDomainRangePushEx(domain_, &range);
  }

  void close_layer() {
    if (layer_ != kNone16) nvtxDomainRangePop(domain_);
    layer_ = kNone16;
  }
  void open_layer(std::uint16_t layer) {
    close_layer();
    if (layer != kNone16) push(kLayerCategory, "layer", layer);
    layer_ = layer;
  }
  void open_step(std::uint32_t step) {
    close_layer();
    if (in_step_) nvtxDomainRangePop(domain_);
    push(kStepCategory, "step", step);
    step_ = step;
    in_step_ = true;
  }

  nvtxDomainHandle_t domain_;
  std::array<nvtxStringHandle_t, kWorkKinds> work_{};
  std::array<nvtxStringHandle_t, kCopyReasons> copy_{};
  std::uint32_t step_ = 0;
  std::uint16_t layer_ = kNone16;
  bool in_step_ = false;
};

}  // namespace

std::unique_ptr<NvtxRanges> NvtxRanges::start() {
  // Without a tool NVTX has no domains to give.
  nvtxDomainHandle_t domain = nvtxDomainCreateA("ExpertScope");
  if (domain == nullptr) return nullptr;
  return std::make_unique<Ranges>(domain);
}

}  // namespace expertscope
