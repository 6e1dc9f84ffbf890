// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_digest.hpp"
#include "formats/page_run.hpp"
#include "formats/page_set.hpp"
#include "formats/result.hpp"
#include "formats/units.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace wherry::formats {

// The bytes are specified in WIRE.md. All numbers are little-endian.

/// The versions of the migration protocol a side speaks, both ends included.
struct ProtocolRange {
    std::uint32_t minimum;
    std::uint32_t maximum;
    friend bool operator==(ProtocolRange, ProtocolRange) = default;
};
inline constexpr ProtocolRange supported_protocol{.minimum = 2, .maximum = 2};

/// The first bytes of every channel, sent by both sides before anything else. Its layout never
/// changes, so that sides which have no version in common can still say so.
inline constexpr std::size_t preamble_size = 16;
std::array<std::byte, preamble_size> encode_preamble(ProtocolRange range) noexcept;
/// Fails with `protocol` where these are not the first bytes of a wherry channel.
Result<ProtocolRange> decode_preamble(std::span<const std::byte, preamble_size> bytes);
/// The newest version both speak, or version_mismatch naming both ranges and who is to upgrade.
Result<std::uint32_t> agree_on_protocol(ProtocolRange ours, ProtocolRange theirs);

enum class FrameType : std::uint8_t {
    control = 1,       ///< one message of control.proto
    page_batch = 2,    ///< see page_run.hpp
    machine_state = 3, ///< MachineState of machine.proto
    page_set = 4,      ///< see page_set.hpp
    probe = 5,         ///< bytes of no meaning, to measure a link
};

/// The most a payload of `type` may hold; checked before anything is allocated.
constexpr Bytes payload_limit(FrameType type) noexcept {
    switch (type) {
    case FrameType::control:
        return 1_MiB;
    case FrameType::page_batch:
        return page_batch_limit;
    case FrameType::machine_state:
        return 128_MiB;
    case FrameType::page_set:
        return page_set_limit;
    case FrameType::probe:
        return 1_MiB;
    }
    return Bytes{0};
}

inline constexpr std::size_t frame_header_size = 40;

struct FrameHeader {
    FrameType type;
    /// Consecutive from 0 in each direction of each channel.
    std::uint64_t sequence;
    Bytes payload_length;
    Digest payload_digest;
    friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

/// The header of a payload that lies in one piece. Precondition: it is within payload_limit.
FrameHeader
frame_for(FrameType type, std::uint64_t sequence, std::span<const std::byte> payload) noexcept;
std::array<std::byte, frame_header_size> encode(const FrameHeader& header) noexcept;
/// Total: any bytes give a header within its limits or an Error (`protocol`, or `corrupted` where
/// the header's own check does not match).
Result<FrameHeader> decode_frame_header(std::span<const std::byte, frame_header_size> bytes);
/// `corrupted` where `digest` is not the one the header announced.
Status check_payload(const FrameHeader& header, Digest digest);
Status check_payload(const FrameHeader& header, std::span<const std::byte> payload);

/// Hands out or checks the sequence numbers of one direction of one channel.
class FrameSequence {
public:
    [[nodiscard]] std::uint64_t next() noexcept { return next_++; }
    /// `protocol` where a frame is missing, repeated or out of order.
    Status accept(const FrameHeader& header);

private:
    std::uint64_t next_ = 0;
};

} // namespace wherry::formats
