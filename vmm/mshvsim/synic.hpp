// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/messages.hpp"
#include "vmm/mshvsim/hypervisor.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace wherry::vmm::mshvsim {

/// The synthetic interrupt controller of one VP (Top Level Functional Specification, chapter 11):
/// SINTs, message page, event flags page. Whoever calls has the VP's RunGate.
class Synic {
public:
    Synic(Hypervisor& hypervisor, std::uint32_t index);

    using Message = mshv::abi::messages::Message;
    /// Nothing: no register of the controller.
    [[nodiscard]] std::optional<std::uint64_t> get(std::uint32_t name) const;
    /// Status of the hypervisor.
    std::optional<std::uint16_t> set(std::uint32_t name, std::uint64_t value, Writer writer);

    /// Into the SINT's slot of the message page, and interrupts. Status of the hypervisor; while
    /// the slot is in use, which the guest sees by the message's flag: insufficient_buffers.
    std::uint16_t post(std::uint32_t sint, const Message& message);
    std::uint16_t signal(std::uint32_t sint, std::uint32_t flag, bool& is_new);
    /// An edge of this vector to the VP's own APIC.
    void interrupt(std::uint8_t vector);

    OverlayPage& messages() noexcept { return messages_; }
    OverlayPage& event_flags() noexcept { return event_flags_; }
    /// As OverlayPage's.
    std::optional<std::uint64_t> settle();

private:
    void interrupt_by(std::uint32_t sint);
    [[nodiscard]] bool is_on() const noexcept { return (scontrol_ & 1U) != 0; }

    Hypervisor& hypervisor_;
    std::uint32_t index_;
    std::array<std::uint64_t, 16> sint_{};
    std::uint64_t scontrol_ = 0;
    OverlayPage messages_, event_flags_;
};

} // namespace wherry::vmm::mshvsim
