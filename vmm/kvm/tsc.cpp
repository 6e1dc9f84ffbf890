// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/tsc.hpp"

#include "vmm/guest_clock.hpp"
#include "vmm/kvm/abi.hpp"
#include "vmm/kvm/msrs.hpp"
#include "vmm/kvm/system.hpp"

#include <array>
#include <span>

#include <fmt/format.h>

#include <sys/ioctl.h>

namespace wherry::vmm::kvm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

kvm_device_attr offset_attribute(std::uint64_t& offset) {
    kvm_device_attr attribute{};
    attribute.group = KVM_VCPU_TSC_CTRL;
    attribute.attr = KVM_VCPU_TSC_OFFSET;
    attribute.addr = reinterpret_cast<std::uintptr_t>(&offset);
    return attribute;
}

bool has_offset(int vcpu) {
    std::uint64_t offset = 0;
    const auto attribute = offset_attribute(offset);
    return ::ioctl(vcpu, KVM_HAS_DEVICE_ATTR, &attribute) == 0;
}

/// Guest ticks in a span of host ticks.
std::uint64_t scaled(std::uint64_t host_ticks, std::uint64_t guest_khz, std::uint64_t host_khz) {
    if (same_frequency(guest_khz, host_khz)) {
        return host_ticks;
    }
    const auto milliseconds = host_ticks / host_khz;
    const auto rest = host_ticks % host_khz;
    return milliseconds * guest_khz + rest * guest_khz / host_khz;
}

Result<std::uint64_t> read_offset(int vcpu) {
    std::uint64_t offset = 0;
    auto attribute = offset_attribute(offset);
    const auto got = call(vcpu, KVM_GET_DEVICE_ATTR, &attribute, "KVM_VCPU_TSC_OFFSET");
    if (!got) {
        return fail(got.error());
    }
    return offset;
}

bool uses_offset(int vcpu, std::uint64_t khz, const BackendCapabilities& host) {
    return has_offset(vcpu) && same_frequency(khz, host.tsc_frequency_khz);
}

/// The guest's TSC at the moment when the host's was `host_tsc`.
Result<std::uint64_t>
tsc_when(int vcpu, std::uint64_t host_tsc, std::uint64_t khz, const BackendCapabilities& host) {
    if (uses_offset(vcpu, khz, host)) {
        const auto offset = read_offset(vcpu);
        if (!offset) {
            return fail(offset.error());
        }
        return host_tsc + *offset;
    }
    const std::uint32_t index = msr_tsc;
    const auto now = read_msrs(vcpu, std::span{&index, 1});
    if (!now) {
        return fail(now.error());
    }
    if (now->msrs.empty()) {
        return fail(ErrorCode::unsupported, "this host's KVM does not tell a guest's TSC");
    }
    const std::uint64_t since = read_host_tsc() - host_tsc;
    return now->msrs.front().value - scaled(since, khz, host.tsc_frequency_khz);
}

Status set_tsc_when(
    int vcpu,
    std::uint64_t value,
    std::uint64_t host_tsc,
    std::uint64_t khz,
    const BackendCapabilities& host) {
    if (uses_offset(vcpu, khz, host)) {
        std::uint64_t offset = value - host_tsc;
        auto attribute = offset_attribute(offset);
        const auto set = call(vcpu, KVM_SET_DEVICE_ATTR, &attribute, "KVM_VCPU_TSC_OFFSET");
        return set ? Status{} : fail(set.error());
    }
    // Writes by the VMM within a second are taken as one by KVM, which keeps the vCPUs in step.
    const std::uint64_t since = read_host_tsc() - host_tsc;
    const std::array wanted{Msr{msr_tsc, value + scaled(since, khz, host.tsc_frequency_khz)}};
    return write_msrs(vcpu, wanted);
}

/// Some hosts (para-virtual ones, whose guests read the processor's own counter) take a TSC and
/// drop it. There a guest can go on only where the counter happens to be right: on the host that
/// it came from. `slack` is for the real-time clock, which the elapsed time is from.
Status verify(std::uint64_t wanted, std::uint64_t found, std::uint64_t least, std::uint64_t slack) {
    const std::uint64_t distance = found > wanted ? found - wanted : wanted - found;
    if (distance <= slack && found >= least) {
        return {};
    }
    return fail(
        ErrorCode::incompatible,
        fmt::format(
            "this host's KVM does not set a guest's TSC: it stays at {}, {} ticks from what it "
            "should be",
            found,
            distance));
}

Status restore_frequency(int vcpu, std::uint64_t khz, const BackendCapabilities& host) {
    if (khz == 0) {
        return {}; // the source could not tell; the host's own it is
    }
    if (!same_frequency(khz, host.tsc_frequency_khz) && !host.can_scale_tsc) {
        return fail(
            ErrorCode::incompatible,
            fmt::format(
                "the guest's TSC runs at {} kHz, this host's at {} kHz and cannot be scaled",
                khz,
                host.tsc_frequency_khz));
    }
    return set_tsc_frequency(vcpu, khz, host.tsc_frequency_khz);
}

} // namespace

Result<std::uint64_t> tsc_frequency(int vcpu) {
    const auto khz = call_number(vcpu, KVM_GET_TSC_KHZ, 0, "KVM_GET_TSC_KHZ");
    if (!khz) {
        return fail(khz.error());
    }
    return static_cast<std::uint64_t>(*khz);
}

Status set_tsc_frequency(int vcpu, std::uint64_t khz, std::uint64_t own_khz) {
    const auto set = call_number(vcpu, KVM_SET_TSC_KHZ, khz, "KVM_SET_TSC_KHZ");
    if (set) {
        return {};
    }
    if (khz == own_khz) {
        return fail(
            ErrorCode::unsupported,
            fmt::format(
                "this host's KVM refuses the TSC frequency that its vCPUs begin with, {} kHz ({}): "
                "the kernel has measured another since kvm was loaded; load kvm again (modprobe -r "
                "kvm_amd or kvm_intel, then kvm; then modprobe what you removed)",
                khz,
                set.error().text()));
    }
    return fail(
        ErrorCode::incompatible,
        fmt::format(
            "the guest's TSC runs at {} kHz, which this host's KVM refuses in place of its own "
            "{} kHz: {}",
            khz,
            own_khz,
            set.error().text()));
}

Result<TscReading> read_tsc(int vcpu, const Clock& clock, const BackendCapabilities& host) {
    const auto khz = tsc_frequency(vcpu);
    if (!khz) {
        return fail(khz.error());
    }
    TscReading reading{.khz = *khz};
    const auto value = tsc_when(vcpu, clock.saved_at(), reading.khz, host);
    if (!value) {
        return fail(value.error());
    }
    reading.value = *value;
    return reading;
}

Status
write_tsc(int vcpu, const TscReading& saved, const Clock& clock, const BackendCapabilities& host) {
    if (auto set = restore_frequency(vcpu, saved.khz, host); !set) {
        return set;
    }
    const std::uint64_t khz = saved.khz != 0 ? saved.khz : host.tsc_frequency_khz;
    const auto anchor = clock.anchor();
    const std::uint64_t passed_ticks = ticks_in(anchor.elapsed, khz);
    const std::uint64_t wanted = saved.value + passed_ticks;
    if (auto set = set_tsc_when(vcpu, wanted, anchor.host_tsc, khz, host); !set) {
        return set;
    }
    const auto found = tsc_when(vcpu, anchor.host_tsc, khz, host);
    if (!found) {
        return fail(found.error());
    }
    // Ten milliseconds, for small corrections of the real-time clock, and 500 ppm, its slew.
    return verify(wanted, *found, saved.value, 10 * khz + passed_ticks / 2000);
}

} // namespace wherry::vmm::kvm
