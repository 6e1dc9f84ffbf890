// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/vcpu.hpp"

#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/cpuid.hpp"
#include "vmm/mshv/lapic.hpp"
#include "vmm/mshv/vp_pages.hpp"

#include <cerrno>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

namespace ioctls = abi::ioctls;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

Result<Descriptor> take_vp(PartitionShared& shared, std::uint32_t index) {
    if (index == 0) {
        if (!shared.first_vp.is_open()) {
            return fail(ErrorCode::already_exists, "vCPU 0 exists already");
        }
        return std::move(shared.first_vp);
    }
    ioctls::CreateVp argument{.vp_index = index};
    return shared.partition.derive(ioctls::create_vp, &argument, "MSHV_CREATE_VP");
}

} // namespace

Result<std::unique_ptr<Vcpu>> MshvVcpu::create(PartitionShared& shared, std::uint32_t index) {
    if (index >= shared.vcpus) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("vCPU {} of a partition of {}", index, shared.vcpus));
    }
    auto vp = take_vp(shared, index);
    if (!vp) {
        return fail(std::move(vp.error()));
    }
    auto page = vp->map(ioctls::vp_mapping::register_page, "mapping the register page");
    if (!page) {
        return fail(std::move(page.error()));
    }
    auto vcpu = std::make_unique<MshvVcpu>(shared, index, std::move(*vp), std::move(*page));
    if (auto done = vcpu->set_up(); !done) {
        return fail(std::move(done.error()).during(fmt::format("vCPU {}", index)));
    }
    return vcpu;
}

MshvVcpu::MshvVcpu(PartitionShared& shared, std::uint32_t index, Descriptor vp, MappedPage page)
    : shared_{shared},
      index_{index},
      vp_{std::move(vp)},
      window_{std::move(page), registers_} {}

/// What firmware would have done: memory is write-back where no MTRR says otherwise, and the local
/// interrupt pins are wired.
Status MshvVcpu::set_up() {
    constexpr std::uint64_t enabled_write_back = 0x806;
    const NamedValue memory_type{
        abi::registers::mtrr_default_type, {.low = enabled_write_back, .high = 0}};
    const auto refused = registers_.write_accepted(std::span{&memory_type, 1});
    if (!refused) {
        return fail(refused.error()); // one without MTRRs has nothing to set up
    }
    if (!shared_.capabilities.has_interrupt_controller) {
        return {};
    }
    auto lapic = read_lapic(vp_);
    if (!lapic) {
        return fail(std::move(lapic.error()));
    }
    wire_local_interrupts(*lapic);
    return write_lapic(vp_, *lapic);
}

void MshvVcpu::kick() noexcept {
    kick_.request();
    shared_.missing.wake(); // it may wait for a page
}

Status MshvVcpu::set_cpuid(std::span<const CpuidEntry> cpuid) {
    return register_cpuid(vp_, index_, shared_.vcpus, cpuid, shared_.answered_cpuid);
}

Result<ExitReason> MshvVcpu::run_until_reason(ExitHandler& handler) {
    while (true) {
        if (kick_.take()) {
            return ExitReason::kicked;
        }
        // A signal that comes here, before the entry, is lost: the kick is repeated.
        abi::messages::Message message;
        const int result = vp_.raw(ioctls::run_vp, &message);
        if (result == -EINTR) {
            continue;
        }
        if (result < 0) {
            return fail(formats::system_error(-result, "MSHV_RUN_VP"));
        }
        auto served = serve(message, handler);
        if (!served) {
            return fail(std::move(served.error()));
        }
        if (*served) {
            return **served;
        }
    }
}

Result<ExitReason> MshvVcpu::run(ExitHandler& handler) {
    const Kick::Session session{kick_, nullptr};
    if (auto thawed = shared_.time.thaw(); !thawed) {
        return fail(std::move(thawed.error()));
    }
    auto reason = run_until_reason(handler);
    auto flushed = window_.flush();
    if (reason && !flushed) {
        reason = fail(std::move(flushed.error()));
    }
    if (!reason) {
        const auto rip = registers_.read(abi::registers::rip);
        return fail(std::move(reason.error())
                        .during(
                            rip ? fmt::format("vCPU {} at {:#x}", index_, rip->low)
                                : fmt::format("vCPU {}", index_)));
    }
    return reason;
}

} // namespace wherry::vmm::mshv
