// The one file that includes CUPTI. Traps that shaped it: a timestamp callback may be registered once in a process and
// never again; buffers come from a pool that is zeroed off the launching thread; nothing is flushed from a callback;
// external correlation exists only on records of API calls, so those of launches and copies are switched on, and no
// others; the subscription comes before all, because it is what tells whether another tool is there.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>

#include <cupti.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include "profiler/cupti_activity.h"
#include "profiler/cupti_buffers.h"
#include "profiler/cupti_library.h"

namespace expertscope {
namespace {

std::int64_t clock_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::uint64_t CUPTIAPI monotonic_timestamp() {
  return static_cast<std::uint64_t>(clock_ns(CLOCK_MONOTONIC));
}

// The functions that we use, found by name.
struct Functions {
  decltype(&cuptiGetVersion) get_version;
  decltype(&cuptiGetResultString) get_result_string;
  decltype(&cuptiGetTimestamp) get_timestamp;
  decltype(&cuptiGetCallbackName) get_callback_name;
  decltype(&cuptiGetGraphNodeId) get_graph_node_id;
  decltype(&cuptiSubscribe) subscribe;
  decltype(&cuptiUnsubscribe) unsubscribe;
  decltype(&cuptiEnableCallback) enable_callback;
  decltype(&cuptiActivityEnable) enable;
  decltype(&cuptiActivityEnableAndDump) enable_and_dump;
  decltype(&cuptiActivityDisable) disable;
  decltype(&cuptiActivityEnableRuntimeApi) enable_runtime_api;
  decltype(&cuptiActivityEnableDriverApi) enable_driver_api;
  decltype(&cuptiActivityEnableAllSyncRecords) enable_all_sync_records;
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks;
  decltype(&cuptiActivityRegisterTimestampCallback) register_timestamp_callback;
  decltype(&cuptiActivitySetAttribute) set_attribute;
  decltype(&cuptiActivityGetAttribute) get_attribute;
  decltype(&cuptiActivityGetNextRecord) get_next_record;
  decltype(&cuptiActivityGetNumDroppedRecords) get_dropped;
  decltype(&cuptiActivityFlushAll) flush_all;
  decltype(&cuptiActivityPushExternalCorrelationId) push_id;
  decltype(&cuptiActivityPopExternalCorrelationId) pop_id;
};

Functions find_functions(const CuptiLibrary& library) {
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library.handle, name));
    if (function == nullptr)
      throw CuptiUnavailable("cupti.too_old",
                             fmt::format("{} has no {}: it is older than this program; install CUPTI of "
                                         "CUDA {}.{} or later",
                                         library.path, name, CUPTI_API_VERSION / 10000, CUPTI_API_VERSION / 100 % 100));
  };
  Functions f{};
  find(f.get_version, "cuptiGetVersion");
  find(f.get_result_string, "cuptiGetResultString");
  find(f.get_timestamp, "cuptiGetTimestamp");
  find(f.get_callback_name, "cuptiGetCallbackName");
  find(f.get_graph_node_id, "cuptiGetGraphNodeId");
  find(f.subscribe, "cuptiSubscribe");
  find(f.unsubscribe, "cuptiUnsubscribe");
  find(f.enable_callback, "cuptiEnableCallback");
  find(f.enable, "cuptiActivityEnable");
  find(f.enable_and_dump, "cuptiActivityEnableAndDump");
  find(f.disable, "cuptiActivityDisable");
  find(f.enable_runtime_api, "cuptiActivityEnableRuntimeApi");
  find(f.enable_driver_api, "cuptiActivityEnableDriverApi");
  find(f.enable_all_sync_records, "cuptiActivityEnableAllSyncRecords");
  find(f.register_callbacks, "cuptiActivityRegisterCallbacks");
  find(f.register_timestamp_callback, "cuptiActivityRegisterTimestampCallback");
  find(f.set_attribute, "cuptiActivitySetAttribute");
  find(f.get_attribute, "cuptiActivityGetAttribute");
  find(f.get_next_record, "cuptiActivityGetNextRecord");
  find(f.get_dropped, "cuptiActivityGetNumDroppedRecords");
  find(f.flush_all, "cuptiActivityFlushAll");
  find(f.push_id, "cuptiActivityPushExternalCorrelationId");
  find(f.pop_id, "cuptiActivityPopExternalCorrelationId");
  return f;
}

void CUPTIAPI on_buffer_wanted(std::uint8_t** buffer, std::size_t* bytes, std::size_t* most_records) {
  *buffer = cupti_buffers().take();
  *bytes = *buffer != nullptr ? CuptiBuffers::kBufferBytes : 0;
  *most_records = 0;
}

void CUPTIAPI on_buffer_filled(CUcontext, std::uint32_t, std::uint8_t* buffer, std::size_t, std::size_t bytes) {
  if (buffer != nullptr) cupti_buffers().add_filled(buffer, bytes);
}

thread_local std::uint64_t tag_in_force = 0;

// Calls of these names put work on a device. Everything else (queries, allocations, attributes) stays unrecorded.
bool issues_work(std::string_view call) {
  constexpr std::string_view prefixes[] = {"cudaLaunch",      "__cudaLaunch",   "cudaMemcpy",          "cudaMemset",
                                           "cudaGraphLaunch", "cuLaunchKernel", "cuLaunchCooperative", "cuMemcpy",
                                           "cuMemsetD",       "cuGraphLaunch"};
  return std::ranges::any_of(prefixes, [&](std::string_view prefix) { return call.starts_with(prefix); });
}

std::uint8_t memory_kind(unsigned cupti_kind) {
  // Nsight Systems counts the same kinds from 0 and has the unknown one last.
  return cupti_kind == 0 || cupti_kind > 7 ? kMemoryUnknown : static_cast<std::uint8_t>(cupti_kind - 1);
}

template <typename From>
void fill_interval(GpuInterval& to, const From& from) {
  to.start_ns = static_cast<TimeNs>(from.start);
  to.end_ns = static_cast<TimeNs>(from.end);
  to.device = from.deviceId;
  to.context = from.contextId;
  to.stream = from.streamId;
  to.correlation = from.correlationId;
  to.graph_node = from.graphNodeId;
}

void tell(CuptiReceiver& receiver, const CUpti_ActivityKernel10& from) {
  GpuKernelRecord kernel;
  fill_interval(kernel, from);
  kernel.grid_id = from.gridId;
  kernel.grid_x = from.gridX;
  kernel.grid_y = from.gridY;
  kernel.grid_z = from.gridZ;
  kernel.block_x = from.blockX;
  kernel.block_y = from.blockY;
  kernel.block_z = from.blockZ;
  kernel.static_shared_bytes = from.staticSharedMemory;
  kernel.dynamic_shared_bytes = from.dynamicSharedMemory;
  kernel.local_bytes_per_thread = from.localMemoryPerThread;
  kernel.local_bytes = from.localMemoryTotal_v2;
  kernel.shared_executed_bytes = from.sharedMemoryExecuted;
  kernel.registers_per_thread = from.registersPerThread;
  kernel.launch_type = from.launchType;
  kernel.cache_config = from.cacheConfig.config.executed;
  kernel.shared_limit_config = static_cast<std::uint8_t>(from.shmemLimitConfig);
  receiver.on_kernel(kernel, from.name);
}

void tell(CuptiReceiver& receiver, const CUpti_ActivityMemcpy6& from) {
  GpuCopyRecord copy;
  fill_interval(copy, from);
  copy.bytes = static_cast<std::int64_t>(from.bytes);
  copy.copies = std::max<std::uint64_t>(from.copyCount, 1);
  copy.copy_kind = from.copyKind;
  copy.source_kind = memory_kind(from.srcKind);
  copy.target_kind = memory_kind(from.dstKind);
  copy.source_device = copy.target_device = from.deviceId;
  receiver.on_copy(copy, from.runtimeCorrelationId);
}

void tell(CuptiReceiver& receiver, const CUpti_ActivityMemcpyPtoP4& from) {
  GpuCopyRecord copy;
  fill_interval(copy, from);
  copy.bytes = static_cast<std::int64_t>(from.bytes);
  copy.copy_kind = from.copyKind;
  copy.source_kind = memory_kind(from.srcKind);
  copy.target_kind = memory_kind(from.dstKind);
  copy.source_device = from.srcDeviceId;
  copy.target_device = from.dstDeviceId;
  receiver.on_copy(copy, 0);
}

void tell(CuptiReceiver& receiver, const CUpti_ActivityMemset4& from) {
  GpuMemsetRecord memset;
  fill_interval(memset, from);
  memset.bytes = static_cast<std::int64_t>(from.bytes);
  memset.value = from.value;
  memset.memory_kind = memory_kind(from.memoryKind);
  receiver.on_memset(memset);
}

void tell(CuptiReceiver& receiver, const CUpti_ActivitySynchronization2& from) {
  GpuSyncRecord sync;
  sync.start_ns = static_cast<TimeNs>(from.start);
  sync.end_ns = static_cast<TimeNs>(from.end);
  sync.context = from.contextId;
  sync.stream = from.streamId;
  sync.correlation = from.correlationId;
  sync.event = from.cudaEventId;
  sync.event_sync = from.cudaEventSyncId;
  sync.type = static_cast<std::uint8_t>(from.type);
  receiver.on_sync(sync);
}

void tell(CuptiReceiver& receiver, const CUpti_ActivityOverhead3& from) {
  GpuOverheadRecord overhead;
  overhead.start_ns = static_cast<TimeNs>(from.start);
  overhead.end_ns = static_cast<TimeNs>(from.end);
  overhead.correlation = from.correlationId;
  overhead.kind = static_cast<std::uint32_t>(from.overheadKind);
  if (from.objectKind == CUPTI_ACTIVITY_OBJECT_THREAD) overhead.thread = from.objectId.pt.threadId;
  receiver.on_overhead(overhead);
  std::free(from.overheadData);  // CUPTI gives it away
}

void tell(CuptiReceiver& receiver, const CUpti_ActivityDevice5& from) {
  GpuDeviceRecord device;
  device.device = from.id;
  if (from.name != nullptr) device.name = from.name;
  device.memory_bytes = static_cast<std::int64_t>(from.globalMemorySize);
  device.memory_bytes_per_s = static_cast<std::int64_t>(from.globalMemoryBandwidth) * 1000;
  device.clock_hz = std::int64_t{from.coreClockRate} * 1000;
  device.l2_bytes = from.l2CacheSize;
  device.multiprocessors = static_cast<std::int32_t>(from.numMultiprocessors);
  device.compute_major = static_cast<std::int32_t>(from.computeCapabilityMajor);
  device.compute_minor = static_cast<std::int32_t>(from.computeCapabilityMinor);
  receiver.on_device(device);
}

void tell(CuptiReceiver& receiver, const CUpti_ActivityExternalCorrelation& from) {
  if (from.externalKind == CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0)
    receiver.on_call(from.correlationId, from.externalId);
}

template <typename Record>
void tell_as(CuptiReceiver& receiver, const CUpti_Activity* record) {
  tell(receiver, *reinterpret_cast<const Record*>(record));
}

void tell(CuptiReceiver& receiver, const CUpti_Activity* record) {
  switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
    case CUPTI_ACTIVITY_KIND_KERNEL:
      return tell_as<CUpti_ActivityKernel10>(receiver, record);
    case CUPTI_ACTIVITY_KIND_MEMCPY:
      return tell_as<CUpti_ActivityMemcpy6>(receiver, record);
    case CUPTI_ACTIVITY_KIND_MEMCPY2:
      return tell_as<CUpti_ActivityMemcpyPtoP4>(receiver, record);
    case CUPTI_ACTIVITY_KIND_MEMSET:
      return tell_as<CUpti_ActivityMemset4>(receiver, record);
    case CUPTI_ACTIVITY_KIND_SYNCHRONIZATION:
      return tell_as<CUpti_ActivitySynchronization2>(receiver, record);
    case CUPTI_ACTIVITY_KIND_OVERHEAD:
      return tell_as<CUpti_ActivityOverhead3>(receiver, record);
    case CUPTI_ACTIVITY_KIND_DEVICE:
      return tell_as<CUpti_ActivityDevice5>(receiver, record);
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION:
      return tell_as<CUpti_ActivityExternalCorrelation>(receiver, record);
    default:
      return;  // records of API calls: there for the correlation they carry
  }
}

constexpr std::array kNeededKinds = {CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                     CUPTI_ACTIVITY_KIND_MEMCPY};
constexpr std::array kWantedKinds = {CUPTI_ACTIVITY_KIND_MEMCPY2, CUPTI_ACTIVITY_KIND_MEMSET,
                                     CUPTI_ACTIVITY_KIND_SYNCHRONIZATION, CUPTI_ACTIVITY_KIND_OVERHEAD};

std::atomic<bool> is_active = false;
// What the process decided about its one timestamp callback.
enum class Clock : std::uint8_t { undecided, ours, theirs };
Clock clock_choice = Clock::undecided;

class Activity : public CuptiActivity {
 public:
  Activity(const CuptiActivityOptions& options, CuptiLibrary library)
      : library_(std::move(library)), call_(find_functions(library_)) {
    check(call_.get_version(&version_), "cuptiGetVersion");
    if (version_ / 10000 != CUPTI_API_VERSION / 10000 || version_ < 130000)
      throw CuptiUnavailable("cupti.too_old", fmt::format("{} is version {}, but this program needs one of CUDA {}",
                                                          library_.path, version_, CUPTI_API_VERSION / 10000));
    subscribe();
    try {
      choose_clock(options.register_clock);
      set_up_cupti_buffers();
      follow_graphs();
      switch_on(options);
    } catch (...) {
      stop();
      throw;
    }
  }

  ~Activity() override {
    stop();
    is_active = false;
  }

  void push(std::uint64_t tag) override {
    tag_in_force = tag;
    call_.push_id(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, tag);
  }
  void pop() override {
    call_.pop_id(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, nullptr);
    tag_in_force = 0;
  }

  void deliver(CuptiReceiver& receiver, bool forced) override {
    call_.flush_all(forced ? CUPTI_ACTIVITY_FLAG_FLUSH_FORCED : 0);
    for (const auto& [node, tag] : cupti_buffers().take_nodes()) receiver.on_node(node, tag);
    for (const auto& [node, original] : cupti_buffers().take_clones()) receiver.on_clone(node, original);
    for (const CuptiBuffers::Filled& buffer : cupti_buffers().take_filled()) {
      CUpti_Activity* record = nullptr;
      while (call_.get_next_record(buffer.data, buffer.bytes, &record) == CUPTI_SUCCESS) tell(receiver, record);
      cupti_buffers().give_back(buffer);
    }
  }

  std::uint64_t take_dropped() override {
    std::size_t dropped = 0;
    return call_.get_dropped(nullptr, 0, &dropped) == CUPTI_SUCCESS ? dropped : 0;
  }

  void stop() override {
    if (subscriber_ == nullptr) return;
    // CUPTI 13.0 as first released can wait for ever in here (fixed in its update 1); it then records on, unheard.
    if (version_ != 130000) {
      for (const auto& [domain, id] : traced_calls_) switch_call(domain, id, 0);
      for (const CUpti_ActivityKind kind : kinds_) call_.disable(kind);
    }
    call_.unsubscribe(subscriber_);
    subscriber_ = nullptr;
  }

  std::uint64_t now_ns() const override {
    std::uint64_t now = 0;
    call_.get_timestamp(&now);
    return now;
  }
  bool stamps_with_monotonic_clock() const override { return clock_choice == Clock::ours; }
  std::uint32_t version() const override { return version_; }
  const std::string& library_path() const override { return library_.path; }
  std::int64_t host_bytes() const override { return cupti_buffers().bytes(); }
  std::int64_t device_bytes() const override {
    return static_cast<std::int64_t>(attribute(CUPTI_ACTIVITY_ATTR_DEVICE_BUFFER_SIZE) *
                                     attribute(CUPTI_ACTIVITY_ATTR_DEVICE_BUFFER_PRE_ALLOCATE_VALUE));
  }

 private:
  std::string text_of(CUptiResult result) const {
    const char* text = nullptr;
    call_.get_result_string(result, &text);
    return text != nullptr ? text : std::to_string(static_cast<int>(result));
  }

  void check(CUptiResult result, const char* what) const {
    if (result != CUPTI_SUCCESS)
      throw CuptiUnavailable("cupti.failed", fmt::format("{} failed: {}", what, text_of(result)));
  }

  void subscribe() {
    const CUptiResult result = call_.subscribe(&subscriber_, &Activity::on_resource, this);
    if (result == CUPTI_SUCCESS) return;
    subscriber_ = nullptr;
    if (result == CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED || result == CUPTI_ERROR_MAX_LIMIT_REACHED)
      throw CuptiUnavailable("cupti.in_use",
                             "another tool (such as Nsight Systems, Nsight Compute or a debugger) holds CUPTI");
    if (dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) == nullptr)
      throw CuptiUnavailable("cupti.no_driver", "there is no NVIDIA driver on this machine (libcuda.so.1)");
    check(result, "cuptiSubscribe");
  }

  // Ours only when CUPTI keeps time as its documentation says, and does as we ask.
  void choose_clock(bool register_ours) {
    if (clock_choice != Clock::undecided) return;
    clock_choice = Clock::theirs;
    if (!register_ours || !now_lies_within(CLOCK_REALTIME)) return;
    if (call_.register_timestamp_callback(&monotonic_timestamp) != CUPTI_SUCCESS) return;
    if (now_lies_within(CLOCK_MONOTONIC)) clock_choice = Clock::ours;
  }
  bool now_lies_within(clockid_t clock) const {
    const std::int64_t before = clock_ns(clock), now = static_cast<std::int64_t>(now_ns()), after = clock_ns(clock);
    return before <= now && now <= after;
  }

  void set_up_cupti_buffers() {
    std::uint8_t zeroed = 1;
    std::size_t bytes = sizeof zeroed;
    call_.set_attribute(CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER, &bytes, &zeroed);
    cupti_buffers();
    check(call_.register_callbacks(&on_buffer_wanted, &on_buffer_filled), "cuptiActivityRegisterCallbacks");
  }

  void follow_graphs() {
    for (const CUpti_CallbackIdResource id :
         {CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED})
      check(call_.enable_callback(1, subscriber_, CUPTI_CB_DOMAIN_RESOURCE, id), "cuptiEnableCallback");
  }

  void switch_on(const CuptiActivityOptions& options) {
    if (options.trace_runtime_calls) trace_calls(CUPTI_CB_DOMAIN_RUNTIME_API);
    if (options.trace_driver_calls) trace_calls(CUPTI_CB_DOMAIN_DRIVER_API);
    for (const CUpti_ActivityKind kind : kNeededKinds) {
      check(call_.enable(kind), "cuptiActivityEnable");
      kinds_.push_back(kind);
    }
    for (const CUpti_ActivityKind kind : kWantedKinds)
      if (call_.enable(kind) == CUPTI_SUCCESS) kinds_.push_back(kind);
    call_.enable_all_sync_records(0);  // no records of questions whose answer was "not yet"
    if (call_.enable_and_dump(CUPTI_ACTIVITY_KIND_DEVICE) == CUPTI_SUCCESS)
      kinds_.push_back(CUPTI_ACTIVITY_KIND_DEVICE);
  }

  void trace_calls(CUpti_CallbackDomain domain) {
    const char* name = nullptr;
    for (CUpti_CallbackId id = 1; call_.get_callback_name(domain, id, &name) == CUPTI_SUCCESS; ++id) {
      if (!issues_work(name)) continue;
      check(switch_call(domain, id, 1), "cuptiActivityEnableRuntimeApi or its sister");
      traced_calls_.emplace_back(domain, id);
    }
  }
  CUptiResult switch_call(CUpti_CallbackDomain domain, CUpti_CallbackId id, std::uint8_t on) const {
    return domain == CUPTI_CB_DOMAIN_RUNTIME_API ? call_.enable_runtime_api(id, on) : call_.enable_driver_api(id, on);
  }

  std::size_t attribute(CUpti_ActivityAttribute which) const {
    std::size_t value = 0, bytes = sizeof value;
    return call_.get_attribute(which, &bytes, &value) == CUPTI_SUCCESS ? value : 0;
  }

  // On the thread that records or instantiates a graph.
  static void CUPTIAPI on_resource(void* self, CUpti_CallbackDomain domain, CUpti_CallbackId id, const void* data) {
    if (domain != CUPTI_CB_DOMAIN_RESOURCE) return;
    const auto& call = static_cast<Activity*>(self)->call_;
    const auto* graph =
        static_cast<const CUpti_GraphData*>(static_cast<const CUpti_ResourceData*>(data)->resourceDescriptor);
    std::uint64_t node = 0, original = 0;
    if (graph == nullptr || call.get_graph_node_id(graph->node, &node) != CUPTI_SUCCESS) return;
    if (id == CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED) {
      if (tag_in_force != 0) cupti_buffers().add_node(node, tag_in_force);
    } else if (call.get_graph_node_id(graph->originalNode, &original) == CUPTI_SUCCESS) {
      cupti_buffers().add_clone(node, original);
    }
  }

  const CuptiLibrary library_;
  const Functions call_;
  std::uint32_t version_ = 0;
  CUpti_SubscriberHandle subscriber_ = nullptr;
  std::vector<CUpti_ActivityKind> kinds_;
  std::vector<std::pair<CUpti_CallbackDomain, CUpti_CallbackId>> traced_calls_;
};

}  // namespace

std::unique_ptr<CuptiActivity> CuptiActivity::start(const CuptiActivityOptions& options) {
  if (is_active.exchange(true)) throw CuptiUnavailable("cupti.in_use", "another recording of this program uses CUPTI");
  try {
    CuptiLibrary library = open_cupti_library(fmt::format("libcupti.so.{}", CUPTI_API_VERSION / 10000));
    if (library.handle == nullptr) throw CuptiUnavailable("cupti.no_library", library.problem);
    return std::make_unique<Activity>(options, std::move(library));
  } catch (...) {
    is_active = false;
    throw;
  }
}

}  // namespace expertscope
