// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/little_endian.hpp"
#include "formats/page_digest.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace wherry::migrate {

/// XXH3 over the payload digests of one round's batches, in order: equal on both sides, or a batch
/// was lost, repeated or changed.
class RoundDigest {
public:
    void add(formats::Digest payload) noexcept {
        std::array<std::byte, sizeof(std::uint64_t)> bytes{};
        formats::store_little(bytes, 0, static_cast<std::uint64_t>(payload));
        digest_.update(bytes);
    }
    [[nodiscard]] formats::Digest value() const noexcept { return digest_.value(); }
    void reset() noexcept { digest_.reset(); }

private:
    formats::StreamingDigest digest_;
};

} // namespace wherry::migrate
