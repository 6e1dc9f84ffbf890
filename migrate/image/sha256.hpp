// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/image.hpp"

#include <cstddef>
#include <memory>
#include <span>

struct evp_md_ctx_st;

namespace wherry::migrate {

/// SHA-256 of bytes that come in pieces. One thread.
class Sha256 {
public:
    Sha256();
    Sha256(Sha256&&) noexcept = default;
    Sha256& operator=(Sha256&&) noexcept = default;
    Sha256(const Sha256&) = delete;
    Sha256& operator=(const Sha256&) = delete;
    ~Sha256() = default;

    Sha256& update(std::span<const std::byte> bytes);
    /// Of all since the beginning, which begins anew.
    [[nodiscard]] formats::ImageDigest finish();

private:
    struct Release {
        void operator()(evp_md_ctx_st* context) const noexcept;
    };
    void begin();
    std::unique_ptr<evp_md_ctx_st, Release> context_;
};

/// What an image is known by. `index_head` and `index` are its index section's head and payload.
formats::ImageDigest root_of(
    const formats::ImageBlock& header,
    std::span<const std::byte> index_head,
    std::span<const std::byte> index);

} // namespace wherry::migrate
