// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/image.hpp"
#include "formats/page_digest.hpp"
#include "migrate/image/sha256.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

namespace wherry::migrate {

/// What the digests of an image's sections are; its header says so.
enum class DigestKind : std::uint8_t {
    xxh3,   ///< XXH3-64: finds damage and proves nothing against a forger
    sha256, ///< vouched for by whoever vouches for the root
};
DigestKind digest_kind_of(const formats::ImageHeader& header);

/// The digest of a section, whose bytes come in pieces. One thread.
class SectionDigest {
public:
    explicit SectionDigest(DigestKind kind);

    SectionDigest& update(std::span<const std::byte> bytes);
    /// Of all since the beginning, which begins anew.
    [[nodiscard]] formats::ImageDigest finish();

private:
    std::variant<formats::StreamingDigest, Sha256> digest_;
};

} // namespace wherry::migrate
