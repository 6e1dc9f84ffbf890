// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/system.hpp"

#include "vmm/kvm/abi.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/ioctl.h>

namespace wherry::vmm::kvm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

struct Required {
    unsigned long number;
    std::string_view name;
};
constexpr std::array required{
    Required{KVM_CAP_SPLIT_IRQCHIP, "split interrupt controller"},
    Required{KVM_CAP_SIGNAL_MSI, "KVM_SIGNAL_MSI"},
    Required{KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
    Required{KVM_CAP_XSAVE, "XSAVE state"},
    Required{KVM_CAP_DEBUGREGS, "debug registers"},
    Required{KVM_CAP_VCPU_EVENTS, "vCPU events"},
    Required{KVM_CAP_MP_STATE, "multiprocessor state"},
    Required{KVM_CAP_ADJUST_CLOCK, "a settable clock"},
    Required{KVM_CAP_GET_TSC_KHZ, "the TSC frequency"},
};

void add_mtrrs(std::vector<std::uint32_t>& indices) {
    for (std::uint32_t variable = 0x200; variable <= 0x20f; ++variable) {
        indices.push_back(variable);
    }
    for (const std::uint32_t fixed : {0x250U, 0x258U, 0x259U}) {
        indices.push_back(fixed);
    }
    for (std::uint32_t fixed_4k = 0x268; fixed_4k <= 0x26f; ++fixed_4k) {
        indices.push_back(fixed_4k);
    }
    indices.push_back(0x2ff);
}

} // namespace

Result<int> call_untyped(int fd, unsigned long request, void* argument, std::string_view name) {
    const int answer = ::ioctl(fd, request, argument);
    if (answer < 0) {
        return fail(formats::system_error(errno, name));
    }
    return answer;
}

Result<int>
call_number(int fd, unsigned long request, std::uint64_t argument, std::string_view name) {
    const int answer = ::ioctl(fd, request, argument);
    if (answer < 0) {
        return fail(formats::system_error(errno, name));
    }
    return answer;
}

Result<System> System::open() {
    System system;
    system.fd_ = UniqueFd{::open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    if (!system.fd_.is_open()) {
        const int number = errno;
        auto error = formats::system_error(number, "opening /dev/kvm");
        if (number == EACCES || number == EPERM) {
            return fail(error.code(), error.text() + " (be in group kvm, or root)");
        }
        if (number == ENOENT || number == ENODEV || number == ENXIO) {
            return fail(
                ErrorCode::unsupported,
                error.text() + " (load kvm-intel or kvm-amd; in a VM, allow nesting)");
        }
        return fail(std::move(error));
    }
    const auto version = call_number(system.fd(), KVM_GET_API_VERSION, 0, "KVM_GET_API_VERSION");
    if (!version) {
        return fail(version.error());
    }
    if (*version != KVM_API_VERSION) {
        return fail(
            ErrorCode::unsupported,
            fmt::format("/dev/kvm speaks version {}, not {}", *version, KVM_API_VERSION));
    }
    for (const auto& feature : required) {
        if (system.extension(feature.number) <= 0) {
            return fail(
                ErrorCode::unsupported,
                fmt::format("this host's KVM has no {}: a newer kernel is needed", feature.name));
        }
    }
    const auto size = call_number(system.fd(), KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
    if (!size) {
        return fail(size.error());
    }
    system.run_area_size_ = static_cast<std::size_t>(*size);
    return system;
}

int System::extension(unsigned long number) const noexcept {
    return std::max(0, ::ioctl(fd_.get(), KVM_CHECK_EXTENSION, number));
}

Result<UniqueFd> System::create_vm() const {
    const auto vm = call_number(fd(), KVM_CREATE_VM, 0, "KVM_CREATE_VM");
    if (!vm) {
        return fail(vm.error());
    }
    return UniqueFd{*vm};
}

Result<std::vector<std::uint32_t>> System::msr_indices() const {
    abi::MsrIndexList list;
    list.count = static_cast<std::uint32_t>(list.indices.size());
    const auto got = call(fd(), abi::get_msr_index_list, &list, "KVM_GET_MSR_INDEX_LIST");
    if (!got) {
        return fail(got.error());
    }
    std::vector<std::uint32_t> indices{
        list.indices.begin(), std::next(list.indices.begin(), list.count)};
    add_mtrrs(indices);
    std::ranges::sort(indices);
    const auto twice = std::ranges::unique(indices);
    indices.erase(twice.begin(), twice.end());
    return indices;
}

} // namespace wherry::vmm::kvm
