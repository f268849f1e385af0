#include "tests/fake_cupti/fake_cupti.h"

#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <cupti.h>

namespace {

constexpr std::uint32_t kLaunchCall = 307, kCopyCall = 277, kGraphCall = 514;  // ids of driver calls

struct State {
  std::recursive_mutex mutex;
  bool subscribed = false;
  CUptiResult refusal = CUPTI_SUCCESS;
  CUpti_CallbackFunc callback = nullptr;
  void* callback_data = nullptr;
  CUpti_TimestampCallbackFunc timestamp = nullptr;
  bool bad_time = false, hold_back = false;
  std::uint32_t registrations = 0;
  std::map<CUpti_CallbackId, bool> driver_calls, runtime_calls;
  std::map<CUpti_ActivityKind, bool> kinds;
  CUpti_BuffersCallbackRequestFunc wanted = nullptr;
  CUpti_BuffersCallbackCompleteFunc filled = nullptr;
  // One buffer for the device's records, one for those of calls.
  struct Buffer {
    std::uint8_t* data = nullptr;
    std::size_t size = 0, used = 0;
  } device, calls, held_back;
  std::size_t dropped = 0;
  std::uint32_t correlation = 0;
  std::uint64_t node = 0;
};

State& state() {
  static State& s = *new State;
  return s;
}
thread_local std::vector<std::uint64_t> external_ids;

void hand_back(State::Buffer& buffer) {
  if (buffer.data != nullptr) state().filled(nullptr, 0, buffer.data, buffer.size, buffer.used);
  buffer = {};
}

template <typename Record>
void write(State::Buffer& buffer, const Record& record) {
  State& s = state();
  if (buffer.data != nullptr && buffer.used + sizeof record > buffer.size) hand_back(buffer);
  if (buffer.data == nullptr) {
    std::size_t most = 0;
    s.wanted(&buffer.data, &buffer.size, &most);
    if (buffer.data == nullptr) {
      ++s.dropped;
      return;
    }
  }
  std::memcpy(buffer.data + buffer.used, &record, sizeof record);
  buffer.used += sizeof record;
}

// The call that everything on the device comes from.
std::uint32_t call(CUpti_CallbackId id) {
  State& s = state();
  const std::uint32_t correlation = ++s.correlation;
  if (!s.driver_calls[id]) return correlation;
  if (!external_ids.empty() && s.kinds[CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION]) {
    CUpti_ActivityExternalCorrelation external{};
    external.kind = CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION;
    external.externalKind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0;
    external.externalId = external_ids.back();
    external.correlationId = correlation;
    write(s.calls, external);
  }
  CUpti_ActivityAPI api{};
  api.kind = CUPTI_ACTIVITY_KIND_DRIVER;
  api.cbid = id;
  api.correlationId = correlation;
  write(s.calls, api);
  return correlation;
}

CUpti_ActivityKernel10 kernel(const char* name, std::uint64_t start_ns, std::uint64_t end_ns,
                              std::uint32_t correlation) {
  CUpti_ActivityKernel10 k{};
  k.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
  k.start = start_ns;
  k.end = end_ns;
  k.contextId = 1;
  k.streamId = 7;
  k.correlationId = correlation;
  k.gridX = 128;
  k.gridY = k.gridZ = k.blockY = k.blockZ = 1;
  k.blockX = 256;
  k.registersPerThread = 32;
  k.launchType = CUPTI_ACTIVITY_LAUNCH_TYPE_REGULAR;
  k.name = name;
  return k;
}

std::size_t size_of(CUpti_ActivityKind kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
      return sizeof(CUpti_ActivityKernel10);
    case CUPTI_ACTIVITY_KIND_MEMCPY:
      return sizeof(CUpti_ActivityMemcpy6);
    case CUPTI_ACTIVITY_KIND_DRIVER:
      return sizeof(CUpti_ActivityAPI);
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION:
      return sizeof(CUpti_ActivityExternalCorrelation);
    default:
      return 0;
  }
}

CUgraphNode handle_of(std::uint64_t node) {
  return reinterpret_cast<CUgraphNode>(static_cast<std::uintptr_t>(node));
}

void tell_of_node(CUpti_CallbackIdResource what, std::uint64_t node, std::uint64_t original) {
  CUpti_GraphData graph{};
  graph.node = handle_of(node);
  graph.originalNode = handle_of(original);
  CUpti_ResourceData resource{};
  resource.resourceDescriptor = &graph;
  state().callback(state().callback_data, CUPTI_CB_DOMAIN_RESOURCE, static_cast<CUpti_CallbackId>(what), &resource);
}

}  // namespace

extern "C" {

void fake_cupti_reset() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.subscribed = s.bad_time = s.hold_back = false;
  s.refusal = CUPTI_SUCCESS;
  s.timestamp = nullptr;
  s.registrations = 0;
  s.driver_calls.clear();
  s.runtime_calls.clear();
  s.kinds.clear();
  s.dropped = 0;
}
void fake_cupti_refuse_subscribers(int result) {
  state().refusal = static_cast<CUptiResult>(result);
}
void fake_cupti_keep_time_badly(bool badly) {
  state().bad_time = badly;
}
void fake_cupti_hold_back_calls(bool hold_back) {
  state().hold_back = hold_back;
}
std::uint32_t fake_cupti_timestamp_registrations() {
  return state().registrations;
}
std::uint32_t fake_cupti_calls_switched_on() {
  std::uint32_t on = 0;
  for (const auto* calls : {&state().driver_calls, &state().runtime_calls})
    for (const auto& [id, is_on] : *calls) on += is_on ? 1 : 0;
  return on;
}

std::uint32_t fake_cupti_launch(const char* mangled_name, std::uint64_t start_ns, std::uint64_t end_ns) {
  const std::lock_guard lock(state().mutex);
  const std::uint32_t correlation = call(kLaunchCall);
  if (state().kinds[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL])
    write(state().device, kernel(mangled_name, start_ns, end_ns, correlation));
  return correlation;
}

std::uint32_t fake_cupti_copy_to_device(std::uint64_t bytes, std::uint64_t start_ns, std::uint64_t end_ns) {
  const std::lock_guard lock(state().mutex);
  const std::uint32_t correlation = call(kCopyCall);
  CUpti_ActivityMemcpy6 copy{};
  copy.kind = CUPTI_ACTIVITY_KIND_MEMCPY;
  copy.copyKind = CUPTI_ACTIVITY_MEMCPY_KIND_HTOD;
  copy.srcKind = CUPTI_ACTIVITY_MEMORY_KIND_PINNED;
  copy.dstKind = CUPTI_ACTIVITY_MEMORY_KIND_DEVICE;
  copy.bytes = bytes;
  copy.start = start_ns;
  copy.end = end_ns;
  copy.contextId = 1;
  copy.streamId = 9;
  copy.correlationId = correlation;
  copy.copyCount = 1;
  if (state().kinds[CUPTI_ACTIVITY_KIND_MEMCPY]) write(state().device, copy);
  return correlation;
}

std::uint64_t fake_cupti_capture_node() {
  const std::lock_guard lock(state().mutex);
  const std::uint64_t captured = ++state().node, executable = ++state().node;
  call(kLaunchCall);
  tell_of_node(CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, captured, 0);
  tell_of_node(CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED, executable, captured);
  return executable;
}

std::uint32_t fake_cupti_launch_graph(const std::uint64_t* nodes, std::uint32_t count, const char* mangled_name,
                                      std::uint64_t start_ns) {
  const std::lock_guard lock(state().mutex);
  const std::uint32_t correlation = call(kGraphCall);
  for (std::uint32_t i = 0; i < count; ++i) {
    CUpti_ActivityKernel10 k = kernel(mangled_name, start_ns + i * 100, start_ns + i * 100 + 50, correlation);
    k.graphNodeId = nodes[i];
    k.graphId = 1;
    write(state().device, k);
  }
  return correlation;
}

CUptiResult CUPTIAPI cuptiGetVersion(std::uint32_t* version) {
  *version = CUPTI_API_VERSION;
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiGetResultString(CUptiResult, const char** text) {
  *text = "CUPTI_ERROR_OF_THE_FAKE";
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiGetTimestamp(std::uint64_t* now) {
  State& s = state();
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  *now = s.timestamp != nullptr && !s.bad_time
             ? s.timestamp()
             : static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiGetCallbackName(CUpti_CallbackDomain domain, std::uint32_t id, const char** name) {
  if (id > (domain == CUPTI_CB_DOMAIN_DRIVER_API ? 600u : 50u)) return CUPTI_ERROR_INVALID_PARAMETER;
  *name = domain != CUPTI_CB_DOMAIN_DRIVER_API ? (id == 41 ? "cudaMemcpyAsync_v3020" : "cudaGetDevice_v3020")
          : id == kLaunchCall                  ? "cuLaunchKernel"
          : id == kCopyCall                    ? "cuMemcpyHtoDAsync_v2"
          : id == kGraphCall                   ? "cuGraphLaunch"
                                               : "cuCtxGetCurrent";
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiGetGraphNodeId(CUgraphNode node, std::uint64_t* id) {
  *id = reinterpret_cast<std::uintptr_t>(node);
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiSubscribe(CUpti_SubscriberHandle* subscriber, CUpti_CallbackFunc callback, void* data) {
  State& s = state();
  if (s.refusal != CUPTI_SUCCESS) return s.refusal;
  if (s.subscribed) return CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
  s.subscribed = true;
  s.callback = callback;
  s.callback_data = data;
  *subscriber = reinterpret_cast<CUpti_SubscriberHandle>(&s);
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiUnsubscribe(CUpti_SubscriberHandle) {
  state().subscribed = false;
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiEnableCallback(std::uint32_t, CUpti_SubscriberHandle, CUpti_CallbackDomain,
                                         CUpti_CallbackId) {
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityEnable(CUpti_ActivityKind kind) {
  state().kinds[kind] = true;
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityEnableAndDump(CUpti_ActivityKind) {
  return CUPTI_ERROR_NOT_COMPATIBLE;
}
CUptiResult CUPTIAPI cuptiActivityDisable(CUpti_ActivityKind kind) {
  state().kinds[kind] = false;
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityEnableRuntimeApi(CUpti_CallbackId id, std::uint8_t on) {
  state().runtime_calls[id] = on != 0;
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityEnableDriverApi(CUpti_CallbackId id, std::uint8_t on) {
  state().driver_calls[id] = on != 0;
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityEnableAllSyncRecords(std::uint8_t) {
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc wanted,
                                                    CUpti_BuffersCallbackCompleteFunc filled) {
  state().wanted = wanted;
  state().filled = filled;
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityRegisterTimestampCallback(CUpti_TimestampCallbackFunc timestamp) {
  state().timestamp = timestamp;
  ++state().registrations;
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivitySetAttribute(CUpti_ActivityAttribute, std::size_t*, void*) {
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityGetAttribute(CUpti_ActivityAttribute attribute, std::size_t*, void* value) {
  *static_cast<std::size_t*>(value) = attribute == CUPTI_ACTIVITY_ATTR_DEVICE_BUFFER_SIZE ? 3'200'000 : 3;
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityGetNextRecord(std::uint8_t* buffer, std::size_t bytes, CUpti_Activity** record) {
  std::uint8_t* next = buffer;
  if (*record != nullptr) next = reinterpret_cast<std::uint8_t*>(*record) + size_of((*record)->kind);
  if (next >= buffer + bytes) return CUPTI_ERROR_MAX_LIMIT_REACHED;
  *record = reinterpret_cast<CUpti_Activity*>(next);
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityGetNumDroppedRecords(CUcontext, std::uint32_t, std::size_t* dropped) {
  const std::lock_guard lock(state().mutex);
  *dropped = state().dropped;
  state().dropped = 0;
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityFlushAll(std::uint32_t flag) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  hand_back(s.device);
  hand_back(s.held_back);
  if (s.hold_back && flag == 0)
    std::swap(s.held_back, s.calls);
  else
    hand_back(s.calls);
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityPushExternalCorrelationId(CUpti_ExternalCorrelationKind, std::uint64_t id) {
  external_ids.push_back(id);
  return CUPTI_SUCCESS;
}
CUptiResult CUPTIAPI cuptiActivityPopExternalCorrelationId(CUpti_ExternalCorrelationKind, std::uint64_t*) {
  if (external_ids.empty()) return CUPTI_ERROR_QUEUE_EMPTY;
  external_ids.pop_back();
  return CUPTI_SUCCESS;
}
}
