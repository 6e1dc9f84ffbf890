// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_run.hpp"

#include <cstddef>
#include <memory>
#include <span>

namespace wherry::migrate {

/// Room for the raw pages of one batch. Nothing of it is touched before it is used: a buffer that
/// comes into being while a guest stands still would else cost it the better part of a millisecond.
class RawPagesBuffer {
public:
    [[nodiscard]] std::span<std::byte> bytes() noexcept { return {room_.get(), size}; }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {room_.get(), size}; }

private:
    static constexpr std::size_t size = formats::bytes_of(formats::raw_pages_per_batch).value();
    // NOLINTNEXTLINE(modernize-avoid-c-arrays): a vector would write zeros to it.
    std::unique_ptr<std::byte[]> room_ = std::make_unique_for_overwrite<std::byte[]>(size);
};

} // namespace wherry::migrate
