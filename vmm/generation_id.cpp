// SPDX-License-Identifier: Apache-2.0
#include "vmm/generation_id.hpp"

#include "formats/hexadecimal.hpp"
#include "formats/random_bytes.hpp"

namespace wherry::vmm {

GenerationId GenerationId::make() {
    GenerationId id;
    const auto filled = formats::fill_randomly(id.bytes, "a VM generation id");
    formats::invariant(filled.has_value(), "the kernel gives 16 random bytes");
    return id;
}

std::string GenerationId::to_string() const {
    return formats::hexadecimal(bytes);
}

} // namespace wherry::vmm
