// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu.hpp"

#include "vmm/cpu_profile.hpp"
#include "vmm/kvm/abi.hpp"
#include "vmm/kvm/cpuid.hpp"
#include "vmm/kvm/system.hpp"

#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include <sys/ioctl.h>

namespace wherry::vmm::kvm {

using formats::Error;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {
constexpr std::string_view kvm_signature = "KVMKVMKVM";
} // namespace

Result<std::unique_ptr<Vcpu>> KvmVcpu::create(PartitionShared& shared, std::uint32_t index) {
    if (index >= shared.vcpus) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("vCPU {} of a partition of {}", index, shared.vcpus));
    }
    const auto created = call_number(shared.vm.get(), KVM_CREATE_VCPU, index, "KVM_CREATE_VCPU");
    if (!created) {
        return fail(created.error());
    }
    UniqueFd fd{*created};
    auto area = RunArea::map(fd.get(), shared.system.run_area_size());
    if (!area) {
        return fail(std::move(area.error()));
    }
    return std::make_unique<KvmVcpu>(shared, index, std::move(fd), std::move(*area));
}

KvmVcpu::KvmVcpu(PartitionShared& shared, std::uint32_t index, UniqueFd fd, RunArea area)
    : shared_{shared},
      index_{index},
      fd_{std::move(fd)},
      area_{std::move(area)} {}

void KvmVcpu::kick() noexcept {
    kick_.request();
}

std::span<const std::uint32_t> KvmVcpu::unreadable_msrs() const noexcept {
    return unreadable_msrs_;
}

/// A guest that does not know KVM gets #GP where it tries KVM's MSRs all the same: else it would
/// have state that no other hypervisor keeps. Kernels before 5.10 cannot refuse them; such state is
/// then saved, and refused by name elsewhere.
Status KvmVcpu::hide_interface() const {
    kvm_enable_cap enforce{};
    enforce.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID;
    enforce.args[0] = 1;
    if (shared_.system.extension(KVM_CAP_ENFORCE_PV_FEATURE_CPUID) <= 0) {
        return {};
    }
    const auto done = call(fd_.get(), KVM_ENABLE_CAP, &enforce, "KVM_CAP_ENFORCE_PV_FEATURE_CPUID");
    return done ? Status{} : fail(done.error());
}

Status KvmVcpu::set_cpuid(std::span<const CpuidEntry> cpuid) {
    if (hypervisor_signature(cpuid) != kvm_signature) {
        if (auto hidden = hide_interface(); !hidden) {
            return hidden;
        }
    }
    const auto entries = cpuid_of_vcpu(cpuid, index_, shared_.vcpus);
    abi::CpuidTable table;
    if (entries.size() > table.entries.size()) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("{} CPUID leaves are too many", entries.size()));
    }
    for (const auto& from : entries) {
        auto& to = table.entries[table.count++];
        to.function = from.leaf;
        to.index = from.subleaf;
        to.flags = from.subleaf_is_significant ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0U;
        to.eax = from.eax;
        to.ebx = from.ebx;
        to.ecx = from.ecx;
        to.edx = from.edx;
    }
    const auto set = call(fd_.get(), abi::set_cpuid2, &table, "KVM_SET_CPUID2");
    return set ? Status{} : fail(set.error());
}

/// Tells a guest that uses kvmclock that it stood still, so that its watchdogs do not complain.
/// Any failure means that it does not use it.
void KvmVcpu::announce_pause() const noexcept {
    std::ignore = ::ioctl(fd_.get(), KVM_KVMCLOCK_CTRL, 0);
}

Error KvmVcpu::with_place(Error error) const {
    kvm_regs registers{};
    const auto got =
        call(fd_.get(), static_cast<unsigned long>(KVM_GET_REGS), &registers, "KVM_GET_REGS");
    return std::move(error).during(
        got ? fmt::format("vCPU {} at {:#x}", index_, registers.rip)
            : fmt::format("vCPU {}", index_));
}

/// An I/O exit is finished by the next entry: enter with immediate_exit raised, which finishes it
/// and comes back before the guest runs. Some (string I/O, MMIO across pages) then want more.
Result<ExitReason> KvmVcpu::finish_pending(ExitHandler& handler, ExitReason reason) {
    while (area_.is_completed_by_entry()) {
        *area_.immediate_exit() = 1;
        if (::ioctl(fd_.get(), KVM_RUN, 0) < 0) {
            const int number = errno;
            if (number == EINTR || number == EAGAIN) {
                break;
            }
            return fail(with_place(formats::system_error(number, "KVM_RUN")));
        }
        auto served = area_.serve(handler);
        if (!served) {
            return fail(with_place(std::move(served.error())));
        }
        if (*served) {
            return **served;
        }
    }
    return reason;
}

Result<ExitReason> KvmVcpu::run_until_reason(ExitHandler& handler) {
    while (true) {
        // Lowered before the look at the mark: a kick after the look raises it again.
        *area_.immediate_exit() = 0;
        if (kick_.take()) {
            return finish_pending(handler, ExitReason::kicked);
        }
        if (::ioctl(fd_.get(), KVM_RUN, 0) < 0) {
            const int number = errno;
            if (number == EINTR || number == EAGAIN) {
                continue; // a signal, or a vCPU that was woken while it waits for its start-up
            }
            return fail(with_place(formats::system_error(number, "KVM_RUN")));
        }
        auto served = area_.serve(handler);
        if (!served) {
            return fail(with_place(std::move(served.error())));
        }
        if (*served) {
            return **served;
        }
    }
}

Result<ExitReason> KvmVcpu::run(ExitHandler& handler) {
    const Kick::Session session{kick_, area_.immediate_exit()};
    if (std::exchange(was_paused_, false)) {
        announce_pause();
    }
    auto reason = run_until_reason(handler);
    was_paused_ = true;
    return reason;
}

} // namespace wherry::vmm::kvm
