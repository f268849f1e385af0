#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "engine/machines/calibration.h"
#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_clock.h"
#include "engine/machines/cuda/kernels.h"
#include "engine/machines/cuda_available.h"
#include "engine/model/kernels.h"
#include "engine/model/sampler.h"
#include "engine/model/thread_pool.h"

namespace expertscope {
namespace {

using namespace cuda;

constexpr std::int64_t kMiB = 1 << 20;
// CPU experts are stood for by Q4_K matrices of a common expert's size, enough of them to leave the caches.
constexpr int kRows = 768, kCols = 2048;
constexpr std::int64_t kStoreBytes = 1024 * kMiB;

double seconds_now() {
  return 1e-9 * static_cast<double>(DeviceClock::monotonic_ns());
}

class Calibration {
 public:
  Calibration(const CalibrationRequest& request, const std::function<void(const std::string&)>& said)
      : request_(request), said_(said), store_(kStoreBytes), device_(512 * kMiB), other_(512 * kMiB), flag_(16) {
    check(cudaGetDeviceProperties(&properties_, 0), "asking for the GPU's properties");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
    // A half of 0x2222 is a small normal number: no infinities that would slow the sums.
    std::fill_n(store_.data(), kStoreBytes, std::byte{0x22});
  }
  ~Calibration() { (void)cudaStreamDestroy(stream_); }

  MachineProfile run() {
    MachineProfile p;
    p.name = properties_.name;
    p.source = std::string("measured by expertscope calibrate on a ") + properties_.name + " with " +
               std::to_string(request_.threads) + " CPU threads; medians of " + std::to_string(request_.repeats);
    link(p);
    host(p);
    gpu(p);
    storage(p);
    p.measured = std::move(measured_);
    return p;
  }

 private:
  // Repeats a measurement and keeps its spread.
  template <typename Once>
  double measure(const std::string& name, const char* unit, Once once) {
    said_(name);
    std::vector<double> values;
    once();  // warm
    for (int i = 0; i < request_.repeats; ++i) values.push_back(once());
    std::ranges::sort(values);
    const double median = values[values.size() / 2];
    measured_.push_back({name, unit, median, values.front(), values.back()});
    return median;
  }
  void wait() { check(cudaStreamSynchronize(stream_), "waiting for the device"); }

  double copy_rate(std::int64_t bytes, int count, cudaMemcpyKind kind) {
    const double begin = seconds_now();
    for (int i = 0; i < count; ++i) {
      const std::int64_t at = i * bytes % (512 * kMiB - bytes + 1) / 256 * 256;
      void* host = store_.data() + at;
      std::byte* device = device_.data() + at;
      check(cudaMemcpyAsync(kind == cudaMemcpyHostToDevice ? static_cast<void*>(device) : host,
                            kind == cudaMemcpyHostToDevice ? host : static_cast<void*>(device),
                            static_cast<std::size_t>(bytes), kind, stream_),
            "copying");
    }
    wait();
    return static_cast<double>(bytes) * count / (seconds_now() - begin);
  }

  void link(MachineProfile& p) {
    for (const std::int64_t kb : {64, 256, 1024, 2560, 4096, 16384, 65536, 262144}) {
      const std::int64_t bytes = kb * 1024;
      const int count = static_cast<int>(std::clamp<std::int64_t>(256 * kMiB / bytes, 1, 200));
      const double rate = measure("h2d " + std::to_string(kb) + " KiB, queued", "B/s",
                                  [&] { return copy_rate(bytes, count, cudaMemcpyHostToDevice); });
      p.link.h2d_bytes_per_s = std::max(p.link.h2d_bytes_per_s, rate);
    }
    p.link.d2h_bytes_per_s =
        measure("d2h 64 MiB", "B/s", [&] { return copy_rate(64 * kMiB, 4, cudaMemcpyDeviceToHost); });
    p.link.latency_s = measure("h2d 4 KiB, one of many queued", "s",
                               [&] { return 4096 / copy_rate(4096, 500, cudaMemcpyHostToDevice); });
    measure("h2d 4 KiB, alone", "s", [&] { return 4096 / copy_rate(4096, 1, cudaMemcpyHostToDevice); });
    p.link.chunk_bytes = 4 * kMiB;
  }

  // Bytes that a pool reads a second as products of CPU experts, for about 50 ms.
  double read_rate(Kernels& kernels, const std::atomic<bool>* until = nullptr) {
    const std::int64_t matrix = quants_bytes(TensorType::q4_k, std::int64_t{kRows} * kCols);
    const std::vector<float> x(kCols, 0.5f);
    std::vector<float> y(kRows * 16);
    const float* from = x.data();
    float* to[16];
    Kernels::Product products[16];
    const double begin = seconds_now();
    std::int64_t bytes = 0, at = 0;
    do {
      for (int i = 0; i < 16; ++i) {
        if (at + matrix > kStoreBytes) at = 0;
        to[i] = y.data() + i * kRows;
        products[i] = {{TensorType::q4_k, kRows, kCols, store_.data() + at, nullptr}, {&from, 1}, {&to[i], 1}};
        at += (matrix + 63) / 64 * 64;
        bytes += matrix;
      }
      kernels.multiply(products);
    } while (until != nullptr ? !until->load() : seconds_now() - begin < 0.05);
    return static_cast<double>(bytes) / (seconds_now() - begin);
  }

  void host(MachineProfile& p) {
    for (int threads = 1;; threads = std::min(2 * threads, request_.threads)) {
      ThreadPool pool(threads);
      Kernels kernels(pool);
      p.host.memory_bytes_per_s = measure("Q4_K experts on the CPU, " + std::to_string(threads) + " threads", "B/s",
                                          [&] { return read_rate(kernels); });
      if (threads == request_.threads) break;
    }
    together(p);
    struct sysinfo info {};
    sysinfo(&info);
    p.host.memory_bytes = static_cast<std::int64_t>(info.totalram) * info.mem_unit;
    p.host.threads = request_.threads;
    // Two operations for each weight of 4.5 bits: what the kernels reach out of memory bounds what they reach at all.
    p.host.flops_per_s = p.host.memory_bytes_per_s / (144.0 / 256) * 2 * 4;
    ThreadPool pool(request_.threads);
    p.host.task_s = measure("starting and joining the CPU threads", "s", [&] {
      const double begin = seconds_now();
      for (int i = 0; i < 1000; ++i) pool.parallel_for(request_.threads * 4, [](int, int) {});
      return 2 * (seconds_now() - begin) / 1000;  // an expert takes two loops
    });
    std::vector<float> logits(100'000);
    for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i * 7919 % 100'003);
    Sampler sampler(SamplingRule{});
    p.host.sampling_s = measure("greedy choice among 100,000 logits", "s", [&] {
      const double begin = seconds_now();
      for (int i = 0; i < 20; ++i) (void)sampler.sample(logits);
      return (seconds_now() - begin) / 20;
    });
    p.host.policy_s = 2e-6;
  }

  // The link and the CPU read host memory at the same time.
  void together(MachineProfile& p) {
    ThreadPool pool(request_.threads);
    Kernels kernels(pool);
    double cpu = 0;
    const double link = measure("h2d 2560 KiB while the CPU reads", "B/s", [&] {
      std::atomic<bool> done{false};
      double rate = 0;
      std::thread copier([&] {
        const double begin = seconds_now();
        std::int64_t bytes = 0;
        while (seconds_now() - begin < 0.05) {
          copy_rate(2560 * 1024, 40, cudaMemcpyHostToDevice);
          bytes += 40 * 2560 * 1024;
        }
        rate = static_cast<double>(bytes) / (seconds_now() - begin);
        done = true;
      });
      cpu = read_rate(kernels, &done);
      copier.join();
      return rate;
    });
    measured_.push_back({"Q4_K experts on the CPU while the link copies", "B/s", cpu, cpu, cpu});
    p.host.shared_memory_bytes_per_s = std::max(link + cpu, p.host.memory_bytes_per_s);
  }

  void gpu(MachineProfile& p) {
    GpuProfile g;
    g.name = properties_.name;
    g.memory_bytes = static_cast<std::int64_t>(properties_.totalGlobalMem);
    g.memory_bytes_per_s = measure("device memory, copied (read and written)", "B/s", [&] {
      const double begin = seconds_now();
      for (int i = 0; i < 8; ++i)
        check(cudaMemcpyAsync(other_.data(), device_.data(), other_.bytes(), cudaMemcpyDeviceToDevice, stream_),
              "copying");
      wait();
      return 16.0 * static_cast<double>(other_.bytes()) / (seconds_now() - begin);
    });
    g.launch_s = measure("a small kernel, one of many queued", "s", [&] {
      const double begin = seconds_now();
      for (int i = 0; i < 1000; ++i) stamp_now(flag_.data(), stream_);
      wait();
      return (seconds_now() - begin) / 1000;
    });
    g.sync_s = measure("from a launch until the host sees what the kernel wrote", "s", [&] { return round_trip(); });
    g.flops_per_s = measure("products of many tokens (Q4_K)", "flop/s", [&] { return product_rate(); });
    p.gpus = {g};
  }

  double round_trip() {
    constexpr int kRounds = 200;
    const double begin = seconds_now();
    for (int i = 0; i < kRounds; ++i) {
      *static_cast<volatile std::uint64_t*>(flag_.data()) = 0;
      stamp_now(flag_.data(), stream_);
      while (*static_cast<volatile std::uint64_t*>(flag_.data()) == 0) {
      }
    }
    wait();
    return (seconds_now() - begin) / kRounds;
  }

  double product_rate() {
    constexpr int kSize = 4096, kTokens = 2048, kTimes = 4;
    // Bytes of 0x22 are tiny weights; speed does not depend on values here.
    check(cudaMemsetAsync(device_.data(), 0x22, device_.bytes(), stream_), "filling memory");
    DeviceMatrix w{.quants = reinterpret_cast<const std::uint8_t*>(device_.data()),
                   .rows = kSize,
                   .cols = kSize,
                   .type = TensorType::q4_k};
    LargeProduct product;
    product.w = w;
    product.x = reinterpret_cast<const __half*>(device_.data() + 64 * kMiB);
    product.y = reinterpret_cast<float*>(other_.data());
    wait();
    const double begin = seconds_now();
    for (int i = 0; i < kTimes; ++i) multiply_large(product, kTokens, {}, stream_);
    wait();
    return 2.0 * kSize * kSize * kTokens * kTimes / (seconds_now() - begin);
  }

  void storage(MachineProfile& p) {
    p.storage = {.read_bytes_per_s = 3e9, .latency_s = 1e-4};
    if (request_.scratch.empty()) return;
    const std::filesystem::path path = request_.scratch / "expertscope-calibrate.tmp";
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0)
      throw RunError(path.string() +
                     ": cannot be written, so storage cannot be measured; choose another folder for --out");
    constexpr std::size_t kBytes = 256 * kMiB;
    const bool written = write(file, store_.data(), kBytes) == static_cast<ssize_t>(kBytes) && fsync(file) == 0;
    if (written) {
      p.storage.read_bytes_per_s = measure("storage, 256 MiB in pieces of 4 MiB", "B/s", [&] {
        (void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        const double begin = seconds_now();
        for (std::size_t at = 0; at < kBytes; at += 4 * kMiB)
          if (pread(file, store_.data() + at, 4 * kMiB, static_cast<off_t>(at)) < 0) break;
        return static_cast<double>(kBytes) / (seconds_now() - begin);
      });
      p.storage.latency_s = measure("storage, one page", "s", [&] {
        (void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        const double begin = seconds_now();
        for (int i = 0; i < 32; ++i)
          if (pread(file, store_.data(), 4096, static_cast<off_t>(i) * 7 * kMiB) < 0) break;
        return (seconds_now() - begin) / 32;
      });
    }
    close(file);
    unlink(path.c_str());
    if (!written) throw RunError(path.string() + ": cannot be written, so storage cannot be measured; it needs 256 MB");
  }

  const CalibrationRequest& request_;
  const std::function<void(const std::string&)>& said_;
  cudaDeviceProp properties_{};
  cudaStream_t stream_ = nullptr;
  MappedArray<std::byte> store_;
  DeviceArray<std::byte> device_, other_;
  MappedArray<std::uint64_t> flag_;
  std::vector<Measurement> measured_;
};

}  // namespace

MachineProfile calibrate_machine(const CalibrationRequest& request,
                                 const std::function<void(const std::string&)>& said) {
  if (const CudaStatus cuda = cuda_status(); cuda.state != CudaState::usable)
    throw InputError("calibrate: there is no usable CUDA device: " + cuda.text +
                     "; or start from `expertscope machines rtx4090-pcie4 --json`");
  return Calibration(request, said).run();
}

}  // namespace expertscope
