// SPDX-License-Identifier: Apache-2.0
#include "vmm/x86/register_file.hpp"

#include "formats/error.hpp"
#include "vmm/general_registers.hpp"

namespace wherry::vmm::x86 {

namespace {

using Member = std::uint64_t Registers::*;

bool is_high_byte(ZydisRegister name) {
    return name >= ZYDIS_REGISTER_AH && name <= ZYDIS_REGISTER_BH;
}

unsigned width_of(ZydisRegister name) {
    return ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, name);
}

Member member_of(ZydisRegister name) {
    const ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, name);
    if (full < ZYDIS_REGISTER_RAX || full > ZYDIS_REGISTER_R15) {
        return nullptr;
    }
    return general_order[static_cast<std::size_t>(full - ZYDIS_REGISTER_RAX)]; // Zydis's order too
}

} // namespace

std::uint64_t* full_register(Registers& registers, ZydisRegister name) noexcept {
    const Member member = member_of(name);
    return member == nullptr ? nullptr : &(registers.*member);
}

std::uint64_t read_register(const Registers& registers, ZydisRegister name) noexcept {
    const Member member = member_of(name);
    formats::invariant(member != nullptr, "only general registers are read by name");
    const std::uint64_t full = registers.*member;
    return low_bits(is_high_byte(name) ? full >> 8U : full, width_of(name));
}

void write_register(Registers& registers, ZydisRegister name, std::uint64_t value) noexcept {
    std::uint64_t* const full = full_register(registers, name);
    formats::invariant(full != nullptr, "only general registers are written by name");
    const unsigned width = width_of(name);
    if (width >= 32) {
        *full = low_bits(value, width);
        return;
    }
    const unsigned shift = is_high_byte(name) ? 8 : 0;
    const std::uint64_t mask = low_bits(~std::uint64_t{0}, width) << shift;
    *full = (*full & ~mask) | ((value << shift) & mask);
}

std::optional<SegmentName> segment_name(ZydisRegister name) noexcept {
    if (name < ZYDIS_REGISTER_ES || name > ZYDIS_REGISTER_GS) {
        return std::nullopt;
    }
    return static_cast<SegmentName>(name - ZYDIS_REGISTER_ES);
}

static_assert(
    ZYDIS_REGISTER_CS - ZYDIS_REGISTER_ES == int{static_cast<int>(SegmentName::cs)} &&
    ZYDIS_REGISTER_GS - ZYDIS_REGISTER_ES == int{static_cast<int>(SegmentName::gs)});
static_assert(ZYDIS_REGISTER_R15 - ZYDIS_REGISTER_RAX == 15);

} // namespace wherry::vmm::x86
