// SPDX-License-Identifier: Apache-2.0
#include "formats/wire_frame.hpp"

#include "formats/little_endian.hpp"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

namespace wherry::formats {

namespace {

constexpr std::string_view preamble_magic = "WHERRYMG";
constexpr std::uint32_t frame_magic = 0x52464857; // "WHFR"
constexpr std::uint8_t header_version = 1;

// Offsets of the fields; see WIRE.md.
namespace preamble_at {
constexpr std::size_t minimum = 8;
constexpr std::size_t maximum = 12;
} // namespace preamble_at
namespace header_at {
constexpr std::size_t magic = 0;
constexpr std::size_t version = 4;
constexpr std::size_t type = 5;
constexpr std::size_t flags = 6;
constexpr std::size_t sequence = 8;
constexpr std::size_t length = 16;
constexpr std::size_t reserved = 20;
constexpr std::size_t payload_digest = 24;
constexpr std::size_t header_digest = 32;
} // namespace header_at
static_assert(preamble_at::maximum + sizeof(std::uint32_t) == preamble_size);
static_assert(header_at::header_digest + sizeof(std::uint64_t) == frame_header_size);

std::uint64_t header_digest_of(std::span<const std::byte> header) noexcept {
    return static_cast<std::uint64_t>(digest_of(header.first(header_at::header_digest)));
}

} // namespace

std::array<std::byte, preamble_size> encode_preamble(ProtocolRange range) noexcept {
    std::array<std::byte, preamble_size> bytes{};
    std::ranges::copy(std::as_bytes(std::span{preamble_magic}), bytes.begin());
    store_little(bytes, preamble_at::minimum, range.minimum);
    store_little(bytes, preamble_at::maximum, range.maximum);
    return bytes;
}

Result<ProtocolRange> decode_preamble(std::span<const std::byte, preamble_size> bytes) {
    if (!std::ranges::equal(
            bytes.first<preamble_magic.size()>(), std::as_bytes(std::span{preamble_magic}))) {
        return fail(
            ErrorCode::protocol,
            "the peer does not speak the wherry migration protocol: check that the address is "
            "that of a wherry instance");
    }
    const ProtocolRange range{
        .minimum = load_little<std::uint32_t>(bytes, preamble_at::minimum),
        .maximum = load_little<std::uint32_t>(bytes, preamble_at::maximum)};
    if (range.minimum == 0 || range.minimum > range.maximum) {
        return fail(
            ErrorCode::protocol,
            fmt::format(
                "the peer announces the impossible protocol versions {} to {}",
                range.minimum,
                range.maximum));
    }
    return range;
}

Result<std::uint32_t> agree_on_protocol(ProtocolRange ours, ProtocolRange theirs) {
    const std::uint32_t newest_of_both = std::min(ours.maximum, theirs.maximum);
    if (newest_of_both >= std::max(ours.minimum, theirs.minimum)) {
        return newest_of_both;
    }
    const bool we_are_older = ours.maximum < theirs.minimum;
    return fail(
        ErrorCode::version_mismatch,
        fmt::format(
            "no protocol version in common: this wherry speaks {} to {}, the peer {} to {}; "
            "upgrade {}",
            ours.minimum,
            ours.maximum,
            theirs.minimum,
            theirs.maximum,
            we_are_older ? "this host" : "the peer"));
}

FrameHeader
frame_for(FrameType type, std::uint64_t sequence, std::span<const std::byte> payload) noexcept {
    return FrameHeader{
        .type = type,
        .sequence = sequence,
        .payload_length = Bytes{payload.size()},
        .payload_digest = digest_of(payload)};
}

std::array<std::byte, frame_header_size> encode(const FrameHeader& header) noexcept {
    invariant(
        header.payload_length <= payload_limit(header.type),
        "a frame's payload is within the limit of its type");
    std::array<std::byte, frame_header_size> bytes{};
    store_little(bytes, header_at::magic, frame_magic);
    store_little(bytes, header_at::version, header_version);
    store_little(bytes, header_at::type, static_cast<std::uint8_t>(header.type));
    store_little(bytes, header_at::sequence, header.sequence);
    store_little(
        bytes, header_at::length, static_cast<std::uint32_t>(header.payload_length.value()));
    store_little(
        bytes, header_at::payload_digest, static_cast<std::uint64_t>(header.payload_digest));
    store_little(bytes, header_at::header_digest, header_digest_of(bytes));
    return bytes;
}

Result<FrameHeader> decode_frame_header(std::span<const std::byte, frame_header_size> bytes) {
    if (load_little<std::uint32_t>(bytes, header_at::magic) != frame_magic) {
        return fail(ErrorCode::protocol, "the peer sent bytes that are no wherry frame");
    }
    const auto version = load_little<std::uint8_t>(bytes, header_at::version);
    if (version != header_version) {
        return fail(
            ErrorCode::protocol,
            fmt::format("a frame has header version {}, not {}", version, header_version));
    }
    if (load_little<std::uint64_t>(bytes, header_at::header_digest) != header_digest_of(bytes)) {
        return fail(ErrorCode::corrupted, "the checksum of a frame header does not match");
    }
    const auto type = load_little<std::uint8_t>(bytes, header_at::type);
    const Bytes limit = payload_limit(static_cast<FrameType>(type));
    if (limit == Bytes{0}) {
        return fail(ErrorCode::protocol, fmt::format("a frame has the unknown type {}", type));
    }
    if (load_little<std::uint16_t>(bytes, header_at::flags) != 0 ||
        load_little<std::uint32_t>(bytes, header_at::reserved) != 0) {
        return fail(ErrorCode::protocol, "a frame has bits set that this version does not know");
    }
    const Bytes length{load_little<std::uint32_t>(bytes, header_at::length)};
    if (length > limit) {
        return fail(
            ErrorCode::protocol,
            fmt::format(
                "a frame of type {} announces {} bytes, more than the limit of {}",
                type,
                length.value(),
                limit.value()));
    }
    return FrameHeader{
        .type = static_cast<FrameType>(type),
        .sequence = load_little<std::uint64_t>(bytes, header_at::sequence),
        .payload_length = length,
        .payload_digest = Digest{load_little<std::uint64_t>(bytes, header_at::payload_digest)}};
}

Status check_payload(const FrameHeader& header, Digest digest) {
    if (digest == header.payload_digest) {
        return {};
    }
    return fail(
        ErrorCode::corrupted,
        fmt::format(
            "the checksum of frame {} does not match: its {} bytes were damaged on the way",
            header.sequence,
            header.payload_length.value()));
}

Status check_payload(const FrameHeader& header, std::span<const std::byte> payload) {
    return check_payload(header, digest_of(payload));
}

Status FrameSequence::accept(const FrameHeader& header) {
    if (header.sequence == next_) {
        ++next_;
        return {};
    }
    return fail(
        ErrorCode::protocol,
        fmt::format("frame {} came where frame {} was due", header.sequence, next_));
}

} // namespace wherry::formats
