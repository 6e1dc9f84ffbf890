// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

struct ZSTD_CCtx_s;

namespace wherry::formats {

/// The levels that zstd has, but for its fastest and its slowest.
inline constexpr int zstd_lowest_level = -7;
inline constexpr int zstd_highest_level = 19;

/// Makes one zstd frame at a time, with the size of its contents. One thread.
class ZstdCompressor {
public:
    /// Precondition: between the lowest and the highest level.
    explicit ZstdCompressor(int level);

    /// Valid until the next call.
    std::span<const std::byte> compress(std::span<const std::byte> contents);

private:
    struct Release {
        void operator()(ZSTD_CCtx_s* context) const noexcept;
    };
    std::unique_ptr<ZSTD_CCtx_s, Release> context_;
    std::vector<std::byte> frame_;
};

/// The contents of exactly one frame that says how large they are, and not larger than `limit`,
/// which is the memory that it takes; Error{corrupted} for anything else.
Result<std::vector<std::byte>> decompress_zstd(std::span<const std::byte> frame, Bytes limit);

} // namespace wherry::formats
