// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/sha256.hpp"

#include "formats/error.hpp"

#include <openssl/evp.h>

namespace wherry::migrate {

namespace {

/// OpenSSL's digests fail for lack of memory only, and where a build leaves SHA-256 out.
void must_do(int done) {
    formats::invariant(done == 1, "OpenSSL has SHA-256");
}

} // namespace

void Sha256::Release::operator()(evp_md_ctx_st* context) const noexcept {
    ::EVP_MD_CTX_free(context);
}

Sha256::Sha256() : context_{::EVP_MD_CTX_new()} {
    begin();
}

void Sha256::begin() {
    must_do(::EVP_DigestInit_ex(context_.get(), ::EVP_sha256(), nullptr));
}

Sha256& Sha256::update(std::span<const std::byte> bytes) {
    must_do(::EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()));
    return *this;
}

formats::ImageDigest Sha256::finish() {
    formats::ImageDigest digest{};
    must_do(::EVP_DigestFinal_ex(
        context_.get(), reinterpret_cast<unsigned char*>(digest.data()), nullptr));
    begin();
    return digest;
}

formats::ImageDigest root_of(
    const formats::ImageBlock& header,
    std::span<const std::byte> index_head,
    std::span<const std::byte> index) {
    return Sha256{}.update(header).update(index_head).update(index).finish();
}

} // namespace wherry::migrate
