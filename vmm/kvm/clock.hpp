// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/partition.hpp"

#include <chrono>
#include <cstdint>
#include <optional>

namespace wherry::vmm::kvm {

/// The clock of a VM (what kvmclock shows) and the moments that tie the vCPUs' TSCs to it. Used
/// on the machine's thread while all vCPUs stand still.
class Clock {
public:
    explicit Clock(int vm) : vm_{vm} {}

    formats::Result<PartitionClock> save();
    formats::Status restore(const PartitionClock& clock);

    /// The host's TSC when the clock was last saved; now, if it never was.
    [[nodiscard]] std::uint64_t saved_at() const noexcept;

    /// A saved guest TSC of T at `khz` must read T + ticks_in(elapsed, khz) when the host's TSC is
    /// `host_tsc`.
    struct Anchor {
        std::uint64_t host_tsc = 0;
        std::chrono::nanoseconds elapsed{0};
    };
    /// Of the last restore; without one, now and nothing elapsed.
    [[nodiscard]] Anchor anchor() const noexcept;

private:
    int vm_;
    std::optional<std::uint64_t> saved_at_;
    std::optional<Anchor> anchor_;
};

} // namespace wherry::vmm::kvm
