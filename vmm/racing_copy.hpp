// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace wherry::vmm {

/// memcpy between guest RAM and memory of ours while vCPUs and devices may write the same bytes.
/// The one deliberate data race of the program: torn bytes are possible, and whoever copies for
/// migration learns from the dirty log that it must copy again. Ranges do not overlap.
void racing_copy(std::byte* into, const std::byte* from, std::size_t size) noexcept;

} // namespace wherry::vmm
