// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/partition.hpp"

#include "vmm/guest_clock.hpp"
#include "vmm/soft/cpuid.hpp"
#include "vmm/soft/tsc_frequency.hpp"
#include "vmm/soft/vcpu.hpp"
#include "vmm/soft/version.hpp"
#include "vmm/userfault.hpp"

#include <string>

#include <time.h>

namespace wherry::vmm::soft {

using formats::ErrorCode;
using formats::Result;
using formats::Status;
using std::chrono::nanoseconds;

namespace {

nanoseconds monotonic_time() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return std::chrono::seconds{now.tv_sec} + nanoseconds{now.tv_nsec};
}

std::unexpected<formats::Error> without_interrupts() {
    return formats::fail(
        ErrorCode::unsupported,
        "the soft backend has no interrupt controller; a guest that needs interrupts runs on kvm");
}

Status without_memory() {
    return formats::fail(ErrorCode::wrong_state, "a dirty log needs the partition's memory");
}

} // namespace

SoftPartition::SoftPartition(HiddenState hidden, BackendCapabilities capabilities)
    : hidden_{hidden},
      capabilities_{std::move(capabilities)},
      reference_offset_{-monotonic_time()} {}

Result<std::unique_ptr<Partition>> SoftPartition::open(const PartitionOptions& options) {
    if (options.vcpus != 1) {
        return formats::fail(
            ErrorCode::unsupported,
            "the soft backend has one vCPU, not " + std::to_string(options.vcpus) +
                "; more need kvm (--hypervisor kvm)");
    }
    if (auto version = check_version(); !version) {
        return std::unexpected{std::move(version).error()};
    }
    auto hidden = HiddenState::discover();
    if (!hidden) {
        return std::unexpected{std::move(hidden).error()};
    }
    const std::uint64_t khz = host_tsc_frequency_khz();
    auto cpuid = offered_cpuid(khz);
    if (!cpuid) {
        return std::unexpected{std::move(cpuid).error()};
    }
    BackendCapabilities capabilities{
        .name = "soft",
        .max_vcpus = 1,
        .has_interrupt_controller = false,
        .has_dirty_log = !host_logs_writes(),
        .can_scale_tsc = false,
        .tsc_frequency_khz = khz,
        .postcopy_obstacle = {},
        .cpuid = std::move(*cpuid)};
    if (const auto userfault = Userfault::check(); !userfault) {
        capabilities.postcopy_obstacle = userfault.error().text();
    }
    return std::unique_ptr<Partition>{new SoftPartition{*hidden, std::move(capabilities)}};
}

Status SoftPartition::map_memory(GuestMemory& memory) {
    if (memory_ != nullptr) {
        return formats::fail(ErrorCode::wrong_state, "the partition has its memory already");
    }
    memory_ = &memory;
    log_ = std::make_unique<WriteLog>(memory);
    return {};
}

Result<std::unique_ptr<Vcpu>> SoftPartition::create_vcpu(std::uint32_t index) {
    if (index != 0 || memory_ == nullptr) {
        return formats::fail(
            index != 0 ? ErrorCode::unsupported : ErrorCode::wrong_state,
            index != 0 ? "the soft backend has vCPU 0 only; more need kvm"
                       : "a vCPU needs the partition's memory first");
    }
    auto vcpu = SoftVcpu::create(
        {.memory = *memory_, .hidden = hidden_, .capabilities = capabilities_, .clock = moments_});
    if (!vcpu) {
        return std::unexpected{std::move(vcpu).error()};
    }
    return std::unique_ptr<Vcpu>{std::move(*vcpu)};
}

Status SoftPartition::signal(const MsiMessage& /*message*/) {
    return without_interrupts();
}

Status SoftPartition::route_pins(std::span<const MsiMessage> /*pins*/) {
    return without_interrupts();
}

Status SoftPartition::start_dirty_log() {
    return log_ ? log_->start() : without_memory();
}

Status SoftPartition::stop_dirty_log() {
    return log_ ? log_->stop() : without_memory();
}

Status SoftPartition::fetch_dirty_log(formats::PageRange region, std::span<std::uint64_t> bitmap) {
    return log_ ? log_->fetch(region, bitmap) : without_memory();
}

Result<PartitionClock> SoftPartition::save_clock() {
    const HostMoment now = read_host_moment();
    moments_.read_at_tsc = now.tsc;
    return PartitionClock{
        .reference_time = monotonic_time() + reference_offset_, .host_real_time = now.real_time};
}

Status SoftPartition::restore_clock(const PartitionClock& clock) {
    const HostMoment now = read_host_moment();
    const nanoseconds elapsed = passed(clock.host_real_time, now.real_time);
    moments_.written = {.host_tsc = now.tsc, .elapsed = elapsed};
    reference_offset_ = clock.reference_time + elapsed - monotonic_time();
    return {};
}

} // namespace wherry::vmm::soft
