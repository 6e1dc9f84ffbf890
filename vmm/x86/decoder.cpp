// SPDX-License-Identifier: Apache-2.0
#include "vmm/x86/decoder.hpp"

#include "vmm/x86/segmentation.hpp"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

namespace wherry::vmm::x86 {

using formats::ErrorCode;

namespace {

ZydisMachineMode machine_mode(const CpuState& cpu) {
    const bool is_real = (cpu.system.cr0 & cr0::pe) == 0;
    const bool is_compatible = (cpu.system.efer & efer::lma) != 0;
    switch (code_bits(cpu)) {
    case 64:
        return ZYDIS_MACHINE_MODE_LONG_64;
    case 32:
        return is_compatible ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LEGACY_32;
    default:
        return is_real         ? ZYDIS_MACHINE_MODE_REAL_16
               : is_compatible ? ZYDIS_MACHINE_MODE_LONG_COMPAT_16
                               : ZYDIS_MACHINE_MODE_LEGACY_16;
    }
}

ZydisStackWidth stack_width(unsigned bits) {
    return bits == 64   ? ZYDIS_STACK_WIDTH_64
           : bits == 32 ? ZYDIS_STACK_WIDTH_32
                        : ZYDIS_STACK_WIDTH_16;
}

std::uint64_t address_of_code(const CpuState& cpu) {
    return is_64_bit(cpu) ? cpu.registers.rip
                          : (cpu.system.cs.base + cpu.registers.rip) & 0xffff'ffff;
}

std::string hex(std::span<const std::byte> bytes) {
    std::string text;
    for (const std::byte byte : bytes) {
        fmt::format_to(
            std::back_inserter(text),
            "{}{:02x}",
            text.empty() ? "" : " ",
            std::to_integer<unsigned>(byte));
    }
    return text;
}

/// What the processor makes of bytes that are no instruction. Bytes that are merely not known
/// here may well be one: those are an Error.
std::unexpected<Stop>
undecodable(const CpuState& cpu, ZyanStatus status, std::span<const std::byte> code) {
    if (status == ZYDIS_STATUS_ILLEGAL_LOCK || status == ZYDIS_STATUS_BAD_REGISTER) {
        return stop(Exception{.vector = vector::invalid_opcode});
    }
    if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) {
        Exception exception{.vector = vector::general_protection};
        if ((cpu.system.cr0 & cr0::pe) != 0) {
            exception.error_code = 0;
        }
        return stop(exception);
    }
    return stop(formats::Error{
        ErrorCode::unsupported, fmt::format("no known instruction at RIP: {}", hex(code))});
}

} // namespace

std::uint8_t Instruction::repeat_prefix() const noexcept {
    std::uint8_t last = 0;
    for (std::size_t i = 0; i < fields.raw.prefix_count; ++i) {
        const std::uint8_t value = fields.raw.prefixes[i].value;
        last = value == 0xf2 || value == 0xf3 ? value : last;
    }
    return last;
}

bool Instruction::is_locked() const noexcept {
    return (fields.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0;
}

std::string Instruction::text() const {
    return fmt::format(
        "{} ({})",
        ZydisMnemonicGetString(fields.mnemonic),
        hex(std::span{code}.first(fields.length)));
}

Step<Instruction>
decode(const CpuState& cpu, LinearMemory& memory, std::span<const std::byte> fetched) {
    ZydisDecoder decoder;
    const auto ready = ZydisDecoderInit(&decoder, machine_mode(cpu), stack_width(code_bits(cpu)));
    formats::invariant(ZYAN_SUCCESS(ready), "Zydis knows its own modes");

    Instruction instruction;
    auto& code = instruction.code;
    std::size_t have = std::min(fetched.size(), code.size());
    std::ranges::copy(fetched.first(have), code.begin());
    while (true) {
        const ZyanStatus status = ZydisDecoderDecodeFull(
            &decoder, code.data(), have, &instruction.fields, instruction.operand_storage.data());
        if (ZYAN_SUCCESS(status)) {
            return instruction;
        }
        if (status != ZYDIS_STATUS_NO_MORE_DATA || have == code.size()) {
            return undecodable(cpu, status, std::span{code}.first(have));
        }
        const auto more = memory.fetch(address_of_code(cpu) + have, std::span{code}.subspan(have));
        if (!more) {
            return std::unexpected{more.error()};
        }
        have += *more;
    }
}

} // namespace wherry::vmm::x86
