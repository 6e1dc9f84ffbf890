// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/xsave.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

constexpr std::size_t xstate_bv_at = 512;
constexpr std::size_t xcomp_bv_at = 520;
constexpr std::size_t first_component_at = xsave_legacy_size + xsave_header_size;
constexpr std::uint64_t compacted_form = std::uint64_t{1} << 63U;
constexpr std::uint64_t x87 = 1U << 0U;
constexpr std::uint64_t sse = 1U << 1U;
constexpr std::uint64_t cet = (1U << 11U) | (1U << 12U);
constexpr std::size_t area_limit = std::size_t{64} << 10U;

// Inside the legacy region: what of it is not x87's.
constexpr std::size_t mxcsr_at = 24;
constexpr std::size_t mxcsr_mask_at = 28;
constexpr std::size_t st0_at = 32;
constexpr std::size_t xmm0_at = 160;
constexpr std::size_t xmm_end = 416;

std::uint64_t word_at(std::span<const std::byte> area, std::size_t offset) {
    std::uint64_t word = 0;
    std::memcpy(&word, area.subspan(offset).data(), sizeof(word));
    return word;
}

template <typename Word>
void put(std::span<std::byte> area, std::size_t offset, Word word) {
    std::memcpy(area.subspan(offset).data(), &word, sizeof(word));
}

bool has(std::uint64_t mask, unsigned number) {
    return ((mask >> number) & 1U) != 0;
}

std::size_t aligned(std::size_t offset) {
    return (offset + 63) / 64 * 64;
}

/// Gives x87 and SSE the values that they have where the area says no more than "initial".
void write_out_legacy(std::span<std::byte> area, std::uint64_t in_use) {
    if ((in_use & x87) == 0) {
        std::ranges::fill(area.first(mxcsr_at), std::byte{0});
        std::ranges::fill(area.subspan(st0_at, xmm0_at - st0_at), std::byte{0});
        put(area, 0, std::uint16_t{0x37f});
    }
    if ((in_use & sse) == 0) {
        std::ranges::fill(area.subspan(xmm0_at, xmm_end - xmm0_at), std::byte{0});
        put(area, mxcsr_at, std::uint32_t{0x1f80});
    }
    // The processor's own, of no meaning in a state; and nothing behind the last XMM register.
    put(area, mxcsr_mask_at, std::uint32_t{0});
    std::ranges::fill(area.subspan(xmm_end, xsave_legacy_size - xmm_end), std::byte{0});
}

formats::Error unknown_component(unsigned number) {
    return {
        ErrorCode::incompatible,
        fmt::format("XSAVE component {} is in use, and unknown to this partition", number)};
}

} // namespace

XsaveLayout::XsaveLayout(std::span<const CpuidEntry> cpuid) {
    for (const auto& entry : cpuid) {
        if (entry.leaf == 0xd && entry.subleaf >= 2 && entry.subleaf < 63 && entry.eax != 0) {
            const bool is_supervisor = (entry.ecx & 1U) != 0;
            components_.push_back(
                {.number = entry.subleaf,
                 .size = entry.eax,
                 .standard_offset = is_supervisor ? 0 : entry.ebx,
                 .is_aligned = (entry.ecx & 2U) != 0});
        }
    }
}

const XsaveLayout::Component* XsaveLayout::find(unsigned number) const noexcept {
    const auto found = std::ranges::find(components_, number, &Component::number);
    return found == components_.end() ? nullptr : &*found;
}

Result<std::vector<std::byte>>
standard_from_compacted(std::span<const std::byte> compacted, const XsaveLayout& layout) {
    if (compacted.size() < first_component_at) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("an XSAVE area of {} bytes", compacted.size()));
    }
    const std::uint64_t in_use = word_at(compacted, xstate_bv_at);
    const std::uint64_t form = word_at(compacted, xcomp_bv_at);
    std::vector<std::byte> standard(first_component_at);
    std::ranges::copy(compacted.first(xsave_legacy_size), standard.begin());
    write_out_legacy(standard, in_use);

    std::uint64_t written = x87 | sse;
    std::size_t at = first_component_at;
    for (unsigned number = 2; number < 63; ++number) {
        // An area that is all initial may leave XCOMP_BV zero.
        if (!has(form | in_use, number)) {
            continue;
        }
        const auto* const component = layout.find(number);
        if (component == nullptr) {
            return fail(unknown_component(number));
        }
        at = component->is_aligned ? aligned(at) : at;
        const std::size_t begin = at;
        at += component->size;
        const std::uint64_t bit = std::uint64_t{1} << number;
        if (!has(in_use, number) || (bit & cet) != 0) {
            continue;
        }
        const std::size_t end = component->standard_offset + component->size;
        if (component->standard_offset == 0 || end > area_limit || at > compacted.size()) {
            return fail(
                ErrorCode::incompatible,
                fmt::format("XSAVE component {} is in use, and has no standard form", number));
        }
        standard.resize(std::max(standard.size(), aligned(end)));
        std::ranges::copy(
            compacted.subspan(begin, component->size),
            std::span{standard}.subspan(component->standard_offset).begin());
        written |= bit;
    }
    put(std::span{standard}, xstate_bv_at, written);
    return standard;
}

Result<std::vector<std::byte>> compacted_from_standard(
    std::span<const std::byte> standard,
    const XsaveLayout& layout,
    std::uint64_t states,
    std::size_t most) {
    if (standard.size() < first_component_at || word_at(standard, xcomp_bv_at) != 0) {
        return fail(ErrorCode::invalid_argument, "an XSAVE area that is not in standard form");
    }
    const std::uint64_t in_use = word_at(standard, xstate_bv_at);
    std::vector<std::byte> compacted(first_component_at);
    std::ranges::copy(standard.first(xsave_legacy_size), compacted.begin());
    write_out_legacy(compacted, in_use);
    for (unsigned number = 2; number < 64; ++number) {
        if (!has(in_use, number)) {
            continue;
        }
        const auto* const component = layout.find(number);
        if (component == nullptr || component->standard_offset == 0 || !has(states, number)) {
            return fail(unknown_component(number));
        }
        // An area may end before components that are all zero.
        const auto from = standard.subspan(std::min(component->standard_offset, standard.size()));
        const std::size_t begin =
            component->is_aligned ? aligned(compacted.size()) : compacted.size();
        compacted.resize(begin + component->size);
        std::ranges::copy(
            from.first(std::min(from.size(), component->size)),
            std::span{compacted}.subspan(begin).begin());
    }
    if (compacted.size() > most) {
        return fail(
            ErrorCode::incompatible,
            fmt::format(
                "an XSAVE area of {} bytes, for a partition that takes {}",
                compacted.size(),
                most));
    }
    put(std::span{compacted}, xstate_bv_at, in_use | x87 | sse);
    put(std::span{compacted}, xcomp_bv_at, in_use | x87 | sse | compacted_form);
    return compacted;
}

} // namespace wherry::vmm::mshv
