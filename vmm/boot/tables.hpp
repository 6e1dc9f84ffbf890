// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/boot/boot.hpp"

#include <optional>

namespace wherry::vmm::boot {

/// Where the pieces are that every boot protocol passes on.
struct CommonTables {
    std::optional<formats::Gpa> rsdp; ///< absent: no interrupt controller, no ACPI
    std::optional<formats::Gpa> initrd;
};

/// Writes command line, generation id, initrd and ACPI tables. `kernel_end` is one past the RAM
/// that the kernel uses; `initrd_limit` one past the highest byte that an initrd may have;
/// `line_limit` the longest command line without its NUL.
formats::Result<CommonTables> write_common_tables(
    GuestMemory& memory,
    const BootImages& images,
    const PlatformOptions& options,
    formats::Gpa kernel_end,
    formats::Gpa initrd_limit,
    formats::Bytes line_limit);

} // namespace wherry::vmm::boot
