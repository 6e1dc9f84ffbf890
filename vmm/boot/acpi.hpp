// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/units.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace wherry::vmm::boot {

/// The ACPI tables of a machine: RSDP (at the image's start), XSDT, FADT, MADT, DSDT. Hardware
/// reduced: no PIT, PIC, RTC, VGA or keyboard controller is promised; the guest finds its CPUs,
/// the IOAPIC, COM1 with its interrupt, reset and power-off (ACPI 6.4).
/// `vcpus` is 1 to platform_layout::max_vcpus; APIC id i is vCPU i. The image is meant for `at`,
/// which is 16-byte aligned.
std::vector<std::byte> acpi_tables(std::uint32_t vcpus, formats::Gpa at);

} // namespace wherry::vmm::boot
