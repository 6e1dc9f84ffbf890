// SPDX-License-Identifier: Apache-2.0
#include "tests/guests/page_space.hpp"

extern "C" std::array<std::uint64_t, 512> boot_pdpt;

namespace wherry::guest {

namespace {

constexpr std::uint64_t gibibyte = 1ULL << 30;
constexpr std::uint64_t mapped_by_boot = 4 * gibibyte;

} // namespace

bool PageSpace::start(std::span<const MemoryRange> ram, std::uint64_t image_end) noexcept {
    bool found_image = false;
    for (const auto& range : ram) {
        const auto end = range.first_byte + range.bytes;
        ram_bytes_ += range.bytes;
        if (end <= 1U << 20) {
            continue;
        }
        highest_ = end > highest_ ? end : highest_;
        auto first = range.first_byte < 1U << 20 ? 1U << 20 : range.first_byte;
        if (first < image_end && end > image_end) {
            first = image_end;
            found_image = true;
            free_[count_++] = free_[0]; // the image's range goes first: tables come from there
            free_[0] = {first, end - first};
        } else if (first >= image_end) {
            free_[count_++] = {first, end - first};
        }
    }
    return found_image;
}

void* PageSpace::allocate(std::uint64_t bytes) noexcept {
    const auto whole = (bytes + page_bytes - 1) & ~(page_bytes - 1);
    auto& range = free_[0];
    if (range.bytes < whole) {
        return nullptr;
    }
    auto* result = reinterpret_cast<void*>(range.first_byte);
    __builtin_memset(result, 0, whole);
    range.first_byte += whole;
    range.bytes -= whole;
    return result;
}

void PageSpace::close() noexcept {
    std::uint32_t index = 0;
    for (std::size_t i = 0; i < count_; ++i) {
        const auto first = static_cast<std::uint32_t>(free_[i].first_byte / page_bytes);
        const auto pages = static_cast<std::uint32_t>(free_[i].bytes / page_bytes);
        ranges_[i] = {index + pages, first - index};
        index += pages;
    }
    page_count_ = index;
}

bool map_all(PageSpace& space) noexcept {
    if (space.highest_byte() > 512 * gibibyte) {
        return false;
    }
    for (auto at = mapped_by_boot; at < space.highest_byte(); at += gibibyte) {
        auto* directory = static_cast<std::uint64_t*>(space.allocate(page_bytes));
        if (directory == nullptr) {
            return false;
        }
        for (unsigned i = 0; i < 512; ++i) {
            directory[i] = (at + (std::uint64_t{i} << 21)) | 0xe7; // as in boot.S
        }
        boot_pdpt[at / gibibyte] = reinterpret_cast<std::uint64_t>(directory) | 0x27;
    }
    asm volatile("" : : : "memory");
    return true;
}

} // namespace wherry::guest
