// What CUPTI's callbacks touch: buffers for its records, and what it tells of graphs while they are recorded. The
// callbacks come on threads of the engine and of CUPTI, so they find buffers that are made and zeroed beforehand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace expertscope {

class CuptiBuffers {
 public:
  static constexpr std::size_t kBufferBytes = 4 << 20;
  static constexpr std::size_t kAtStart = 8, kMost = 64;
  struct Filled {
    std::uint8_t* data;
    std::size_t bytes;
  };
  using Pairs = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

  CuptiBuffers();
  ~CuptiBuffers();
  CuptiBuffers(const CuptiBuffers&) = delete;
  CuptiBuffers& operator=(const CuptiBuffers&) = delete;

  // Callbacks, any thread. nullptr: no more than kMost; CUPTI then counts what it loses.
  std::uint8_t* take();
  void add_filled(std::uint8_t* buffer, std::size_t bytes);
  void add_node(std::uint64_t node, std::uint64_t tag);
  void add_clone(std::uint64_t node, std::uint64_t original);

  // Whoever reads the records.
  std::vector<Filled> take_filled();
  void give_back(const Filled&);  // zeroes it
  Pairs take_nodes();             // node, tag
  Pairs take_clones();            // node, original
  std::int64_t bytes() const;     // of all buffers

 private:
  std::uint8_t* allocate();

  mutable std::mutex mutex_;
  std::vector<std::uint8_t*> all_, free_;
  std::vector<Filled> filled_;
  Pairs nodes_, clones_;
};

// The process's own: callbacks carry no pointer of ours and may come after a recording has ended.
CuptiBuffers& cupti_buffers();

}  // namespace expertscope
