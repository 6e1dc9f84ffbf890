// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/boot/boot.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace wherry::vmm::boot {

/// What the setup header of a bzImage says (Linux, Documentation/x86/boot.rst).
struct BzImage {
    std::uint16_t protocol = 0;          ///< 0x020f is 2.15
    std::string version;                 ///< "6.1.0-56-cloud-amd64", or empty
    std::uint64_t preferred_address = 0; ///< where it is to be loaded
    std::uint64_t initial_size = 0;      ///< RAM it wants from there on while it unpacks itself
    std::uint32_t initrd_highest_byte = 0;
    std::uint32_t command_line_size = 0; ///< the final NUL not counted
    std::span<const std::byte> header;   ///< lent; belongs to `header_offset` of boot_params
    std::span<const std::byte> kernel;   ///< lent; the protected-mode part
    static constexpr std::size_t header_offset = 0x1f1;
};

[[nodiscard]] bool is_bzimage(std::span<const std::byte> file) noexcept;

/// Total over any bytes. Refuses with invalid_argument what is truncated, too old (before 2.12)
/// or has no 64-bit entry. What it returns lends from `file`.
formats::Result<BzImage> parse_bzimage(std::span<const std::byte> file);

/// Starts it by the 64-bit boot protocol.
formats::Result<InitialVcpu>
load_bzimage(GuestMemory& memory, const BootImages& images, const PlatformOptions& options);

} // namespace wherry::vmm::boot
