// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/registers.hpp"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>

namespace wherry::vmm::soft {

using formats::ErrorCode;

namespace {

constexpr std::size_t legacy_size = 512;
constexpr std::size_t area_size = legacy_size + 64;
constexpr std::uint64_t component_x87 = 1;
constexpr std::uint64_t component_sse = 2;
constexpr std::uint64_t component_bits_at = 512;
constexpr std::uint64_t compaction_bits_at = 520;
constexpr std::uint32_t mxcsr_at_reset = 0x1f80;
constexpr std::uint32_t mxcsr_mask = 0xffff;

/// SDM vol. 1, table 10-2, with REX.W addresses.
struct Legacy {
    std::uint16_t control = 0x37f;
    std::uint16_t status = 0;
    std::uint8_t tags = 0; ///< one bit a physical register: in use
    std::uint8_t reserved = 0;
    std::uint16_t opcode = 0;
    std::uint64_t instruction = 0;
    std::uint64_t data = 0;
    std::uint32_t mxcsr = mxcsr_at_reset;
    std::uint32_t mask = mxcsr_mask;
    std::array<std::array<std::uint8_t, 16>, 8> st{}; ///< from the top of the stack
    std::array<std::array<std::uint8_t, 16>, 16> xmm{};
    std::array<std::uint8_t, 96> rest{};
};
static_assert(sizeof(Legacy) == legacy_size);

unsigned top_of(std::uint16_t status) {
    return (status >> 11U) & 7U;
}

int register_of(int first, std::size_t index) {
    return first + static_cast<int>(index);
}

std::uint64_t components_of(std::span<const std::byte> area) {
    std::uint64_t bits = 0;
    if (area.size() >= area_size) {
        std::memcpy(&bits, area.subspan(component_bits_at).data(), sizeof bits);
    }
    return bits;
}

} // namespace

formats::Status check_xsave(std::span<const std::byte> area) {
    if (area.empty()) {
        return {};
    }
    if (area.size() < area_size) {
        return formats::fail(
            ErrorCode::invalid_argument,
            "the XSAVE area of a vCPU has " + std::to_string(area.size()) +
                " bytes, less than the 576 of its smallest form");
    }
    const std::uint64_t foreign = components_of(area) & ~(component_x87 | component_sse);
    if (foreign != 0) {
        return formats::fail(
            ErrorCode::incompatible,
            "the soft backend has no XSAVE component " + std::to_string(std::countr_zero(foreign)) +
                " (it has x87 and SSE only), and the vCPU uses it");
    }
    std::uint64_t compaction = 0;
    std::memcpy(&compaction, area.subspan(compaction_bits_at).data(), sizeof compaction);
    if (compaction != 0) {
        return formats::fail(
            ErrorCode::invalid_argument, "the XSAVE area of a vCPU is not in the standard form");
    }
    return {};
}

std::vector<std::byte> read_xsave(const Engine& engine) {
    Legacy legacy;
    legacy.control = engine.read<std::uint16_t>(UC_X86_REG_FPCW);
    legacy.status = engine.read<std::uint16_t>(UC_X86_REG_FPSW);
    const auto tags = engine.read<std::uint16_t>(UC_X86_REG_FPTAG);
    for (unsigned i = 0; i < 8; ++i) {
        const bool is_used = ((tags >> (2 * i)) & 3U) != 3U;
        legacy.tags = static_cast<std::uint8_t>(legacy.tags | (is_used ? 1U << i : 0U));
    }
    legacy.opcode = engine.read<std::uint16_t>(UC_X86_REG_FOP);
    legacy.instruction = engine.read<std::uint64_t>(UC_X86_REG_FIP);
    legacy.data = engine.read<std::uint64_t>(UC_X86_REG_FDP);
    legacy.mxcsr = engine.read<std::uint32_t>(UC_X86_REG_MXCSR);
    using Wide = std::array<std::uint8_t, 16>;
    for (std::size_t i = 0; i < legacy.st.size(); ++i) {
        const std::size_t physical = (top_of(legacy.status) + i) % 8;
        legacy.st[i] = engine.read<Wide>(register_of(UC_X86_REG_FP0, physical));
    }
    for (std::size_t i = 0; i < legacy.xmm.size(); ++i) {
        legacy.xmm[i] = engine.read<Wide>(register_of(UC_X86_REG_XMM0, i));
    }
    std::vector<std::byte> area(area_size);
    std::memcpy(area.data(), &legacy, sizeof legacy);
    const std::uint64_t components = component_x87 | component_sse;
    std::memcpy(area.data() + component_bits_at, &components, sizeof components);
    return area;
}

void write_xsave(const Engine& engine, std::span<const std::byte> area) {
    const std::uint64_t components = components_of(area);
    Legacy legacy;
    if (!area.empty()) {
        Legacy given;
        std::memcpy(&given, area.data(), sizeof given);
        legacy.mxcsr = given.mxcsr;
        if ((components & component_sse) != 0) {
            legacy.xmm = given.xmm;
        }
        if ((components & component_x87) != 0) {
            given.xmm = legacy.xmm;
            legacy = given;
        }
    }
    std::uint16_t tags = 0;
    for (unsigned i = 0; i < 8; ++i) {
        const unsigned tag = ((legacy.tags >> i) & 1U) != 0 ? 0U : 3U;
        tags = static_cast<std::uint16_t>(tags | (tag << (2 * i)));
    }
    engine.write(UC_X86_REG_FPCW, legacy.control);
    engine.write(UC_X86_REG_FPSW, legacy.status);
    engine.write(UC_X86_REG_FPTAG, tags);
    engine.write(UC_X86_REG_FOP, legacy.opcode);
    engine.write(UC_X86_REG_FIP, legacy.instruction);
    engine.write(UC_X86_REG_FDP, legacy.data);
    engine.write(UC_X86_REG_MXCSR, legacy.mxcsr);
    for (std::size_t i = 0; i < legacy.st.size(); ++i) {
        const std::size_t physical = (top_of(legacy.status) + i) % 8;
        engine.write(register_of(UC_X86_REG_FP0, physical), legacy.st[i]);
    }
    for (std::size_t i = 0; i < legacy.xmm.size(); ++i) {
        engine.write(register_of(UC_X86_REG_XMM0, i), legacy.xmm[i]);
    }
}

} // namespace wherry::vmm::soft
