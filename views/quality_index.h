// What the exact computation beside a run found, added up for each prompt. Extended with the trace.
#pragma once

#include <cstdint>
#include <vector>

#include "profiler/trace.h"

namespace expertscope {

class QualityIndex {
 public:
  struct Sums {
    double kl_sum = 0;  // nats
    std::uint64_t shadowed = 0, agreed = 0;
    double kl_mean() const { return shadowed ? kl_sum / static_cast<double>(shadowed) : 0; }
    double agreement() const { return shadowed ? static_cast<double>(agreed) / static_cast<double>(shadowed) : 0; }
  };

  void update(const Trace& trace) {
    for (; next_ < trace.quality.size(); ++next_) {
      const QualityRecord& record = trace.quality[next_];
      if (record.shadowed == 0 || record.prompt >= trace.prompts.size()) continue;
      if (record.prompt >= by_prompt_.size()) by_prompt_.resize(record.prompt + 1);
      for (Sums* sums : {&by_prompt_[record.prompt], &total_}) {
        sums->kl_sum += record.kl_sum;
        sums->shadowed += record.shadowed;
        sums->agreed += record.agreed;
      }
    }
  }
  // `shadowed` is 0 where nothing was compared.
  Sums of(std::uint32_t prompt) const { return prompt < by_prompt_.size() ? by_prompt_[prompt] : Sums{}; }
  const Sums& total() const { return total_; }

 private:
  std::vector<Sums> by_prompt_;
  Sums total_;
  std::size_t next_ = 0;
};

}  // namespace expertscope
