// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/msrs.hpp"

#include "vmm/mshv/abi/register_names.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

namespace names = abi::registers;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

struct KnownMsr {
    std::uint32_t index;
    std::uint32_t name;
};

constexpr std::size_t mtrr_pairs = 8; // what MTRR_CAP of the hypervisor says
constexpr auto single_msrs = std::to_array<KnownMsr>({
    {0x3b, names::tsc_adjust},
    {0x48, names::spec_control},
    {0x174, names::sysenter_cs},
    {0x175, names::sysenter_esp},
    {0x176, names::sysenter_eip},
    {0x1d9, names::debug_control},
    {0x250, names::mtrr_fix64k_00000},
    {0x258, names::mtrr_fix16k_80000},
    {0x259, names::mtrr_fix16k_a0000},
    {0x268, names::mtrr_fix4k_c0000},
    {0x269, names::mtrr_fix4k_c8000},
    {0x26a, names::mtrr_fix4k_d0000},
    {0x26b, names::mtrr_fix4k_d8000},
    {0x26c, names::mtrr_fix4k_e0000},
    {0x26d, names::mtrr_fix4k_e8000},
    {0x26e, names::mtrr_fix4k_f0000},
    {0x26f, names::mtrr_fix4k_f8000},
    {0x277, names::pat},
    {0x2ff, names::mtrr_default_type},
    {0x6a0, names::u_cet},
    {0x6a2, names::s_cet},
    {0x6a4, names::pl0_ssp},
    {0x6a5, names::pl1_ssp},
    {0x6a6, names::pl2_ssp},
    {0x6a7, names::pl3_ssp},
    {0x6a8, names::interrupt_ssp_table},
    {0xd90, names::bndcfgs},
    {0xda0, names::u_xss},
    {0xc0000081, names::star},
    {0xc0000082, names::lstar},
    {0xc0000083, names::cstar},
    {0xc0000084, names::sfmask},
    {0xc0000102, names::kernel_gs_base},
    {0xc0000103, names::tsc_aux},
    // The shadow stack pointer is no MSR; rust-vmm has this number for it, and so have we.
    {0x7a0, names::ssp},
});

constexpr std::size_t msr_count = single_msrs.size() + 2 * mtrr_pairs;
constexpr std::array<KnownMsr, msr_count> make_known() {
    std::array<KnownMsr, msr_count> all{};
    std::ranges::copy(single_msrs, all.begin());
    for (std::uint32_t pair = 0; pair < mtrr_pairs; ++pair) {
        const std::size_t at = single_msrs.size() + 2 * pair;
        all[at] = {0x200 + 2 * pair, names::mtrr_physical_base0 + pair};
        all[at + 1] = {0x201 + 2 * pair, names::mtrr_physical_mask0 + pair};
    }
    return all;
}
constexpr auto known_msrs = make_known();

/// Those of other hypervisors' lists that describe the host, or are in other parts of the state:
/// TSC, APIC base, microcode revision, platform information, SMBASE, MTRR and machine check
/// capabilities, architectural capabilities, MISC_ENABLE, power control, VMX capabilities,
/// performance capabilities, EFER, segment bases, AMD decode configuration.
bool is_told_elsewhere(std::uint32_t index) {
    constexpr auto others = std::to_array<std::uint32_t>(
        {0x10,  0x1b,       0x3a,       0x8b,       0x9e,       0xce,       0xfe,      0x10a,
         0x179, 0x17a,      0x17b,      0x1a0,      0x1fc,      0x345,      0x400,     0xcd,
         0x140, 0xc0000080, 0xc0000100, 0xc0000101, 0xc0010015, 0xc0011029, 0xc001001f});
    return std::ranges::find(others, index) != others.end() || (index >= 0x480 && index <= 0x493);
}

Status refuse(const Msr& msr) {
    return fail(
        ErrorCode::incompatible,
        fmt::format("this host's MSHV does not take MSR {:#x} = {:#x}", msr.index, msr.value));
}

Status judge_refusal(const VpRegisters& registers, const NamedValue& refused) {
    if (refused.value.low == 0) {
        return {};
    }
    const auto present = registers.read_present(std::span{&refused.name, 1});
    if (!present) {
        return fail(present.error());
    }
    if (!present->empty() && present->front().value == refused.value) {
        return {};
    }
    const auto known = std::ranges::find(known_msrs, refused.name, &KnownMsr::name);
    return refuse({.index = known->index, .value = refused.value.low});
}

} // namespace

std::optional<std::uint32_t> register_of_msr(std::uint32_t index) noexcept {
    const auto known = std::ranges::find(known_msrs, index, &KnownMsr::index);
    return known == known_msrs.end() ? std::nullopt : std::optional{known->name};
}

Result<std::vector<Msr>> read_msrs(const VpRegisters& registers) {
    std::array<std::uint32_t, msr_count> wanted{};
    std::ranges::transform(known_msrs, wanted.begin(), &KnownMsr::name);
    const auto present = registers.read_present(wanted);
    if (!present) {
        return fail(present.error());
    }
    std::vector<Msr> msrs;
    for (const auto& [name, value] : *present) {
        const auto known = std::ranges::find(known_msrs, name, &KnownMsr::name);
        msrs.push_back({.index = known->index, .value = value.low});
    }
    std::ranges::sort(msrs, {}, &Msr::index);
    return msrs;
}

Status write_msrs(const VpRegisters& registers, std::span<const Msr> msrs) {
    std::vector<NamedValue> values;
    for (const auto& msr : msrs) {
        if (const auto name = register_of_msr(msr.index)) {
            values.push_back({*name, {.low = msr.value, .high = 0}});
        } else if (msr.value != 0 && !is_told_elsewhere(msr.index)) {
            return refuse(msr);
        }
    }
    const auto refused = registers.write_accepted(values);
    if (!refused) {
        return fail(refused.error());
    }
    for (const auto& one : *refused) {
        if (auto judged = judge_refusal(registers, one); !judged) {
            return judged;
        }
    }
    return {};
}

} // namespace wherry::vmm::mshv
