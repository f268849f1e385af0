// A tool that listens to NVTX, as Nsight Systems does: NVTX loads it by its name in NVTX_INJECTION64_PATH. It keeps
// what it hears as text: "[text" for a range that begins, "]" for one that ends.
#include <string>

#include <nvtx3/nvToolsExt.h>

namespace {

std::string& heard() {
  static std::string& text = *new std::string;
  return text;
}

nvtxDomainHandle_t create_domain(const char* name) {
  heard() += std::string(name) + ":";
  return reinterpret_cast<nvtxDomainHandle_t>(&heard());
}
nvtxStringHandle_t register_string(nvtxDomainHandle_t, const char* text) {
  return reinterpret_cast<nvtxStringHandle_t>(new std::string(text));
}
int push(nvtxDomainHandle_t, const nvtxEventAttributes_t* range) {
  heard() += "[";
  heard() += range->messageType == NVTX_MESSAGE_TYPE_REGISTERED
                 ? *reinterpret_cast<const std::string*>(range->message.registered)
                 : std::string(range->message.ascii);
  return 0;
}
int pop(nvtxDomainHandle_t) {
  heard() += "]";
  return 0;
}

}  // namespace

extern "C" {

const char* nvtx_tool_heard() {
  return heard().c_str();
}

int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned size = 0;
  if (callbacks == nullptr || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size)) return 0;
  *table[NVTX_CBID_CORE2_DomainCreateA] = reinterpret_cast<NvtxFunctionPointer>(&create_domain);
  *table[NVTX_CBID_CORE2_DomainRegisterStringA] = reinterpret_cast<NvtxFunctionPointer>(&register_string);
  *table[NVTX_CBID_CORE2_DomainRangePushEx] = reinterpret_cast<NvtxFunctionPointer>(&push);
  *table[NVTX_CBID_CORE2_DomainRangePop] = reinterpret_cast<NvtxFunctionPointer>(&pop);
  return 1;
}
}
