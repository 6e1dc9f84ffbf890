// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/synic.hpp"

#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshv/abi/synthetic_features.hpp"

#include <cstddef>

namespace wherry::vmm::mshvsim {

namespace name_of = mshv::abi::registers;
namespace status = mshv::abi::status;

namespace {

/// Of a SINT.
constexpr std::uint64_t vector_mask = 0xff;
constexpr std::uint64_t masked = 1U << 16U;
constexpr std::uint64_t polling = 1U << 18U;
constexpr std::uint64_t first_vector = 16;
constexpr std::uint64_t version = 1;

constexpr std::size_t slot_size = sizeof(Synic::Message);
constexpr std::uint32_t flags_of_sint = 2048;
constexpr std::uint8_t message_pending = 1U << 0U;

bool interrupts(std::uint64_t sint) {
    return (sint & (masked | polling)) == 0;
}

} // namespace

Synic::Synic(Hypervisor& hypervisor, std::uint32_t index)
    : hypervisor_{hypervisor},
      index_{index},
      messages_{hypervisor.memory},
      event_flags_{hypervisor.memory} {
    const bool is_offered =
        (hypervisor.properties.synthetic_features() & mshv::abi::synthetic_features::synic) != 0;
    messages_.offer(is_offered);
    event_flags_.offer(is_offered);
    sint_.fill(masked);
}

std::optional<std::uint64_t> Synic::get(std::uint32_t name) const {
    if (name >= name_of::sint0 && name < name_of::sint0 + sint_.size()) {
        return sint_[name - name_of::sint0];
    }
    switch (name) {
    case name_of::scontrol:
        return scontrol_;
    case name_of::sversion:
        return version;
    case name_of::siefp:
        return event_flags_.control();
    case name_of::simp:
        return messages_.control();
    case name_of::eom: // a trigger: nothing stays in it
        return 0;
    default:
        return std::nullopt;
    }
}

std::optional<std::uint16_t> Synic::set(std::uint32_t name, std::uint64_t value, Writer writer) {
    if (name >= name_of::sint0 && name < name_of::sint0 + sint_.size()) {
        const bool is_bad = interrupts(value) && (value & vector_mask) < first_vector;
        if (writer == Writer::guest && is_bad) {
            return status::invalid_register_value;
        }
        sint_[name - name_of::sint0] = value;
        return status::success;
    }
    switch (name) {
    case name_of::scontrol:
        scontrol_ = value;
        return status::success;
    case name_of::sversion:
        return value == version && writer == Writer::root ? status::success
                                                          : status::invalid_parameter;
    case name_of::siefp:
        event_flags_.set_control(value, {});
        return status::success;
    case name_of::simp:
        messages_.set_control(value, {});
        return status::success;
    case name_of::eom:
        return status::success;
    default:
        return std::nullopt;
    }
}

std::uint16_t Synic::post(std::uint32_t sint, const Message& message) {
    if (sint >= sint_.size()) {
        return status::invalid_parameter;
    }
    if (!is_on() || !messages_.is_enabled()) {
        return status::invalid_vp_state;
    }
    const std::size_t slot = slot_size * sint;
    Message old;
    messages_.read(slot, std::as_writable_bytes(std::span{&old, 1}));
    if (old.type != mshv::abi::messages::none) {
        const auto flags = static_cast<std::byte>(old.flags | message_pending);
        messages_.write(slot + offsetof(Message, flags), std::span{&flags, 1});
        return status::insufficient_buffers;
    }
    messages_.write(slot, std::as_bytes(std::span{&message, 1}));
    interrupt_by(sint);
    return status::success;
}

std::uint16_t Synic::signal(std::uint32_t sint, std::uint32_t flag, bool& is_new) {
    if (sint >= sint_.size() || flag >= flags_of_sint) {
        return status::invalid_parameter;
    }
    if (!is_on() || !event_flags_.is_enabled()) {
        return status::invalid_vp_state;
    }
    const std::size_t at = slot_size * sint + flag / 8;
    const std::byte bit{static_cast<std::uint8_t>(1U << flag % 8)};
    std::byte bits{};
    event_flags_.read(at, std::span{&bits, 1});
    is_new = (bits & bit) == std::byte{0};
    if (is_new) {
        bits |= bit;
        event_flags_.write(at, std::span{&bits, 1});
        interrupt_by(sint);
    }
    return status::success;
}

void Synic::interrupt_by(std::uint32_t sint) {
    if (interrupts(sint_[sint])) {
        interrupt(static_cast<std::uint8_t>(sint_[sint] & vector_mask));
    }
}

void Synic::interrupt(std::uint8_t vector) {
    hypervisor_.engine->assert_interrupt(
        {.type = mshv::abi::hypercalls::interrupt_type::fixed,
         .destination = index_,
         .vector = vector});
}

std::optional<std::uint64_t> Synic::settle() {
    const auto missing = messages_.settle();
    return missing ? missing : event_flags_.settle();
}

} // namespace wherry::vmm::mshvsim
