#include <algorithm>
#include <cmath>

#include <cublas_v2.h>
#include <dlfcn.h>

#include "engine/machines/cuda/prompt_attention.h"

namespace expertscope::cuda {
namespace {

// The functions of libcublas that are used, under their exported names.
struct Cublas {
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  // Spelt out: the header has an overload of the same name for C++.
  cublasStatus_t (*gemm)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k, const void* alpha,
                         const void* a, cudaDataType, int lda, long long stride_a, const void* b, cudaDataType, int ldb,
                         long long stride_b, const void* beta, void* c, cudaDataType, int ldc, long long stride_c,
                         int batches, cublasComputeType_t, cublasGemmAlgo_t) = nullptr;
  std::string missing;

  Cublas() {
    const std::string name = "libcublas.so." + std::to_string(CUBLAS_VER_MAJOR);
    void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) library = dlopen((ES_CUDA_LIBRARY_DIR "/" + name).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      missing = name + " is not there (" + dlerror() + "): put the CUDA toolkit's lib folder on LD_LIBRARY_PATH";
      return;
    }
    const auto find = [&](auto& function, const char* symbol) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, symbol));
      if (function == nullptr) missing = name + " has no " + symbol;
    };
    find(create, "cublasCreate_v2");
    find(destroy, "cublasDestroy_v2");
    find(set_stream, "cublasSetStream_v2");
    find(gemm, "cublasGemmStridedBatchedEx");
  }
};

const Cublas& cublas() {
  static const Cublas library;
  return library;
}

void check_cublas(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw RunError("the GPU failed while queueing a prompt's attention: cuBLAS status " + std::to_string(status));
}

// Scores of one pass, floats: queries are taken a few at a time when the context is long.
constexpr std::int64_t kMostScores = std::int64_t{64} << 20;

template <typename T>
void at_least(DeviceArray<T>& array, std::int64_t count, cudaStream_t stream) {
  if (array.size() >= count) return;
  check(cudaStreamSynchronize(stream), "waiting for work space");  // what reads the old one
  array = DeviceArray<T>();
  array = DeviceArray<T>(count);
}

}  // namespace

struct PromptAttention::State {
  AttentionShape shape;
  cublasHandle_t handle = nullptr;
  std::string unavailable;
  DeviceArray<__half> q, k, v, probabilities;
  DeviceArray<float> scores;
};

PromptAttention::PromptAttention(const AttentionShape& shape) : state_(std::make_unique<State>()) {
  state_->shape = shape;
  state_->unavailable = cublas().missing;
  if (shape.head_dim % 8 != 0) state_->unavailable = "heads are no multiple of 8 wide";
  if (state_->unavailable.empty() && cublas().create(&state_->handle) != CUBLAS_STATUS_SUCCESS) {
    state_->handle = nullptr;
    state_->unavailable = "cuBLAS could not start on this device";
  }
}

PromptAttention::~PromptAttention() {
  if (state_->handle != nullptr) (void)cublas().destroy(state_->handle);
}

const std::string& PromptAttention::unavailable() const {
  return state_->unavailable;
}

std::int64_t PromptAttention::bytes() const {
  const State& s = *state_;
  return static_cast<std::int64_t>(s.q.bytes() + s.k.bytes() + s.v.bytes() + s.probabilities.bytes() +
                                   s.scores.bytes());
}

void PromptAttention::run(const float* q, KeyValues cache, int first, int tokens, __half* out, cudaStream_t stream) {
  State& s = *state_;
  const int head_dim = s.shape.head_dim, q_width = s.shape.heads * head_dim, kv_width = s.shape.kv_heads * head_dim;
  const int group = s.shape.heads / s.shape.kv_heads, length = first + tokens;
  // Rows of scores begin on 16 bytes, which the tensor cores want.
  const int pitch = (length + 7) / 8 * 8;
  const int pass = static_cast<int>(std::clamp<std::int64_t>(kMostScores / (std::int64_t{group} * pitch), 1, tokens));
  at_least(s.q, std::int64_t{tokens} * q_width, stream);
  at_least(s.k, std::int64_t{pitch} * kv_width, stream);
  at_least(s.v, std::int64_t{pitch} * kv_width, stream);
  at_least(s.scores, std::int64_t{group} * pass * pitch, stream);
  at_least(s.probabilities, std::int64_t{group} * pass * pitch, stream);
  to_half(q, s.q.data(), std::int64_t{tokens} * q_width, stream);
  to_half(cache.keys, s.k.data(), std::int64_t{length} * kv_width, stream);
  to_half(cache.values, s.v.data(), std::int64_t{length} * kv_width, stream);
  check_cublas(cublas().set_stream(s.handle, stream));
  const float scale = 1 / std::sqrt(static_cast<float>(head_dim)), one = 1, zero = 0;
  for (int kv = 0; kv < s.shape.kv_heads; ++kv) {
    for (int from = 0; from < tokens; from += pass) {
      const int count = std::min(pass, tokens - from);
      const int seen = first + from + count;  // no query of this pass sees more
      const std::int64_t head_scores = std::int64_t{count} * pitch;
      const __half* queries = s.q.data() + std::int64_t{from} * q_width + kv * group * head_dim;
      // Column-major: scores^T [seen x count] = keys^T queries, for every head of the group over the same keys.
      check_cublas(cublas().gemm(s.handle, CUBLAS_OP_T, CUBLAS_OP_N, seen, count, head_dim, &scale,
                                 s.k.data() + kv * head_dim, CUDA_R_16F, kv_width, 0, queries, CUDA_R_16F, q_width,
                                 head_dim, &zero, s.scores.data(), CUDA_R_32F, pitch, head_scores, group,
                                 CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
      causal_softmax(s.scores.data(), s.probabilities.data(), group * count, count, first + from, pitch, stream);
      // out^T [head_dim x count] = values^T probabilities^T
      check_cublas(cublas().gemm(s.handle, CUBLAS_OP_N, CUBLAS_OP_N, head_dim, count, seen, &one,
                                 s.v.data() + kv * head_dim, CUDA_R_16F, kv_width, 0, s.probabilities.data(),
                                 CUDA_R_16F, pitch, head_scores, &zero,
                                 out + std::int64_t{from} * q_width + kv * group * head_dim, CUDA_R_16F, q_width,
                                 head_dim, group, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    }
  }
}

}  // namespace expertscope::cuda
