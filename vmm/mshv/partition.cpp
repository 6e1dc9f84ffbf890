// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/partition.hpp"

#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshv/bring_up.hpp"
#include "vmm/mshv/vcpu.hpp"

#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

namespace ioctls = abi::ioctls;
namespace hypercalls = abi::hypercalls;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

/// The fields of a message-signalled interrupt (SDM vol. 3, 10.11).
hypercalls::AssertVirtualInterrupt decode(const MsiMessage& message) {
    const auto bit = [](std::uint64_t value, unsigned number) {
        return ((value >> number) & 1U) != 0;
    };
    std::uint64_t control = (message.data >> 8U) & 7U;
    control |= bit(message.data, 15) ? hypercalls::interrupt_control::level_triggered : 0;
    control |= bit(message.address, 2) ? hypercalls::interrupt_control::logical_destination : 0;
    return {
        .control = control,
        .destination = (message.address >> 12U) & 0xffU,
        .vector = message.data & 0xffU};
}

} // namespace

Result<std::unique_ptr<Partition>> MshvPartition::open(
    std::unique_ptr<Syscalls> syscalls, std::string name, const PartitionOptions& options) {
    auto shared = bring_up(std::move(syscalls), std::move(name), options);
    if (!shared) {
        return fail(std::move(shared.error()));
    }
    return std::make_unique<MshvPartition>(std::move(*shared));
}

MshvPartition::MshvPartition(std::unique_ptr<PartitionShared> shared)
    : shared_{std::move(shared)},
      dirty_log_{shared_->partition} {}

const BackendCapabilities& MshvPartition::capabilities() const noexcept {
    return shared_->capabilities;
}

Status MshvPartition::map_memory(GuestMemory& memory) {
    if (shared_->memory != nullptr) {
        return fail(ErrorCode::wrong_state, "the partition's memory is mapped already");
    }
    // A mapping goes only whole: where it has to, for the sake of missing pages, little should. One
    // that is not pinned never has to.
    constexpr formats::PageCount pinned_piece{(std::uint64_t{64} << 20U) / formats::page_size};
    const formats::PageCount all = formats::pages_for(memory.size());
    const auto mapped =
        shared_->guest_map.map_all(memory, shared_->kernel_pins ? pinned_piece : all);
    if (!mapped) {
        return mapped;
    }
    shared_->memory = &memory;
    dirty_log_.cover(memory.regions());
    return {};
}

Result<std::unique_ptr<Vcpu>> MshvPartition::create_vcpu(std::uint32_t index) {
    return MshvVcpu::create(*shared_, index);
}

Status MshvPartition::signal(const MsiMessage& message) {
    const auto input = decode(message);
    const auto outcome = shared_->partition.try_hypercall(
        {.name = {},
         .code = hypercalls::assert_virtual_interrupt,
         .input = &input,
         .input_size = sizeof(input)});
    // No local APIC of that id, or no such vector: on hardware the message would be lost as
    // silently.
    if (outcome.error == 0 || outcome.status == abi::status::invalid_parameter ||
        outcome.status == abi::status::invalid_vp_index) {
        return {};
    }
    return fail(hypercall_error("HvAssertVirtualInterrupt", outcome));
}

/// The kernel uses the table for irqfds; which vectors end with a message to us follows from the
/// trigger mode with which they were asserted.
Status MshvPartition::route_pins(std::span<const MsiMessage> pins) {
    std::vector<ioctls::IrqTableEntry> entries;
    for (std::size_t pin = 0; pin < pins.size(); ++pin) {
        if (pins[pin].address != 0) { // a masked pin sends nothing
            entries.push_back(
                {.gsi = static_cast<std::uint32_t>(pin),
                 .address_low = static_cast<std::uint32_t>(pins[pin].address),
                 .address_high = static_cast<std::uint32_t>(pins[pin].address >> 32U),
                 .data = pins[pin].data});
        }
    }
    const ioctls::IrqTableHeader header{.count = static_cast<std::uint32_t>(entries.size())};
    std::vector<std::byte> table(sizeof(header) + std::span{entries}.size_bytes());
    std::memcpy(table.data(), &header, sizeof(header));
    if (!entries.empty()) {
        std::memcpy(&table[sizeof(header)], entries.data(), std::span{entries}.size_bytes());
    }
    const auto set =
        shared_->partition.call(ioctls::set_msi_routing, table.data(), "MSHV_SET_MSI_ROUTING");
    return set ? Status{} : fail(set.error());
}

namespace {

Status
set_interrupt(const Descriptor& partition, int event, std::uint32_t pin, std::uint32_t flags) {
    ioctls::Irqfd argument{.fd = event, .resample_fd = -1, .gsi = pin, .flags = flags};
    const auto set = partition.call(ioctls::irqfd, &argument, "MSHV_IRQFD");
    return set ? Status{} : fail(set.error());
}

Status set_doorbell(
    const Descriptor& partition, int event, const Doorbell& doorbell, std::uint32_t flags) {
    ioctls::Ioeventfd argument{
        .data_match = doorbell.value.value_or(0),
        .address = doorbell.at.value(),
        .length = doorbell.length,
        .fd = event,
        .flags = flags | (doorbell.value ? ioctls::ioeventfd_flags::data_match : 0)};
    const auto set = partition.call(ioctls::ioeventfd, &argument, "MSHV_IOEVENTFD");
    return set ? Status{} : fail(set.error());
}

} // namespace

Status MshvPartition::bind_interrupt(int event, std::uint32_t pin) {
    if (!shared_->capabilities.has_interrupt_controller) {
        return Partition::bind_interrupt(event, pin);
    }
    return set_interrupt(shared_->partition, event, pin, 0);
}
Status MshvPartition::release_interrupt(int event, std::uint32_t pin) {
    return set_interrupt(shared_->partition, event, pin, ioctls::irqfd_flags::deassign);
}
Status MshvPartition::bind_doorbell(int event, const Doorbell& doorbell) {
    return set_doorbell(shared_->partition, event, doorbell, 0);
}
Status MshvPartition::release_doorbell(int event, const Doorbell& doorbell) {
    return set_doorbell(shared_->partition, event, doorbell, ioctls::ioeventfd_flags::deassign);
}

Status MshvPartition::start_dirty_log() {
    return dirty_log_.start();
}
Status MshvPartition::stop_dirty_log() {
    return dirty_log_.stop();
}
Status MshvPartition::fetch_dirty_log(formats::PageRange region, std::span<std::uint64_t> bitmap) {
    return dirty_log_.fetch(region, bitmap);
}
Result<std::unique_ptr<FaultSource>> MshvPartition::make_fault_source(GuestMemory& memory) {
    return WindowSource::open(memory, shared_->guest_map, shared_->missing, shared_->kernel_pins);
}
Result<PartitionClock> MshvPartition::save_clock() {
    return shared_->time.save();
}
Status MshvPartition::restore_clock(const PartitionClock& clock) {
    return shared_->time.restore(clock);
}

} // namespace wherry::vmm::mshv
