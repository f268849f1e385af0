#include "profiler/cupti_buffers.h"

#include <cstdlib>
#include <cstring>

namespace expertscope {

CuptiBuffers::CuptiBuffers() {
  for (std::size_t i = 0; i < kAtStart; ++i)
    if (std::uint8_t* buffer = allocate()) free_.push_back(buffer);
}

CuptiBuffers::~CuptiBuffers() {
  for (std::uint8_t* buffer : all_) std::free(buffer);
}

std::uint8_t* CuptiBuffers::allocate() {
  auto* buffer = static_cast<std::uint8_t*>(std::aligned_alloc(4096, kBufferBytes));
  if (buffer == nullptr) return nullptr;
  std::memset(buffer, 0, kBufferBytes);
  all_.push_back(buffer);
  return buffer;
}

std::uint8_t* CuptiBuffers::take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return all_.size() < kMost ? allocate() : nullptr;
  std::uint8_t* buffer = free_.back();
  free_.pop_back();
  return buffer;
}

void CuptiBuffers::add_filled(std::uint8_t* buffer, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  filled_.push_back({buffer, bytes});
}

void CuptiBuffers::add_node(std::uint64_t node, std::uint64_t tag) {
  const std::lock_guard lock(mutex_);
  nodes_.emplace_back(node, tag);
}

void CuptiBuffers::add_clone(std::uint64_t node, std::uint64_t original) {
  const std::lock_guard lock(mutex_);
  clones_.emplace_back(node, original);
}

std::vector<CuptiBuffers::Filled> CuptiBuffers::take_filled() {
  const std::lock_guard lock(mutex_);
  return std::exchange(filled_, {});
}

void CuptiBuffers::give_back(const Filled& buffer) {
  std::memset(buffer.data, 0, buffer.bytes);
  const std::lock_guard lock(mutex_);
  free_.push_back(buffer.data);
}

CuptiBuffers::Pairs CuptiBuffers::take_nodes() {
  const std::lock_guard lock(mutex_);
  return std::exchange(nodes_, {});
}

CuptiBuffers::Pairs CuptiBuffers::take_clones() {
  const std::lock_guard lock(mutex_);
  return std::exchange(clones_, {});
}

std::int64_t CuptiBuffers::bytes() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::int64_t>(all_.size() * kBufferBytes);
}

CuptiBuffers& cupti_buffers() {
  static CuptiBuffers& buffers = *new CuptiBuffers;
  return buffers;
}

}  // namespace expertscope
