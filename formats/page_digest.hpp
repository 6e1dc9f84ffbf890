// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/units.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

struct XXH3_state_s;

namespace wherry::formats {

/// XXH3-64 (seed 0) of some bytes: finds damage, proves nothing against a forger.
enum class Digest : std::uint64_t {};

Digest digest_of(std::span<const std::byte> bytes) noexcept;

/// The digest of bytes that arrive in pieces; equal to digest_of over all of them. Make one for a
/// channel and reset() it for each payload: construction allocates, the rest does not.
class StreamingDigest {
public:
    StreamingDigest();
    StreamingDigest(StreamingDigest&&) noexcept = default;
    StreamingDigest& operator=(StreamingDigest&&) noexcept = default;
    StreamingDigest(const StreamingDigest&) = delete;
    StreamingDigest& operator=(const StreamingDigest&) = delete;
    ~StreamingDigest() = default;

    void reset() noexcept;
    void update(std::span<const std::byte> bytes) noexcept;
    /// Of everything since the last reset; more may follow.
    [[nodiscard]] Digest value() const noexcept;

private:
    struct Release {
        void operator()(XXH3_state_s* state) const noexcept;
    };
    std::unique_ptr<XXH3_state_s, Release> state_;
};

/// Whether every byte is zero. `page` must not change meanwhile: look at a copy.
bool is_zero_page(std::span<const std::byte, page_size> page) noexcept;

} // namespace wherry::formats
