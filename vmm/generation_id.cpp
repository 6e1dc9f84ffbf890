// SPDX-License-Identifier: Apache-2.0
#include "vmm/generation_id.hpp"

#include "formats/error.hpp"

#include <cerrno>
#include <iterator>

#include <fmt/format.h>

#include <sys/random.h>

namespace wherry::vmm {

GenerationId GenerationId::make() {
    GenerationId id;
    ssize_t got = 0;
    do {
        got = ::getrandom(id.bytes.data(), id.bytes.size(), 0);
    } while (got < 0 && errno == EINTR);
    formats::invariant(got == std::ssize(id.bytes), "getrandom gives 16 bytes at once");
    return id;
}

std::string GenerationId::to_string() const {
    std::string text;
    for (const std::byte byte : bytes) {
        text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
    }
    return text;
}

} // namespace wherry::vmm
