// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/features.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

namespace wherry::vmm::mshvsim {

/// The partition's reference clock: counts 100 ns, stands still while frozen. Thread-safe.
class ReferenceClock {
public:
    std::uint64_t now();
    bool is_frozen();
    void freeze(bool frozen);
    /// False while it runs.
    bool set(std::uint64_t value);

private:
    using Clock = std::chrono::steady_clock;
    std::uint64_t running_now() const;
    std::mutex lock_;
    bool frozen_ = false;
    std::uint64_t base_ = 0;
    Clock::time_point since_ = Clock::now();
};

/// Properties of the host, as the device's descriptor tells them.
std::optional<std::uint64_t> host_property(const EngineCapabilities& engine, std::uint32_t code);

/// Properties of a partition. Status codes of the hypervisor. Thread-safe.
class Properties {
public:
    Properties(const EngineCapabilities& engine, const FeatureBanks& offered);
    std::uint16_t get(std::uint32_t code, std::uint64_t& value);
    /// Not for GPA_PAGE_ACCESS_TRACKING's effect, which is the memory map's.
    std::uint16_t set(std::uint32_t code, std::uint64_t value, bool is_initialized);
    ReferenceClock& clock() noexcept { return clock_; }
    [[nodiscard]] std::uint64_t synthetic_features();
    [[nodiscard]] bool ignores_unknown_msrs();

private:
    const EngineCapabilities& engine_;
    FeatureBanks offered_;
    std::mutex lock_;
    std::map<std::uint32_t, std::uint64_t> stored_;
    ReferenceClock clock_;
};

} // namespace wherry::vmm::mshvsim
