// SHA-256, fed piece by piece, by libcrypto: about 2 GB/s on CPUs that have instructions for it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

struct evp_md_ctx_st;

namespace expertscope {

class Sha256 {
 public:
  Sha256();  // throws RunError when the library has no SHA-256 to offer
  void update(std::span<const std::byte> bytes);
  std::string hex();  // of all bytes so far; ends the use of the object

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace expertscope
