// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/vp_state.hpp"
#include "vmm/mshvsim/synic.hpp"

#include <cstdint>
#include <optional>

namespace wherry::vmm::mshvsim {

/// The four synthetic timers of one VP (Top Level Functional Specification, chapter 12). They
/// expire when serve() finds them due, which is before each run; an alarm ends a run for that. A VP
/// that does not run has no expiries, so that its state stands still while it is saved. Whoever
/// calls has the VP's RunGate.
class SyntheticTimers {
public:
    SyntheticTimers(Hypervisor& hypervisor, std::uint32_t index, Synic& synic);

    /// Nothing: no register of a timer.
    [[nodiscard]] std::optional<std::uint64_t> get(std::uint32_t name) const;
    /// Status of the hypervisor. Either register, written, starts the timer anew.
    std::optional<std::uint16_t> set(std::uint32_t name, std::uint64_t value, Writer writer);

    /// Delivers what is due, and what could not be before.
    void serve();

    using State = mshv::abi::vp_state::SyntheticTimers;
    [[nodiscard]] const State& state() const noexcept { return state_; }
    void set_state(const State& state) noexcept { state_ = state; }

private:
    using Timer = mshv::abi::vp_state::SyntheticTimer;
    void start(Timer& timer);
    void expire(std::uint32_t number, std::uint64_t now);
    bool deliver(std::uint32_t number, std::uint64_t expiration, std::uint64_t now);

    Hypervisor& hypervisor_;
    std::uint32_t index_;
    Synic& synic_;
    bool is_offered_, has_direct_;
    bool has_alarm_ = false;
    State state_{};
};

} // namespace wherry::vmm::mshvsim
