// A token's picks, worked out from the router's logits by whoever needs them: one warp, in registers. Device code only.
#pragma once

#include <cstdint>

#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_code.cuh"
#include "engine/machines/cuda/row_streams.cuh"

namespace expertscope::cuda {

// Larger floats are larger numbers; never 0.
__device__ __forceinline__ std::uint32_t order_of(float v) {
  const std::uint32_t bits = __float_as_uint(v + 0.0f);  // -0 and 0 are equal
  return max(1u, bits & 0x80000000u ? ~bits : bits | 0x80000000u);
}
__device__ __forceinline__ std::uint32_t warp_max(std::uint32_t v) {
#if __CUDA_ARCH__ >= 800
  return __reduce_max_sync(0xffffffffu, v);
#else
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v = max(v, __shfl_xor_sync(0xffffffffu, v, offset));
  return v;
#endif
}

// A token's pick of rank `lane` and its weight, in the lanes below top_k.
struct Pick {
  int expert = 0;
  float weight = 0;
};

// By one warp that holds the logits in registers: experts lane, lane + 32, … As engine/model/routing.cpp chooses.
template <int PerLane>
__device__ __forceinline__ Pick choose_of(const RouterRule& rule, const float* logits) {
  const int lane = threadIdx.x % 32;
  float logit[PerLane];
#pragma unroll
  for (int i = 0; i < PerLane; ++i) {
    logit[i] = lane + 32 * i < rule.experts ? fresh(logits + lane + 32 * i) : -INFINITY;
  }
  std::uint32_t left[PerLane];
  float most = -INFINITY;
#pragma unroll
  for (int i = 0; i < PerLane; ++i) {
    left[i] = lane + 32 * i < rule.experts ? order_of(logit[i]) : 0;
    most = fmaxf(most, logit[i]);
  }
  Pick pick;
  float picked = 0;
  for (int k = 0; k < rule.top_k; ++k) {
    std::uint32_t best = 0;
#pragma unroll
    for (int i = 0; i < PerLane; ++i) best = max(best, left[i]);
    best = warp_max(best);
    std::uint32_t last_one = 0;  // ties go to the lower expert: the larger complement
#pragma unroll
    for (int i = 0; i < PerLane; ++i) {
      if (left[i] == best) last_one = max(last_one, ~static_cast<std::uint32_t>(lane + 32 * i));
    }
    const int which = static_cast<int>(~warp_max(last_one));
    float value = 0;
#pragma unroll
    for (int i = 0; i < PerLane; ++i) {
      if (lane + 32 * i == which) left[i] = 0, value = logit[i];
    }
    value = __shfl_sync(0xffffffffu, value, which % 32);
    if (lane == k) pick.expert = which, picked = value;
  }
  const bool picks = lane < rule.top_k;
  if (rule.gate == RouterGate::softmax) {
    most = warp_max(most);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < PerLane; ++i) sum += expf(logit[i] - most);
    sum = warp_sum(sum);
    pick.weight = picks ? expf(picked - most) / sum : 0;
  } else {
    pick.weight = !picks ? 0 : rule.gate == RouterGate::sigmoid ? 1 / (1 + expf(-picked)) : picked;
  }
  if (rule.softmax_on_selected) {
    const float largest = warp_max(picks ? pick.weight : -INFINITY);
    const float share = picks ? expf(pick.weight - largest) : 0;
    pick.weight = share / warp_sum(share);
  }
  if (rule.renormalise) {
    const float total = warp_sum(pick.weight);
    pick.weight = total > 0 ? pick.weight / total : 1.0f / static_cast<float>(rule.top_k);
  }
  pick.weight *= rule.scale;
  return pick;
}
// Apart, for the sake of the registers of those who call it.
inline __device__ __noinline__ Pick choose_of_many(const RouterRule& rule, const float* logits) {
  return choose_of<kMaxExperts / 32>(rule, logits);
}
__device__ __forceinline__ Pick choose(const RouterRule& rule, const float* logits) {
  if (rule.experts <= 32) return choose_of<1>(rule, logits);
  if (rule.experts <= 128) return choose_of<4>(rule, logits);
  return choose_of_many(rule, logits);
}

// Logits of Tokens tokens; the first block of a tile also leaves their inputs.

// By one block, after the wait: everything the host wants to know, and the weights.
inline __device__ void post(const Choice& choice, const RouterMail& mail) {
  for (int i = threadIdx.x; i < mail.logit_count; i += kThreads) mail.logits[i] = fresh(mail.logits_from + i);
  for (int c = static_cast<int>(threadIdx.x) * 4; c < mail.width; c += kThreads * 4)
    *reinterpret_cast<float4*>(mail.input + c) = fresh4(mail.input_from + c);
  if (threadIdx.x == 0) *mail.routed = global_time();
  __threadfence_system();
  __syncthreads();
  if (threadIdx.x == 0) *mail.ready = mail.number;
  if (threadIdx.x >= 32) return;
  const Pick pick = choose(choice.rule, choice.logits);
  if (static_cast<int>(threadIdx.x) < choice.rule.top_k) choice.weights[threadIdx.x] = pick.weight;
}

}  // namespace expertscope::cuda
