// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/machine.hpp"

#include <utility>

namespace wherry::migrate::detail {

/// Slows a guest down for as long as it lives: whatever way a session ends, its guest is free.
class GuestThrottle {
public:
    /// `machine` outlives it.
    explicit GuestThrottle(vmm::Machine& machine) noexcept : machine_{machine} {}
    GuestThrottle(const GuestThrottle&) = delete;
    GuestThrottle& operator=(const GuestThrottle&) = delete;
    ~GuestThrottle() { set(0); }

    void set(unsigned percent) {
        if (std::exchange(percent_, percent) != percent) {
            machine_.throttle(percent);
        }
    }
    [[nodiscard]] unsigned percent() const noexcept { return percent_; }

private:
    vmm::Machine& machine_;
    unsigned percent_ = 0;
};

} // namespace wherry::migrate::detail
