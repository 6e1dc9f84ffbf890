// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/units.hpp"

#include <atomic>
#include <cstdint>

namespace wherry::migrate {

/// What the bulk channels have moved, counted by all their threads.
class PageCounters {
public:
    struct Sums {
        formats::PageCount raw, zero;
        formats::Bytes wire;
        friend bool operator==(const Sums&, const Sums&) = default;
    };

    /// Any thread.
    void add(formats::PageCount raw, formats::PageCount zero, formats::Bytes wire) noexcept {
        raw_.fetch_add(raw.value(), std::memory_order_relaxed);
        zero_.fetch_add(zero.value(), std::memory_order_relaxed);
        wire_.fetch_add(wire.value(), std::memory_order_relaxed);
    }
    /// Since the beginning. The three are exact together once the threads rest.
    [[nodiscard]] Sums sums() const noexcept {
        return {
            formats::PageCount{raw_.load(std::memory_order_relaxed)},
            formats::PageCount{zero_.load(std::memory_order_relaxed)},
            formats::Bytes{wire_.load(std::memory_order_relaxed)}};
    }

private:
    std::atomic<std::uint64_t> raw_{0}, zero_{0}, wire_{0};
};

} // namespace wherry::migrate
