// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/units.hpp"

#include <cstdint>

/// Where things are in every machine: what the devices, the ACPI tables and the guests agree on.
/// These values are part of the machine's contract with its guest and never change.
namespace wherry::vmm::platform_layout {

inline constexpr std::uint16_t serial_port = 0x3f8; ///< COM1, 8 ports
inline constexpr std::uint32_t serial_pin = 4;      ///< its IOAPIC pin

/// ACPI hardware-reduced registers, one byte each (ACPI 6.4, 4.8.3.7 and 4.8.3.6).
inline constexpr std::uint16_t sleep_control_port = 0x600;
inline constexpr std::uint16_t sleep_status_port = 0x601;
inline constexpr std::uint16_t reset_port = 0x602;
inline constexpr std::uint8_t reset_value = 1;
inline constexpr std::uint8_t soft_off_type = 5; ///< SLP_TYPx of \_S5

inline constexpr formats::Gpa io_apic{0xfec00000};
inline constexpr formats::Bytes io_apic_size{0x1000};
inline constexpr std::uint32_t io_apic_pins = 24;
inline constexpr std::uint8_t io_apic_id = 0;
inline constexpr formats::Gpa local_apic{0xfee00000};

/// The page that the VM generation id has for itself. It is RAM, but the guest is told that it is
/// reserved. The id is not at its begin, where a search for option ROMs looks.
inline constexpr formats::Gpa generation_page{0xdf000};
inline constexpr formats::Gpa generation_id = generation_page + formats::Bytes{0x40};
/// The IOAPIC pin of ACPI's generic event device: the generation id has changed.
inline constexpr std::uint32_t event_pin = 9;

/// APIC ids are 8 bits wide here, and 255 is the broadcast.
inline constexpr std::uint32_t max_vcpus = 254;

} // namespace wherry::vmm::platform_layout
