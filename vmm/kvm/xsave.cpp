// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/xsave.hpp"

#include "vmm/kvm/abi.hpp"
#include "vmm/kvm/system.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <cpuid.h>

namespace wherry::vmm::kvm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {
constexpr std::size_t classic_size = 4096; // of struct kvm_xsave
constexpr std::size_t legacy_and_header = 576;
/// Software's, SDM vol. 1, 10.5.1.2: the kernel marks here what it has written.
constexpr std::size_t software_begin = 464;
constexpr std::size_t software_end = 512;
} // namespace

Result<std::vector<std::byte>> read_xsave(int vcpu, std::size_t size) {
    std::vector<std::byte> area(std::max(size, classic_size));
    const bool is_large = area.size() > classic_size;
    const auto got = call(
        vcpu,
        is_large ? abi::get_xsave2 : abi::get_xsave,
        area.data(),
        is_large ? "KVM_GET_XSAVE2" : "KVM_GET_XSAVE");
    if (!got) {
        return fail(got.error());
    }
    std::ranges::fill(
        std::span{area}.subspan(software_begin, software_end - software_begin), std::byte{0});
    // What is all zero at the end carries nothing: hosts with larger areas give the same state.
    const auto last = std::ranges::find_if(
        area.rbegin(), area.rend(), [](std::byte byte) { return byte != std::byte{0}; });
    const auto used = static_cast<std::size_t>(area.rend() - last);
    area.resize(std::max(legacy_and_header, (used + 63) / 64 * 64));
    // KVM says of PKRU that it is in use whenever the host has it; zero is its initial value.
    std::uint32_t size_of = 0;
    std::uint32_t begin = 0;
    std::uint32_t flags = 0;
    std::uint32_t reserved = 0;
    if (__get_cpuid_count(0xd, 9, &size_of, &begin, &flags, &reserved) != 0 && begin >= used) {
        area[512 + 1] &= ~std::byte{2}; // bit 9 of XSTATE_BV
    }
    return area;
}

Status write_xsave(int vcpu, std::span<const std::byte> area, std::size_t size) {
    std::vector<std::byte> host(std::max(size, classic_size));
    const auto beyond = area.subspan(std::min(area.size(), host.size()));
    if (area.size() < legacy_and_header ||
        std::ranges::any_of(beyond, [](std::byte byte) { return byte != std::byte{0}; })) {
        return fail(
            ErrorCode::incompatible,
            fmt::format(
                "an XSAVE area of {} bytes does not fit this host's of {}",
                area.size(),
                host.size()));
    }
    std::ranges::copy(area.first(area.size() - beyond.size()), host.begin());
    const auto set = call(vcpu, abi::set_xsave, host.data(), "KVM_SET_XSAVE");
    return set ? Status{} : fail(set.error());
}

} // namespace wherry::vmm::kvm
