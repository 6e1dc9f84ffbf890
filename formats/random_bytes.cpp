// SPDX-License-Identifier: Apache-2.0
#include "formats/random_bytes.hpp"

#include <cerrno>
#include <iterator>

#include <fmt/format.h>

#include <sys/random.h>

namespace wherry::formats {

Status fill_randomly(std::span<std::byte> bytes, std::string_view purpose) {
    constexpr std::size_t come_whole_or_not_at_all = 256; // getrandom(2)
    invariant(bytes.size() <= come_whole_or_not_at_all, "so few random bytes come at once");
    ssize_t got = 0;
    do {
        got = ::getrandom(bytes.data(), bytes.size(), 0);
    } while (got < 0 && errno == EINTR);
    if (got != std::ssize(bytes)) {
        return fail(system_error(errno, fmt::format("getting random bytes for {}", purpose)));
    }
    return {};
}

} // namespace wherry::formats
