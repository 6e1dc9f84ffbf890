// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"
#include "vmm/device.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wherry::vmm {

/// Finds the device for a port or a physical address. Filled before the first vCPU runs, read
/// only from then on, hence used from all vCPU threads without a lock. Devices outlive it.
class IoBus {
public:
    /// Ports [first, first + count). Refuses, naming both devices, what overlaps.
    formats::Status attach_ports(std::uint16_t first, std::uint16_t count, Device& device);
    /// Physical addresses [first, first + size). Refuses what overlaps.
    formats::Status attach_memory(formats::Gpa first, formats::Bytes size, Device& device);

    /// An access that no device has whole reads as all ones, and its writes go nowhere, as on the
    /// bus of a PC.
    void port_read(std::uint16_t port, std::span<std::byte> data) const;
    void port_write(std::uint16_t port, std::span<const std::byte> data) const;
    void memory_read(formats::Gpa at, std::span<std::byte> data) const;
    void memory_write(formats::Gpa at, std::span<const std::byte> data) const;

private:
    struct Range {
        std::uint64_t first, end;
        Device* device;
    };
    class Map {
    public:
        formats::Status add(std::uint64_t first, std::uint64_t count, Device& device);
        void read(std::uint64_t at, std::span<std::byte> data) const;
        void write(std::uint64_t at, std::span<const std::byte> data) const;

    private:
        [[nodiscard]] const Range* find(std::uint64_t at, std::size_t size) const;
        std::vector<Range> ranges_; // sorted by first
    };
    Map ports_;
    Map memory_;
};

} // namespace wherry::vmm
