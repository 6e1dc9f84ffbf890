// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/run_area.hpp"

#include <algorithm>
#include <cerrno>
#include <span>
#include <string>
#include <utility>

#include <fmt/format.h>

#include <sys/mman.h>

namespace wherry::vmm::kvm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

using Outcome = Result<std::optional<ExitReason>>;
const std::optional<ExitReason> go_on = std::nullopt;

std::string details(const kvm_run& area) {
    std::string text;
    const std::uint32_t count = std::min<std::uint32_t>(area.internal.ndata, 16);
    for (std::uint32_t i = 0; i < count; ++i) {
        text += fmt::format("{}{:#x}", i == 0 ? ", data " : " ", area.internal.data[i]);
    }
    return text;
}

const char* name_of_internal_error(std::uint32_t suberror) {
    switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        return "an instruction it cannot emulate";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
        return "an exception while delivering an exception";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        return "an exit while delivering an event";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
        return "an exit of an unknown kind";
    default:
        return "an internal error";
    }
}

} // namespace

Result<RunArea> RunArea::map(int vcpu, std::size_t size) {
    void* const mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (mapped == MAP_FAILED) {
        return fail(formats::system_error(errno, "mapping a vCPU's run area"));
    }
    return RunArea{static_cast<kvm_run*>(mapped), size};
}

RunArea::RunArea(RunArea&& other) noexcept
    : area_{std::exchange(other.area_, nullptr)},
      size_{other.size_} {}

RunArea::~RunArea() {
    if (area_ != nullptr) {
        ::munmap(area_, size_);
    }
}

volatile std::uint8_t* RunArea::immediate_exit() const noexcept {
    return &area_->immediate_exit;
}

bool RunArea::is_completed_by_entry() const noexcept {
    return area_->exit_reason == KVM_EXIT_IO || area_->exit_reason == KVM_EXIT_MMIO;
}

void RunArea::serve_port(ExitHandler& handler) {
    const auto& exit = area_->io;
    // The data of a string instruction: `count` items, one after the other.
    auto* const first = reinterpret_cast<std::byte*>(area_) + exit.data_offset;
    for (std::uint32_t i = 0; i < exit.count; ++i) {
        const std::span item{first + std::size_t{i} * exit.size, exit.size};
        if (exit.direction == KVM_EXIT_IO_IN) {
            handler.port_read(exit.port, item);
        } else {
            handler.port_write(exit.port, item);
        }
    }
}

void RunArea::serve_memory(ExitHandler& handler) {
    auto& exit = area_->mmio;
    const auto length = std::min<std::size_t>(exit.len, sizeof(exit.data));
    const auto data = std::as_writable_bytes(std::span{exit.data}).first(length);
    const formats::Gpa at{exit.phys_addr};
    if (exit.is_write != 0) {
        handler.memory_write(at, data);
    } else {
        handler.memory_read(at, data);
    }
}

Outcome RunArea::serve_system_event() {
    switch (area_->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        return ExitReason::shut_down;
    case KVM_SYSTEM_EVENT_RESET:
        return ExitReason::system_reset;
    case KVM_SYSTEM_EVENT_CRASH:
        return fail(ErrorCode::guest, "the guest told the hypervisor that it crashed");
    default:
        return fail(
            ErrorCode::unsupported,
            fmt::format("KVM reports system event {}", area_->system_event.type));
    }
}

Outcome RunArea::serve(ExitHandler& handler) {
    switch (area_->exit_reason) {
    case KVM_EXIT_IO:
        serve_port(handler);
        return go_on;
    case KVM_EXIT_MMIO:
        serve_memory(handler);
        return go_on;
    case KVM_EXIT_IOAPIC_EOI:
        handler.end_of_interrupt(area_->eoi.vector);
        return go_on;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
        return go_on;
    case KVM_EXIT_HLT:
        return ExitReason::halted;
    case KVM_EXIT_SHUTDOWN:
        return ExitReason::shut_down;
    case KVM_EXIT_SYSTEM_EVENT:
        return serve_system_event();
    case KVM_EXIT_FAIL_ENTRY:
        return fail(
            ErrorCode::guest,
            fmt::format(
                "the processor refused to enter the guest, reason {:#x}",
                area_->fail_entry.hardware_entry_failure_reason));
    case KVM_EXIT_INTERNAL_ERROR:
        return fail(
            ErrorCode::guest,
            fmt::format(
                "KVM met {} (suberror {}{})",
                name_of_internal_error(area_->internal.suberror),
                area_->internal.suberror,
                details(*area_)));
    case KVM_EXIT_UNKNOWN:
        return fail(
            ErrorCode::guest,
            fmt::format("KVM met hardware exit {:#x}", area_->hw.hardware_exit_reason));
    default:
        return fail(
            ErrorCode::unsupported,
            fmt::format("KVM left the guest with reason {}", area_->exit_reason));
    }
}

} // namespace wherry::vmm::kvm
