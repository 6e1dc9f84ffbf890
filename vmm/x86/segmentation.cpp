// SPDX-License-Identifier: Apache-2.0
#include "vmm/x86/segmentation.hpp"

namespace wherry::vmm::x86 {

namespace {

// Bits of Segment::attributes. "Readable" is so named for code segments, "writable" for data.
constexpr std::uint32_t readable = 1U << 1U, writable = 1U << 1U, expands_down = 1U << 2U,
                        is_code = 1U << 3U, is_present = 1U << 7U, is_big = 1U << 14U,
                        is_unusable = 1U << 16U;

std::unexpected<Stop> segment_fault(const CpuState& cpu, SegmentName name) {
    Exception exception{
        .vector = name == SegmentName::ss ? vector::stack_segment : vector::general_protection};
    if ((cpu.system.cr0 & cr0::pe) != 0) {
        exception.error_code = 0;
    }
    return stop(exception);
}

bool is_in_limit(const Segment& segment, bool has_types, std::uint64_t offset, unsigned size) {
    const std::uint64_t last = offset + size - 1;
    if (has_types && (segment.attributes & (is_code | expands_down)) == expands_down) {
        const std::uint64_t top = (segment.attributes & is_big) != 0 ? 0xffff'ffff : 0xffff;
        return offset > segment.limit && last <= top;
    }
    return last <= segment.limit;
}

bool allows(const Segment& segment, Access access) {
    if ((segment.attributes & is_unusable) != 0 || (segment.attributes & is_present) == 0) {
        return false;
    }
    if ((segment.attributes & is_code) != 0) {
        return access != Access::write && (segment.attributes & readable) != 0;
    }
    return access != Access::write || (segment.attributes & writable) != 0;
}

bool checks_alignment(const CpuState& cpu) {
    return (cpu.system.cr0 & cr0::am) != 0 && (cpu.registers.rflags & rflags::ac) != 0 &&
           privilege_level(cpu) == 3;
}

} // namespace

const Segment& segment_of(const CpuState& cpu, SegmentName name) noexcept {
    const auto& system = cpu.system;
    switch (name) {
    case SegmentName::es:
        return system.es;
    case SegmentName::cs:
        return system.cs;
    case SegmentName::ss:
        return system.ss;
    case SegmentName::ds:
        return system.ds;
    case SegmentName::fs:
        return system.fs;
    case SegmentName::gs:
        break;
    }
    return system.gs;
}

Step<std::uint64_t> linear_address(
    const CpuState& cpu, SegmentName name, std::uint64_t offset, unsigned size, Access access) {
    const Segment& segment = segment_of(cpu, name);
    std::uint64_t linear = 0;
    if (is_64_bit(cpu)) {
        const bool has_base = name == SegmentName::fs || name == SegmentName::gs;
        linear = (has_base ? segment.base : 0) + offset;
        if (!is_canonical(cpu, linear) || !is_canonical(cpu, linear + size - 1)) {
            return segment_fault(cpu, name);
        }
    } else {
        const bool has_types = is_protected(cpu);
        if ((has_types && !allows(segment, access)) ||
            !is_in_limit(segment, has_types, offset, size)) {
            return segment_fault(cpu, name);
        }
        linear = (segment.base + offset) & 0xffff'ffff;
    }
    if (checks_alignment(cpu) && linear % size != 0) {
        return stop(Exception{.vector = vector::alignment_check, .error_code = 0});
    }
    return linear;
}

} // namespace wherry::vmm::x86
