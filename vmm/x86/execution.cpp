// SPDX-License-Identifier: Apache-2.0
#include "vmm/x86/execution.hpp"

#include "vmm/x86/register_file.hpp"
#include "vmm/x86/segmentation.hpp"

namespace wherry::vmm::x86 {

namespace {

constexpr unsigned bits_per_byte = 8;

} // namespace

std::uint64_t Execution::effective_address(const ZydisDecodedOperandMem& memory) const {
    auto address = static_cast<std::uint64_t>(memory.disp.value);
    if (memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP) {
        address += cpu_.registers.rip + instruction_.fields.length;
    } else if (memory.base != ZYDIS_REGISTER_NONE) {
        address += read_register(cpu_.registers, memory.base);
    }
    if (memory.index != ZYDIS_REGISTER_NONE) {
        address += read_register(cpu_.registers, memory.index) * memory.scale;
    }
    return address;
}

Step<Place> Execution::locate(std::size_t index, Access access, std::int64_t displacement) {
    const auto& memory = operand(index).mem;
    const auto segment = segment_name(memory.segment);
    formats::invariant(segment.has_value(), "Zydis names the segment of a memory operand");
    const std::uint64_t offset = low_bits(
        effective_address(memory) + static_cast<std::uint64_t>(displacement),
        instruction_.fields.address_width);
    const unsigned size = bits(index) / bits_per_byte;
    auto linear = linear_address(cpu_, *segment, offset, size, access);
    if (!linear) {
        return stop(linear);
    }
    return memory_.locate(*linear, size, access);
}

Step<std::uint64_t> Execution::value(std::size_t index) {
    const auto& operand = this->operand(index);
    switch (operand.type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        if (const auto segment = segment_name(operand.reg.value)) {
            return segment_of(cpu_, *segment).selector;
        }
        return read_register(cpu_.registers, operand.reg.value);
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        return operand.imm.value.u;
    case ZYDIS_OPERAND_TYPE_MEMORY: {
        auto place = locate(index, Access::read);
        if (!place) {
            return stop(place);
        }
        return memory_.read(*place);
    }
    case ZYDIS_OPERAND_TYPE_UNUSED:
    case ZYDIS_OPERAND_TYPE_POINTER:
        break;
    }
    formats::invariant(false, "only operands that exist are read");
    return 0;
}

Step<void> Execution::assign(std::size_t index, std::uint64_t value) {
    const auto& operand = this->operand(index);
    if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
        write_register(cpu_.registers, operand.reg.value, value);
        return {};
    }
    auto place = locate(index, Access::write);
    if (!place) {
        return stop(place);
    }
    return memory_.write(*place, value);
}

} // namespace wherry::vmm::x86
