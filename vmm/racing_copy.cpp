// SPDX-License-Identifier: Apache-2.0
#include "vmm/racing_copy.hpp"

namespace wherry::vmm {

// The string instruction, not memcpy: ThreadSanitizer replaces memcpy by a copy that reports the
// race even here. Processors since 2013 copy so at full speed (ERMS).
void racing_copy(std::byte* into, const std::byte* from, std::size_t size) noexcept {
    asm volatile("rep movsb" : "+D"(into), "+S"(from), "+c"(size) : : "memory");
}

} // namespace wherry::vmm
