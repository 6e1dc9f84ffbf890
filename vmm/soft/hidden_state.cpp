// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/hidden_state.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <x86intrin.h>

namespace wherry::vmm::soft {

using formats::ErrorCode;
using formats::Result;
using formats::Status;

namespace {

constexpr std::uint32_t attribute_unusable = 1U << 16U;
constexpr std::uint32_t attribute_present = 1U << 7U;
constexpr std::uint32_t msr_fs_base = 0xc0000100;
constexpr std::uint32_t msr_gs_base = 0xc0000101;

/// One segment register inside an image.
struct SegmentCache {
    std::uint32_t selector;
    std::uint32_t padding;
    std::uint64_t base;
    std::uint32_t limit;
    std::uint32_t flags;
};
static_assert(sizeof(SegmentCache) == 24);

template <typename T>
T load(std::span<const std::byte> bytes, std::size_t at) {
    T value{};
    std::memcpy(&value, bytes.subspan(at, sizeof value).data(), sizeof value);
    return value;
}

template <typename T>
void store(std::span<std::byte> bytes, std::size_t at, const T& value) {
    std::memcpy(bytes.subspan(at, sizeof value).data(), &value, sizeof value);
}

/// The only place of the value, if it has exactly one.
std::optional<std::size_t> only_place_of(std::span<const std::byte> bytes, std::uint64_t value) {
    std::optional<std::size_t> found;
    for (std::size_t at = 0; at + sizeof value <= bytes.size(); at += alignof(std::uint64_t)) {
        if (load<std::uint64_t>(bytes, at) == value) {
            if (found) {
                return std::nullopt;
            }
            found = at;
        }
    }
    return found;
}

std::unexpected<formats::Error> unlike(std::string_view what) {
    return formats::fail(
        ErrorCode::unsupported,
        "this libunicorn keeps " + std::string{what} +
            " in a way the soft backend does not know; it is made for 2.0.1");
}

/// TSC as the guest of an engine in 32-bit code reads it, with `image` as its state.
Result<std::uint64_t> run_rdtsc(const Engine& engine, const CpuImage& image) {
    constexpr std::uint64_t code_at = 0x1000;
    if (auto put = engine.put(image); !put) {
        return std::unexpected{std::move(put).error()};
    }
    auto ran = checked(uc_emu_start(engine.get(), code_at, 0, 0, 0), "uc_emu_start of RDTSC");
    if (!ran) {
        return std::unexpected{std::move(ran).error()};
    }
    const auto high = engine.read<std::uint64_t>(UC_X86_REG_RDX);
    return (high << 32U) | engine.read<std::uint64_t>(UC_X86_REG_RAX);
}

} // namespace

std::uint32_t flags_from_attributes(std::uint32_t attributes) noexcept {
    if ((attributes & attribute_unusable) != 0) {
        return 0;
    }
    return ((attributes & 0xffU) << 8U) | (((attributes >> 12U) & 0xfU) << 20U);
}

std::uint32_t attributes_from_flags(std::uint32_t flags) noexcept {
    const std::uint32_t attributes = ((flags >> 8U) & 0xffU) | (((flags >> 20U) & 0xfU) << 12U);
    return (attributes & attribute_present) != 0 ? attributes : attribute_unusable;
}

Segment HiddenState::segment(CpuImage& image, SegmentName name) const {
    const auto cache = load<SegmentCache>(
        image.bytes(), first_segment_ + std::size_t(name) * sizeof(SegmentCache));
    return {
        .base = cache.base,
        .limit = cache.limit,
        .selector = static_cast<std::uint16_t>(cache.selector),
        .attributes = attributes_from_flags(cache.flags)};
}

void HiddenState::set_segment(CpuImage& image, SegmentName name, const Segment& segment) const {
    store(
        image.bytes(),
        first_segment_ + std::size_t(name) * sizeof(SegmentCache),
        SegmentCache{
            .selector = segment.selector,
            .padding = 0,
            .base = segment.base,
            .limit = segment.limit,
            .flags = flags_from_attributes(segment.attributes)});
}

void HiddenState::set_tsc_offset(CpuImage& image, std::uint64_t offset) const {
    store(image.bytes(), tsc_offset_, offset);
}

namespace {

/// Finds the first segment by the bases of FS and GS, and checks the form of an entry by TR, which
/// Unicorn lets us write whole, and the order by the selectors.
Result<std::size_t> find_segments(const Engine& engine) {
    constexpr std::uint64_t fs_mark = 0x00005eed'f5f5f501;
    constexpr std::uint64_t gs_mark = 0x00005eed'6565f502;
    constexpr std::uint64_t tr_mark = 0x00005eed'7272f503;
    constexpr std::array<int, 4> names{UC_X86_REG_ES, UC_X86_REG_CS, UC_X86_REG_SS, UC_X86_REG_DS};
    engine.write_msr(msr_fs_base, fs_mark);
    engine.write_msr(msr_gs_base, gs_mark);
    uc_x86_mmr task{};
    task.selector = 0x1230;
    task.base = tr_mark;
    task.limit = 0x4567;
    task.flags = 0x8b00;
    engine.write(UC_X86_REG_TR, task);
    for (std::size_t i = 0; i < names.size(); ++i) {
        engine.write(names[i], static_cast<std::uint16_t>(0x1110 * (i + 1)));
    }
    auto image = engine.image();
    if (!image) {
        return std::unexpected{std::move(image).error()};
    }
    const auto bytes = image->bytes();
    const auto fs_base = only_place_of(bytes, fs_mark);
    const auto gs_base = only_place_of(bytes, gs_mark);
    const auto tr_base = only_place_of(bytes, tr_mark);
    constexpr std::size_t base_at = offsetof(SegmentCache, base);
    if (!fs_base || !gs_base || !tr_base || *gs_base - *fs_base != sizeof(SegmentCache) ||
        *fs_base < base_at + 4 * sizeof(SegmentCache)) {
        return unlike("segment registers");
    }
    const auto tr = load<SegmentCache>(bytes, *tr_base - base_at);
    const std::size_t first = *fs_base - base_at - 4 * sizeof(SegmentCache);
    bool alike = tr.selector == task.selector && tr.limit == task.limit && tr.flags == task.flags;
    for (std::size_t i = 0; i < names.size(); ++i) {
        alike = alike && load<SegmentCache>(bytes, first + i * sizeof(SegmentCache)).selector ==
                             0x1110 * (i + 1);
    }
    if (!alike) {
        return unlike("segment registers");
    }
    return first;
}

/// The offset of the TSC follows DR7 (then four pointers, an exception number, the VMCB's
/// address). Set to something unmistakable, RDTSC must show exactly it.
Result<std::size_t> find_tsc_offset(const Engine& engine) {
    constexpr std::uint64_t debug_mark = 0x00005eed'd7d7f504;
    constexpr std::uint64_t offset_mark = std::uint64_t{1} << 61U;
    constexpr std::size_t distance = 8 + 4 * 8 + 8 + 8;
    auto legacy = Engine::open(UC_MODE_32);
    if (!legacy) {
        return std::unexpected{std::move(legacy).error()};
    }
    engine.write(UC_X86_REG_DR7, debug_mark);
    auto marked = engine.image();
    auto image = legacy->image();
    if (!marked || !image) {
        return std::unexpected{std::move(!marked ? marked : image).error()};
    }
    const auto debug = only_place_of(marked->bytes(), debug_mark);
    constexpr std::array<std::uint8_t, 3> code{0x0f, 0x31, 0xf4}; // rdtsc; hlt
    auto mapped = checked(uc_mem_map(engine.get(), 0, 0x2000, UC_PROT_ALL), "uc_mem_map");
    if (!debug || *debug + distance + 8 > image->bytes().size() || !mapped ||
        uc_mem_write(engine.get(), 0x1000, code.data(), code.size()) != UC_ERR_OK) {
        return unlike("debug registers");
    }
    const std::size_t place = *debug + distance;
    if (load<std::uint64_t>(image->bytes(), place) != 0) {
        return unlike("the TSC offset");
    }
    store(image->bytes(), place, offset_mark);
    const std::uint64_t before = __rdtsc();
    auto seen = run_rdtsc(engine, *image);
    const std::uint64_t after = __rdtsc();
    if (!seen) {
        return std::unexpected{std::move(seen).error()};
    }
    if (*seen < before + offset_mark || *seen > after + offset_mark) {
        return unlike("the TSC offset");
    }
    return place;
}

} // namespace

Result<HiddenState> HiddenState::discover() {
    auto engine = Engine::open(UC_MODE_64);
    if (!engine) {
        return std::unexpected{std::move(engine).error()};
    }
    auto segments = find_segments(*engine);
    if (!segments) {
        return std::unexpected{std::move(segments).error()};
    }
    auto offset = find_tsc_offset(*engine);
    if (!offset) {
        return std::unexpected{std::move(offset).error()};
    }
    HiddenState state;
    state.first_segment_ = *segments;
    state.tsc_offset_ = *offset;
    return state;
}

} // namespace wherry::vmm::soft
