#include "engine/model/sha256.h"

#include <openssl/evp.h>

#include "engine/error.h"

namespace expertscope {

namespace {

void check(int ok) {
  if (ok != 1) throw RunError("libcrypto cannot compute SHA-256 (is it restricted by a local policy?)");
}

}  // namespace

void Sha256::Free::operator()(evp_md_ctx_st* context) const {
  EVP_MD_CTX_free(context);
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  check(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) ? 1 : 0);
}

void Sha256::update(std::span<const std::byte> bytes) {
  check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()));
}

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned bytes = 0;
  check(EVP_DigestFinal_ex(context_.get(), digest, &bytes));
  std::string out;
  for (unsigned i = 0; i < bytes; ++i) {
    for (const int digit : {digest[i] >> 4, digest[i] & 15}) out += "0123456789abcdef"[digit];
  }
  return out;
}

}  // namespace expertscope
