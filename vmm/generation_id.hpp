// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <string>

namespace wherry::vmm {

/// The VM generation id of Microsoft's specification: 128 bits that a guest finds in its memory, at
/// platform_layout::generation_id, and that change when the guest becomes another VM than it was,
/// but not when it moves. What must not be in two VMs (random numbers, keys, leases) is thrown away
/// then.
struct GenerationId {
    /// As the guest's memory has them.
    std::array<std::byte, 16> bytes{};

    /// At random, from the kernel.
    static GenerationId make();
    /// 32 hexadecimal digits, byte by byte.
    [[nodiscard]] std::string to_string() const;
    friend bool operator==(const GenerationId&, const GenerationId&) = default;
};

} // namespace wherry::vmm
