// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/lapic.hpp"

#include <cstring>

namespace wherry::vmm::mshv {
namespace {

using abi::vp_state::Lapic;

// Offsets of registers in the page (SDM vol. 3, table 11-1).
constexpr std::size_t id_at = 0x20;
constexpr std::size_t version_at = 0x30;
constexpr std::size_t task_priority_at = 0x80;
constexpr std::size_t isr_at = 0x100;
constexpr std::size_t tmr_at = 0x180;
constexpr std::size_t irr_at = 0x200;
constexpr std::size_t stride = 0x10;

constexpr std::uint64_t x2apic_enabled = 1U << 10U; // of the APIC base
constexpr std::uint64_t apic_enabled = 1U << 11U;

struct Place {
    std::size_t offset;
    std::uint32_t Lapic::* value;
};
/// All but id, version and the three vectors of 256 bits.
constexpr std::array<Place, 17> places{{
    {0x0c0, &Lapic::remote_read},
    {0x0d0, &Lapic::ldr},
    {0x0e0, &Lapic::dfr},
    {0x0f0, &Lapic::spurious},
    {0x280, &Lapic::esr},
    {0x2f0, &Lapic::lvt_cmci},
    {0x300, &Lapic::icr_low},
    {0x310, &Lapic::icr_high},
    {0x320, &Lapic::lvt_timer},
    {0x330, &Lapic::lvt_thermal},
    {0x340, &Lapic::lvt_perfmon},
    {0x350, &Lapic::lvt_lint0},
    {0x360, &Lapic::lvt_lint1},
    {0x370, &Lapic::lvt_error},
    {0x380, &Lapic::initial_count},
    {0x390, &Lapic::current_count},
    {0x3e0, &Lapic::divide_configuration},
}};
struct Bits {
    std::size_t offset;
    std::array<std::uint32_t, 8> Lapic::* value;
};
constexpr std::array<Bits, 3> vectors{{
    {isr_at, &Lapic::isr},
    {tmr_at, &Lapic::tmr},
    {irr_at, &Lapic::irr},
}};

void put(LapicPage& page, std::size_t offset, std::uint32_t value) {
    std::memcpy(&page[offset], &value, sizeof(value));
}
std::uint32_t get(const LapicPage& page, std::size_t offset) {
    std::uint32_t value = 0;
    std::memcpy(&value, &page[offset], sizeof(value));
    return value;
}

} // namespace

LapicPage canonical_lapic(const Lapic& from, std::uint64_t cr8, std::uint64_t apic_base) {
    LapicPage page{};
    const bool is_x2apic = (apic_base & x2apic_enabled) != 0 && (apic_base & apic_enabled) != 0;
    // Whether the hypervisor tells the id in the form of the register is not documented. Ids are
    // VP numbers below 255 here, so that the byte in which it stands tells.
    const std::uint32_t id = from.id > 0xff ? from.id >> 24U : from.id;
    put(page, id_at, is_x2apic ? id : id << 24U);
    put(page, version_at, from.version);
    put(page, task_priority_at, static_cast<std::uint32_t>((cr8 & 0xfU) << 4U));
    for (const auto& place : places) {
        put(page, place.offset, from.*place.value);
    }
    for (const auto& bits : vectors) {
        for (std::size_t word = 0; word < 8; ++word) {
            put(page, bits.offset + word * stride, (from.*bits.value)[word]);
        }
    }
    return page;
}

Lapic native_lapic(const LapicPage& page, const Lapic& current) noexcept {
    Lapic to = current;
    for (const auto& place : places) {
        to.*place.value = get(page, place.offset);
    }
    for (const auto& bits : vectors) {
        for (std::size_t word = 0; word < 8; ++word) {
            (to.*bits.value)[word] = get(page, bits.offset + word * stride);
        }
    }
    return to;
}

void wire_local_interrupts(Lapic& lapic) noexcept {
    constexpr std::uint32_t mode = 0x700;
    constexpr std::uint32_t external = 0x700;
    constexpr std::uint32_t nmi = 0x400;
    lapic.lvt_lint0 = (lapic.lvt_lint0 & ~mode) | external;
    lapic.lvt_lint1 = (lapic.lvt_lint1 & ~mode) | nmi;
}

} // namespace wherry::vmm::mshv
