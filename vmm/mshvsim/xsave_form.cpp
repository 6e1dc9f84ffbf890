// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/xsave_form.hpp"

#include "vmm/mshvsim/features.hpp"

#include <algorithm>
#include <cstring>

namespace wherry::vmm::mshvsim {
namespace {

constexpr std::size_t legacy_size = 512;
constexpr std::size_t header_end = 576;
constexpr std::size_t xcomp_bv = 520;
constexpr std::size_t standard_size = 4096;
constexpr std::uint64_t is_compacted = std::uint64_t{1} << 63U;
constexpr std::uint64_t x87_and_sse = 3;

std::uint64_t number_at(std::span<const std::byte> area, std::size_t at) {
    std::uint64_t value = 0;
    std::memcpy(&value, area.data() + at, sizeof(value));
    return value;
}

void put_number(std::span<std::byte> area, std::size_t at, std::uint64_t value) {
    std::memcpy(area.data() + at, &value, sizeof(value));
}

/// Calls `visit(component number, place in the compacted form, component)`.
template <typename Visit>
void for_each_component(const std::vector<CpuidEntry>& cpuid, std::uint64_t states, Visit visit) {
    std::size_t at = header_end;
    for (unsigned number = 2; number < 63; ++number) {
        if ((states >> number & 1U) == 0) {
            continue;
        }
        const auto component = component_of(cpuid, number);
        at = component.is_aligned ? (at + 63) / 64 * 64 : at;
        visit(number, at, component);
        at += component.size;
    }
}

void copy_part(
    std::span<std::byte> to,
    std::size_t to_at,
    std::span<const std::byte> from,
    std::size_t from_at,
    std::size_t size) {
    if (to_at + size <= to.size() && from_at + size <= from.size()) {
        std::memcpy(to.data() + to_at, from.data() + from_at, size);
    }
}

} // namespace

std::vector<std::byte> compacted(
    std::span<const std::byte> standard,
    const std::vector<CpuidEntry>& cpuid,
    std::uint64_t states,
    std::size_t size) {
    std::vector<std::byte> image(std::max(size, header_end));
    copy_part(image, 0, standard, 0, legacy_size);
    const std::uint64_t in_use = number_at(standard, legacy_size) & states;
    put_number(image, legacy_size, in_use);
    put_number(image, xcomp_bv, is_compacted | states | x87_and_sse);
    for_each_component(cpuid, states, [&](unsigned number, std::size_t at, const auto& component) {
        if ((in_use >> number & 1U) != 0) {
            copy_part(image, at, standard, component.standard_offset, component.size);
        }
    });
    return image;
}

std::optional<std::vector<std::byte>> standard_form(
    std::span<const std::byte> image, const std::vector<CpuidEntry>& cpuid, std::uint64_t states) {
    if (image.size() < header_end) {
        return std::nullopt;
    }
    const std::uint64_t in_use = number_at(image, legacy_size);
    const std::uint64_t layout = number_at(image, xcomp_bv);
    const std::uint64_t present = layout & ~is_compacted;
    const bool is_plain = layout == 0 && (in_use & ~x87_and_sse) == 0; // nothing to lay out
    if (!is_plain && ((layout & is_compacted) == 0 || (present & ~states) != 0 ||
                      (in_use & ~(present | x87_and_sse)) != 0)) {
        return std::nullopt;
    }
    std::vector<std::byte> area(standard_size);
    copy_part(area, 0, image, 0, legacy_size);
    put_number(area, legacy_size, in_use);
    for_each_component(cpuid, present, [&](unsigned number, std::size_t at, const auto& component) {
        if ((in_use >> number & 1U) != 0) {
            copy_part(area, component.standard_offset, image, at, component.size);
        }
    });
    return area;
}

} // namespace wherry::vmm::mshvsim
