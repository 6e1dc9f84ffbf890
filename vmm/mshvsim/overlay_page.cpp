// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/overlay_page.hpp"

#include <algorithm>

namespace wherry::vmm::mshvsim {

void OverlayPage::set_control(std::uint64_t value, const Contents& fresh) {
    if (value == control_) {
        return;
    }
    const bool was_enabled = is_enabled();
    held_ = was_enabled && (value & 1U) != 0 ? contents() : fresh;
    is_held_ = true;
    control_ = value;
    if (memory_.rights(gpa()).write) {
        settle();
    }
}

OverlayPage::Contents OverlayPage::contents() {
    Contents all{};
    read(0, all);
    return all;
}

void OverlayPage::set_contents(std::span<const std::byte> contents) {
    std::ranges::copy(contents.first(std::min(contents.size(), held_.size())), held_.begin());
    is_held_ = true;
    if (memory_.rights(gpa()).write) {
        settle();
    }
}

void OverlayPage::read(std::size_t at, std::span<std::byte> to) {
    if (!is_held_ && !memory_.read(gpa() + at, to)) {
        // The VMM took the guest's page away: it comes back empty, or not at all.
        memory_.touch(gpa(), Access::read);
        if (!memory_.read(gpa() + at, to)) {
            std::ranges::fill(to, std::byte{0});
        }
    } else if (is_held_) {
        std::ranges::copy(std::span{held_}.subspan(at, to.size()), to.begin());
    }
}

void OverlayPage::write(std::size_t at, std::span<const std::byte> from) {
    if (!is_held_ && memory_.write(gpa() + at, from)) {
        return;
    }
    if (!is_held_) {
        held_ = contents();
        is_held_ = true;
    }
    std::ranges::copy(from, held_.begin() + static_cast<std::ptrdiff_t>(at));
}

std::optional<std::uint64_t> OverlayPage::settle() {
    if (!is_held_ || !is_offered_ || !is_enabled()) {
        return std::nullopt;
    }
    if (!memory_.rights(gpa()).write) {
        const auto answer = memory_.touch(gpa(), Access::read);
        if (answer != MemoryFaults::Answer::resolved) {
            return answer == MemoryFaults::Answer::intercept ? std::optional{gpa()} : std::nullopt;
        }
        // A page that the guest may not write to has nothing laid over it, and is no fault.
        if (!memory_.rights(gpa()).write) {
            return std::nullopt;
        }
    }
    is_held_ = !memory_.write(gpa(), held_);
    return std::nullopt;
}

} // namespace wherry::vmm::mshvsim
