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
/// PKRU is component 9, SDM vol. 1, 13.1; its mark is in the second byte of XSTATE_BV.
constexpr unsigned pkru = 9;
constexpr std::size_t pkru_mark_at = 512 + pkru / 8;
constexpr std::byte pkru_mark{1U << pkru % 8};

/// Where this host's areas have it, SDM vol. 1, 13.5; 0 where they have none.
std::size_t pkru_begin() {
    static const std::size_t begin = [] {
        std::uint32_t size = 0;
        std::uint32_t offset = 0;
        std::uint32_t flags = 0;
        std::uint32_t reserved = 0;
        const int known = __get_cpuid_count(0xd, pkru, &size, &offset, &flags, &reserved);
        return known != 0 ? offset : 0U;
    }();
    return begin;
}
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
    if (pkru_begin() >= used) {
        area[pkru_mark_at] &= ~pkru_mark;
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
