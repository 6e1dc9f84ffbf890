// SPDX-License-Identifier: Apache-2.0
#include "vmm/vcpu_state.hpp"

#include <algorithm>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace wherry::vmm {
namespace {

constexpr std::uint64_t sint_masked = 1U << 16U;
constexpr std::uint64_t enabled = 1;

/// A SINT in its reset state (masked, no vector) or all zero.
bool is_unused(std::uint64_t sint) {
    return (sint & ~sint_masked) == 0;
}

bool has_content(const std::vector<std::byte>& bytes) {
    return std::ranges::any_of(bytes, [](std::byte byte) { return byte != std::byte{0}; });
}

/// What of it only the Microsoft hypervisor can hold; empty: nothing.
std::string beyond_other_hypervisors(const HyperVState& state) {
    std::string names;
    const auto add = [&names](bool is_used, std::string_view name) {
        if (is_used) {
            names += names.empty() ? "" : ", ";
            names += name;
        }
    };
    add(!std::ranges::all_of(state.sint, is_unused) || ((state.siefp | state.simp) & enabled) != 0,
        "the synthetic interrupt controller");
    add(has_content(state.timers), "synthetic timers");
    add((state.vp_assist_page & enabled) != 0, "the VP assist page");
    add(state.guest_os_id != 0, "the guest's identity");
    add((state.hypercall & enabled) != 0, "the hypercall page");
    add((state.reference_tsc & enabled) != 0, "the reference TSC page");
    add((state.pending_event1[0] & enabled) != 0, "a pending event of the hypervisor");
    add((state.interrupt_vectors & 0xffU) != 0, "interrupts that no APIC has taken up");
    return names;
}

} // namespace

formats::Status refuse_beyond(const VcpuState& state, std::string_view backend) {
    const auto names = state.hyperv ? beyond_other_hypervisors(*state.hyperv) : std::string{};
    if (names.empty()) {
        return {};
    }
    return formats::fail(
        formats::ErrorCode::incompatible,
        fmt::format("the guest uses {} of the Microsoft hypervisor: {} has none", names, backend));
}

} // namespace wherry::vmm
