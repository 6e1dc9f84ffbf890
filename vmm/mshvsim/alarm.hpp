// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/properties.hpp"

#include <condition_variable>
#include <functional>
#include <map>
#include <optional>
#include <thread>

namespace wherry::vmm::mshvsim {

/// Wakes VPs when the partition's reference clock has come so far, on a thread of its own, which
/// starts with the first alarm. While the clock is frozen nobody is woken. Thread-safe.
class Alarm {
public:
    using Wake = std::function<void(std::uint32_t vp)>;
    Alarm(ReferenceClock& clock, Wake wake) : clock_{clock}, wake_{std::move(wake)} {}
    Alarm(const Alarm&) = delete;
    Alarm& operator=(const Alarm&) = delete;
    ~Alarm();

    /// Once, at reference time `due` (100 ns); replaces what was set for this VP.
    void set(std::uint32_t vp, std::optional<std::uint64_t> due);
    /// After the clock was frozen, thawed or set.
    void clock_changed();

private:
    void serve();

    ReferenceClock& clock_;
    Wake wake_;
    std::mutex lock_;
    std::condition_variable changed_;
    std::map<std::uint32_t, std::uint64_t> due_;
    bool is_ending_ = false;
    std::thread thread_;
};

} // namespace wherry::vmm::mshvsim
