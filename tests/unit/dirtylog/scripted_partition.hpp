// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/partition.hpp"

#include <algorithm>
#include <set>

namespace wherry::dirtylog::test {

/// A hypervisor whose dirty log holds what the test puts there and fails where the test wants it.
class ScriptedPartition final : public vmm::Partition {
public:
    vmm::BackendCapabilities abilities{.name = "scripted", .has_dirty_log = true, .cpuid = {}};
    std::set<std::uint64_t> written;            ///< page numbers, cleared as they are fetched
    std::set<std::uint64_t> unreadable_regions; ///< first pages
    bool can_start = true;
    bool is_on = false;

    [[nodiscard]] const vmm::BackendCapabilities& capabilities() const noexcept override {
        return abilities;
    }
    formats::Status start_dirty_log() override {
        if (!can_start) {
            return refused();
        }
        is_on = true;
        written.clear();
        return {};
    }
    formats::Status stop_dirty_log() override {
        is_on = false;
        return {};
    }
    formats::Status
    fetch_dirty_log(formats::PageRange region, std::span<std::uint64_t> bitmap) override {
        if (unreadable_regions.contains(region.first().value())) {
            return refused();
        }
        std::ranges::fill(bitmap, std::uint64_t{0});
        std::erase_if(written, [&](std::uint64_t page) {
            const bool is_here = region.contains(formats::Gfn{page});
            if (is_here) {
                const std::uint64_t at = page - region.first().value();
                bitmap[at / 64] |= std::uint64_t{1} << (at % 64);
            }
            return is_here;
        });
        return {};
    }

    formats::Status map_memory(vmm::GuestMemory&) override { return refused(); }
    formats::Result<std::unique_ptr<vmm::Vcpu>> create_vcpu(std::uint32_t) override {
        return std::unexpected{refused().error()};
    }
    formats::Status signal(const vmm::MsiMessage&) override { return refused(); }
    formats::Status route_pins(std::span<const vmm::MsiMessage>) override { return refused(); }
    formats::Result<vmm::PartitionClock> save_clock() override {
        return std::unexpected{refused().error()};
    }
    formats::Status restore_clock(const vmm::PartitionClock&) override { return refused(); }

private:
    static std::unexpected<formats::Error> refused() {
        return formats::fail(formats::ErrorCode::io, "the hypervisor refused");
    }
};

} // namespace wherry::dirtylog::test
