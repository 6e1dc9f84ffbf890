// SPDX-License-Identifier: Apache-2.0
#include "vmm/io_bus.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

namespace wherry::vmm {

using formats::ErrorCode;
using formats::fail;
using formats::Status;

Status IoBus::Map::add(std::uint64_t first, std::uint64_t count, Device& device) {
    if (count == 0 || count > std::numeric_limits<std::uint64_t>::max() - first) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("{}: a range of {:#x} at {:#x}", device.id(), count, first));
    }
    const Range added{.first = first, .end = first + count, .device = &device};
    const auto next = std::ranges::lower_bound(ranges_, first, {}, &Range::first);
    const Range* clash = nullptr;
    if (next != ranges_.end() && next->first < added.end) {
        clash = &*next;
    } else if (next != ranges_.begin() && std::prev(next)->end > first) {
        clash = &*std::prev(next);
    }
    if (clash != nullptr) {
        return fail(
            ErrorCode::already_exists,
            fmt::format(
                "{} at {:#x} to {:#x} overlaps {} at {:#x} to {:#x}",
                device.id(),
                added.first,
                added.end,
                clash->device->id(),
                clash->first,
                clash->end));
    }
    ranges_.insert(next, added);
    return {};
}

const IoBus::Range* IoBus::Map::find(std::uint64_t at, std::size_t size) const {
    const auto after = std::ranges::upper_bound(ranges_, at, {}, &Range::first);
    if (after == ranges_.begin()) {
        return nullptr;
    }
    const Range& range = *std::prev(after);
    return at < range.end && size <= range.end - at ? &range : nullptr;
}

void IoBus::Map::read(std::uint64_t at, std::span<std::byte> data) const {
    std::ranges::fill(data, std::byte{0xff});
    if (const Range* range = find(at, data.size()); range != nullptr) {
        range->device->read(at - range->first, data);
    }
}

void IoBus::Map::write(std::uint64_t at, std::span<const std::byte> data) const {
    if (const Range* range = find(at, data.size()); range != nullptr) {
        range->device->write(at - range->first, data);
    }
}

Status IoBus::attach_ports(std::uint16_t first, std::uint16_t count, Device& device) {
    if (count > 0x1'0000U - first) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("{}: {} ports from {:#x} are too many", device.id(), count, first));
    }
    return ports_.add(first, count, device);
}
Status IoBus::attach_memory(formats::Gpa first, formats::Bytes size, Device& device) {
    return memory_.add(first.value(), size.value(), device);
}
void IoBus::port_read(std::uint16_t port, std::span<std::byte> data) const {
    ports_.read(port, data);
}
void IoBus::port_write(std::uint16_t port, std::span<const std::byte> data) const {
    ports_.write(port, data);
}
void IoBus::memory_read(formats::Gpa at, std::span<std::byte> data) const {
    memory_.read(at.value(), data);
}
void IoBus::memory_write(formats::Gpa at, std::span<const std::byte> data) const {
    memory_.write(at.value(), data);
}

} // namespace wherry::vmm
