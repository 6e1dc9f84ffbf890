// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/cpuid.hpp"

#include "vmm/cpu_profile.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace wherry::vmm::soft {

using formats::ErrorCode;
using formats::Result;
using formats::Status;

namespace {

constexpr std::uint32_t extended_leaves = 0x80000000;
constexpr std::uint32_t hypervisor_leaf = 0x40000000;
constexpr std::uint32_t timing_leaf = 0x40000010;
// Leaf 1, EDX as it should be: Unicorn overwrites QEMU's feature words with ones that leave most of
// x86-64 out and name sets it does not have. FPU, DE, PSE, TSC, MSR, PAE, CX8, MTRR, PGE, CMOV,
// CLFLUSH, FXSR, SSE, SSE2: it executes these without asking the words.
constexpr std::uint32_t basic_features = 1U << 0U | 1U << 2U | 1U << 3U | 1U << 4U | 1U << 5U |
                                         1U << 6U | 1U << 8U | 1U << 12U | 1U << 13U | 1U << 15U |
                                         1U << 19U | 1U << 24U | 1U << 25U | 1U << 26U;
// Leaf 0x80000001: 3DNOW in EDX, SKINIT in ECX, which mean nothing to a guest here.
constexpr std::uint32_t feature_3dnow = 1U << 31U;
constexpr std::uint32_t feature_skinit = 1U << 12U;
constexpr std::uint32_t hypervisor_present = 1U << 31U;

bool has_subleaves(std::uint32_t leaf) {
    return leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd;
}

class CpuidReader {
public:
    static Result<CpuidReader> open() {
        auto engine = Engine::open(UC_MODE_64);
        if (!engine) {
            return std::unexpected{std::move(engine).error()};
        }
        constexpr std::array<std::uint8_t, 3> code{0x0f, 0xa2, 0xf4}; // cpuid; hlt
        auto ready = in_turn(
            [&] {
                return checked(uc_mem_map(engine->get(), 0, 0x2000, UC_PROT_ALL), "uc_mem_map");
            },
            [&] {
                return checked(
                    uc_mem_write(engine->get(), code_at, code.data(), code.size()), "uc_mem_write");
            });
        if (!ready) {
            return std::unexpected{std::move(ready).error()};
        }
        return CpuidReader{std::move(*engine)};
    }

    Result<CpuidEntry> read(std::uint32_t leaf, std::uint32_t subleaf) const {
        engine_.write(UC_X86_REG_RAX, std::uint64_t{leaf});
        engine_.write(UC_X86_REG_RCX, std::uint64_t{subleaf});
        auto ran = checked(uc_emu_start(engine_.get(), code_at, 0, 0, 0), "uc_emu_start of CPUID");
        if (!ran) {
            return std::unexpected{std::move(ran).error()};
        }
        return CpuidEntry{
            .leaf = leaf,
            .subleaf = subleaf,
            .subleaf_is_significant = has_subleaves(leaf),
            .eax = engine_.read<std::uint32_t>(UC_X86_REG_EAX),
            .ebx = engine_.read<std::uint32_t>(UC_X86_REG_EBX),
            .ecx = engine_.read<std::uint32_t>(UC_X86_REG_ECX),
            .edx = engine_.read<std::uint32_t>(UC_X86_REG_EDX)};
    }

private:
    static constexpr std::uint64_t code_at = 0x1000;
    explicit CpuidReader(Engine engine) : engine_{std::move(engine)} {}
    Engine engine_;
};

/// All leaves from `first` to the highest that leaf `first` names; only subleaf 0, since Unicorn's
/// CPU has no more than that which matters (one core, no XSAVE).
Status
read_range(const CpuidReader& reader, std::uint32_t first, std::vector<CpuidEntry>& entries) {
    constexpr std::uint32_t most = 0x20;
    std::uint32_t last = first;
    for (std::uint32_t leaf = first; leaf <= last; ++leaf) {
        auto entry = reader.read(leaf, 0);
        if (!entry) {
            return std::unexpected{std::move(entry).error()};
        }
        if (leaf == first) {
            last = std::clamp(entry->eax, first, first + most);
            entry->eax = last;
        }
        entries.push_back(*entry);
    }
    return {};
}

/// Bits of a leaf that only describe, and may be anything: {eax, ebx, ecx, edx}.
std::array<std::uint32_t, 4> free_bits(std::uint32_t leaf) {
    constexpr std::uint32_t all = 0xffffffff;
    switch (leaf) {
    case 0:
    case extended_leaves:
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
        return {all, all, all, all};
    case 1: // version; brand, CLFLUSH size, APIC ids
        return {all, all, 0, 0};
    case 2: // caches
    case 4:
    case 0xb: // topology: one vCPU
    case 0x80000005:
    case 0x80000006:
        return {all, all, all, all};
    case 0x80000008: // address widths
        return {all, 0, 0, 0};
    default:
        return {0, 0, 0, 0};
    }
}

/// What the guest is told of who runs it: either is as true here.
bool is_signature_offered(const CpuidEntry& entry) {
    return entry.leaf == hypervisor_leaf &&
           hypervisor_signature(std::span{&entry, 1}) == neutral_signature;
}

bool must_be_equal(std::uint32_t leaf) {
    return leaf >= hypervisor_leaf && leaf < hypervisor_leaf + 0x1000;
}

} // namespace

Result<std::vector<CpuidEntry>> offered_cpuid(std::uint64_t tsc_frequency_khz) {
    auto reader = CpuidReader::open();
    if (!reader) {
        return std::unexpected{std::move(reader).error()};
    }
    std::vector<CpuidEntry> entries;
    auto status = in_turn(
        [&] { return read_range(*reader, 0, entries); },
        [&] { return read_range(*reader, extended_leaves, entries); });
    if (!status) {
        return std::unexpected{std::move(status).error()};
    }
    for (CpuidEntry& entry : entries) {
        if (entry.leaf == 1) {
            entry.edx = basic_features;
            entry.ecx |= hypervisor_present;
        }
        if (entry.leaf == extended_leaves + 1) {
            entry.edx &= ~feature_3dnow;
            entry.ecx &= ~feature_skinit;
        }
    }
    entries.push_back(
        {.leaf = hypervisor_leaf,
         .eax = timing_leaf,
         .ebx = 0x72656857,   // "Wher"
         .ecx = 0x6f537972,   // "rySo"
         .edx = 0x00007466}); // "ft\0\0"
    entries.push_back({.leaf = timing_leaf, .eax = static_cast<std::uint32_t>(tsc_frequency_khz)});
    return entries;
}

CpuidEntry
look_up(std::span<const CpuidEntry> entries, std::uint32_t leaf, std::uint32_t subleaf) noexcept {
    const auto found = std::ranges::find_if(entries, [&](const CpuidEntry& entry) {
        return entry.leaf == leaf && (!entry.subleaf_is_significant || entry.subleaf == subleaf);
    });
    return found == entries.end() ? CpuidEntry{.leaf = leaf, .subleaf = subleaf} : *found;
}

Status check_cpuid(std::span<const CpuidEntry> wanted, std::span<const CpuidEntry> offered) {
    for (const CpuidEntry& want : wanted) {
        if (is_signature_offered(want)) {
            continue;
        }
        const CpuidEntry have = look_up(offered, want.leaf, want.subleaf);
        const auto free = free_bits(want.leaf);
        const std::array<std::uint32_t, 4> wants{want.eax, want.ebx, want.ecx, want.edx};
        const std::array<std::uint32_t, 4> haves{have.eax, have.ebx, have.ecx, have.edx};
        for (std::size_t i = 0; i < wants.size(); ++i) {
            const bool is_met = must_be_equal(want.leaf) ? wants[i] == haves[i]
                                                         : (wants[i] & ~haves[i] & ~free[i]) == 0;
            if (!is_met) {
                return formats::fail(
                    ErrorCode::incompatible,
                    fmt::format(
                        "the soft backend cannot present CPUID leaf {:#x}.{}: E{}X would be "
                        "{:#x}, it has {:#x}",
                        want.leaf,
                        want.subleaf,
                        "ABCD"[i],
                        wants[i],
                        haves[i]));
            }
        }
    }
    return {};
}

} // namespace wherry::vmm::soft
