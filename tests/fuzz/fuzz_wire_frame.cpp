// SPDX-License-Identifier: Apache-2.0
#include "formats/little_endian.hpp"
#include "formats/wire_frame.hpp"
#include "fuzz_target.hpp"

#include <algorithm>
#include <array>

using namespace wherry::formats;

namespace {

void try_preamble(std::span<const std::byte, preamble_size> bytes) {
    if (const auto range = decode_preamble(bytes)) {
        invariant(
            std::ranges::equal(encode_preamble(*range), bytes),
            "an accepted preamble encodes to the same bytes");
        if (const auto version = agree_on_protocol(supported_protocol, *range)) {
            invariant(
                *version >= range->minimum && *version <= range->maximum &&
                    *version >= supported_protocol.minimum &&
                    *version <= supported_protocol.maximum,
                "an agreed version is in both ranges");
        }
    }
}

void try_header(std::span<const std::byte, frame_header_size> bytes) {
    if (const auto header = decode_frame_header(bytes)) {
        invariant(
            header->payload_length <= payload_limit(header->type),
            "an accepted payload is within its limit");
        invariant(
            std::ranges::equal(encode(*header), bytes),
            "an accepted header encodes to the same bytes");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span{data, size});
    if (input.size() >= preamble_size) {
        try_preamble(input.first<preamble_size>());
    }
    if (input.size() >= frame_header_size) {
        try_header(input.first<frame_header_size>());
        // Again with the checksum that an attacker would compute.
        std::array<std::byte, frame_header_size> bytes{};
        std::ranges::copy(input.first<frame_header_size>(), bytes.begin());
        constexpr std::size_t checked = frame_header_size - sizeof(std::uint64_t);
        store_little(
            bytes,
            checked,
            static_cast<std::uint64_t>(digest_of(std::span{bytes}.first<checked>())));
        try_header(bytes);
    }
    return 0;
}
