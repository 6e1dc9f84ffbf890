// SPDX-License-Identifier: Apache-2.0
#include "transport/byte_stream.hpp"

#include <array>
#include <utility>

#include <fmt/format.h>

namespace wherry::transport {

Task<void> ByteStream::read_exactly(std::span<std::byte> into) {
    while (!into.empty()) {
        auto got = co_await read_some(into);
        if (!got) {
            co_return formats::fail(std::move(got).error());
        }
        if (*got == 0) {
            co_return formats::fail(
                formats::ErrorCode::connection_lost,
                fmt::format("the stream from {} ended in the middle of what was expected", peer()));
        }
        into = into.subspan(*got);
    }
    co_return formats::Status{};
}

Task<void> ByteStream::write_all(std::span<const std::byte> bytes) {
    const std::array parts{bytes};
    co_return co_await write_all(Gather{parts});
}

} // namespace wherry::transport
