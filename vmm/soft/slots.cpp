// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/slots.hpp"

#include <algorithm>
#include <cstring>

namespace wherry::vmm::soft {

namespace {
constexpr std::uint64_t page_size = 4096;
}

Slots::Slot* Slots::numbered(std::uint32_t number) {
    const auto found = std::ranges::find_if(
        slots_, [number](const auto& entry) { return entry.second.place.number == number; });
    return found == slots_.end() ? nullptr : &found->second;
}

Slots::Slot* Slots::at(std::uint64_t gfn) {
    if (last_ != nullptr && gfn - last_->place.first_gfn < last_->place.pages) {
        return last_;
    }
    auto after = slots_.upper_bound(gfn);
    if (after == slots_.begin()) {
        return nullptr;
    }
    Slot& slot = (--after)->second;
    if (gfn - slot.place.first_gfn >= slot.place.pages) {
        return nullptr;
    }
    last_ = &slot;
    return last_;
}

std::byte* Slots::find(std::uint64_t gpa, std::uint64_t& left) {
    const Slot* const slot = at(gpa / page_size);
    if (slot == nullptr) {
        return nullptr;
    }
    const std::uint64_t offset = gpa - slot->place.first_gfn * page_size;
    left = slot->place.pages * page_size - offset;
    return reinterpret_cast<std::byte*>(slot->place.host + offset);
}

void Slots::add(const mshvsim::EngineSlot& place) {
    Slot& slot = slots_[place.first_gfn];
    slot.place = place;
    set_logged(slot, place.is_logged);
    last_ = nullptr;
    count_logged();
}

void Slots::remove(std::uint32_t number) {
    std::erase_if(
        slots_, [number](const auto& entry) { return entry.second.place.number == number; });
    last_ = nullptr;
    count_logged();
}

void Slots::set_logged(Slot& slot, bool is_logged) {
    slot.place.is_logged = is_logged;
    slot.written.assign(is_logged ? (slot.place.pages + 63) / 64 : 0, 0);
}

void Slots::count_logged() {
    logged_ = static_cast<std::size_t>(std::ranges::count_if(
        slots_, [](const auto& entry) { return entry.second.place.is_logged; }));
}

void Slots::mark(std::uint64_t gpa) {
    const std::uint64_t gfn = gpa / page_size;
    Slot* const slot = at(gfn);
    if (slot != nullptr && !slot->written.empty()) {
        const std::uint64_t page = gfn - slot->place.first_gfn;
        slot->written[page / 64] |= std::uint64_t{1} << (page % 64);
    }
}

bool Slots::read(std::uint64_t gpa, std::span<std::byte> to) {
    while (!to.empty()) {
        std::uint64_t left = 0;
        const std::byte* const from = find(gpa, left);
        if (from == nullptr) {
            return false;
        }
        const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(left, to.size()));
        std::memcpy(to.data(), from, part);
        to = to.subspan(part);
        gpa += part;
    }
    return true;
}

} // namespace wherry::vmm::soft
