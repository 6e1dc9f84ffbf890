// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/image.hpp"
#include "formats/result.hpp"

#include <filesystem>
#include <memory>

struct evp_pkey_st;

namespace wherry::migrate {

/// An Ed25519 key out of a PEM file: private for signing, public for trusting. Any thread; shared
/// by all images that are opened or written with it.
class SigningKey {
public:
    struct Release {
        void operator()(evp_pkey_st* key) const noexcept;
    };
    using Handle = std::unique_ptr<evp_pkey_st, Release>;
    explicit SigningKey(Handle key);

    /// SHA-256 of the public key's 32 bytes.
    [[nodiscard]] const formats::ImageDigest& signer() const noexcept { return signer_; }
    /// Precondition: a private key.
    [[nodiscard]] formats::ImageSignature
    sign(const formats::ImageId& id, const formats::ImageDigest& root) const;
    /// Error{authentication}, saying why, unless this key made the signature.
    [[nodiscard]] formats::Status check(
        const formats::ImageId& id,
        const formats::ImageDigest& root,
        const formats::ImageSignature& signature) const;

private:
    Handle key_;
    formats::ImageDigest signer_{};
};

/// A private key that only its owner may read, without a password.
formats::Result<std::shared_ptr<const SigningKey>>
read_signing_key(const std::filesystem::path& path);
/// A public key, as `openssl pkey -pubout` writes it.
formats::Result<std::shared_ptr<const SigningKey>>
read_trusted_key(const std::filesystem::path& path);

/// "sha256:1234...", the first digits, for messages.
std::string short_name_of(const formats::ImageDigest& digest);

} // namespace wherry::migrate
