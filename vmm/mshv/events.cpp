// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/events.hpp"

namespace wherry::vmm::mshv {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

namespace interruption = abi::pending_interruption;
namespace event = abi::pending_event;

constexpr std::uint8_t mov_ss_shadow = 1;
constexpr std::uint8_t sti_shadow = 2;
constexpr std::uint8_t breakpoint = 3;
constexpr std::uint8_t overflow = 4;

std::uint64_t field(std::uint64_t value, unsigned shift, unsigned bits) {
    return (value >> shift) & ((std::uint64_t{1} << bits) - 1);
}

void add_interruption(std::uint64_t value, PendingEvents& events) {
    if ((value & interruption::pending) == 0) {
        return;
    }
    const auto vector = static_cast<std::uint8_t>(field(value, interruption::vector_shift, 8));
    switch (field(value, interruption::type_shift, 3)) {
    case interruption::type_nmi:
        events.nmi.injected = true;
        break;
    case interruption::type_interrupt:
    case interruption::type_software_interrupt:
        events.interrupt.injected = true;
        events.interrupt.vector = vector;
        events.interrupt.soft =
            field(value, interruption::type_shift, 3) == interruption::type_software_interrupt;
        break;
    default: // exceptions, those that instructions raise on purpose included
        events.exception.injected = true;
        events.exception.vector = vector;
        events.exception.has_error_code = (value & interruption::deliver_error_code) != 0;
        events.exception.error_code =
            static_cast<std::uint32_t>(field(value, interruption::error_code_shift, 32));
        break;
    }
}

std::uint64_t native_interruption(const PendingEvents& events) {
    const auto make = [](std::uint64_t type, std::uint64_t vector) {
        return interruption::pending | (type << interruption::type_shift) |
               (vector << interruption::vector_shift);
    };
    if (events.exception.injected) {
        const auto vector = events.exception.vector;
        const bool by_software = vector == breakpoint || vector == overflow;
        std::uint64_t value = make(
            by_software ? interruption::type_software_exception : interruption::type_exception,
            vector);
        if (by_software) { // INT3 and INTO have one byte; RIP is that of the instruction
            value |= std::uint64_t{1} << interruption::instruction_length_shift;
        }
        if (events.exception.has_error_code) {
            value |= interruption::deliver_error_code |
                     (std::uint64_t{events.exception.error_code} << interruption::error_code_shift);
        }
        return value;
    }
    if (events.nmi.injected) {
        return make(interruption::type_nmi, 2);
    }
    if (events.interrupt.injected) {
        if (!events.interrupt.soft) {
            return make(interruption::type_interrupt, events.interrupt.vector);
        }
        return make(interruption::type_software_interrupt, events.interrupt.vector) |
               (std::uint64_t{2} << interruption::instruction_length_shift); // INT n
    }
    return 0;
}

} // namespace

PendingEvents canonical_events(const EventRegisters& from, bool may_be_interrupted) noexcept {
    PendingEvents events;
    add_interruption(from.pending_interruption, events);
    if ((from.interrupt_state & abi::interrupt_state::shadow) != 0) {
        events.interrupt.shadow = may_be_interrupted ? sti_shadow : mov_ss_shadow;
    }
    events.nmi.masked = (from.interrupt_state & abi::interrupt_state::nmi_masked) != 0;
    const std::uint64_t pending = from.pending_event0.low;
    if ((pending & event::pending) != 0 && !events.exception.injected &&
        field(pending, event::type_shift, 3) == event::type_exception) {
        const auto vector = static_cast<std::uint8_t>(field(pending, event::vector_shift, 8));
        events.exception = {
            .vector = vector,
            .injected = false,
            .pending = true,
            .has_error_code = (pending & event::deliver_error_code) != 0,
            .has_payload = vector == x86::vector::page_fault || vector == x86::vector::debug,
            .error_code = static_cast<std::uint32_t>(field(pending, event::error_code_shift, 32)),
            .payload = from.pending_event0.high};
    }
    return events;
}

RunState canonical_run_state(const EventRegisters& from) noexcept {
    if ((from.internal_activity & abi::internal_activity::startup_suspend) != 0) {
        return RunState::init_received;
    }
    return (from.internal_activity & abi::internal_activity::halt_suspend) != 0
               ? RunState::halted
               : RunState::runnable;
}

Result<EventRegisters> native_events(const PendingEvents& events, RunState run_state) {
    if (events.smm) {
        return fail(ErrorCode::incompatible, "the vCPU is in system management mode");
    }
    if (events.triple_fault) {
        return fail(ErrorCode::incompatible, "a triple fault on its way: MSHV cannot hold it");
    }
    EventRegisters to;
    to.pending_interruption = native_interruption(events);
    to.interrupt_state = (events.interrupt.shadow != 0 ? abi::interrupt_state::shadow : 0) |
                         (events.nmi.masked ? abi::interrupt_state::nmi_masked : 0);
    if (events.exception.pending && !events.exception.injected) {
        x86::Exception exception{.vector = events.exception.vector};
        if (events.exception.has_error_code) {
            exception.error_code = events.exception.error_code;
        }
        exception.parameter = events.exception.has_payload ? events.exception.payload : 0;
        to.pending_event0 = native_exception(exception);
    }
    switch (run_state) {
    case RunState::runnable:
        break;
    case RunState::halted:
        to.internal_activity = abi::internal_activity::halt_suspend;
        break;
    case RunState::uninitialized:
    case RunState::init_received:
        to.internal_activity = abi::internal_activity::startup_suspend;
        break;
    case RunState::sipi_received:
        return fail(
            ErrorCode::incompatible,
            "a start-up interrupt that was received and not acted on: MSHV cannot hold it");
    }
    return to;
}

abi::RegisterValue native_exception(const x86::Exception& exception) noexcept {
    std::uint64_t value = event::pending | (event::type_exception << event::type_shift) |
                          (std::uint64_t{exception.vector} << event::vector_shift);
    if (exception.error_code) {
        value |= event::deliver_error_code |
                 (std::uint64_t{*exception.error_code} << event::error_code_shift);
    }
    return {.low = value, .high = exception.parameter};
}

} // namespace wherry::vmm::mshv
