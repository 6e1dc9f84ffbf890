// SPDX-License-Identifier: Apache-2.0
#include "formats/wire_frame.hpp"

#include "formats/little_endian.hpp"

#include <algorithm>
#include <random>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry::formats;

namespace {

using HeaderBytes = std::array<std::byte, frame_header_size>;

FrameHeader some_header() {
    return {
        .type = FrameType::page_batch,
        .sequence = 0x0102030405060708,
        .payload_length = Bytes{4096},
        .payload_digest = Digest{0x1122334455667788}};
}

/// As a sender that follows the rules otherwise would have it.
HeaderBytes with_checksum(HeaderBytes bytes) {
    const auto digest = digest_of(std::span{bytes}.first<32>());
    store_little(bytes, 32, static_cast<std::uint64_t>(digest));
    return bytes;
}

template <typename Number>
HeaderBytes changed(std::size_t offset, Number value) {
    HeaderBytes bytes = encode(some_header());
    store_little(bytes, offset, value);
    return with_checksum(bytes);
}

ErrorCode fault_of(const HeaderBytes& bytes) {
    const auto header = decode_frame_header(bytes);
    REQUIRE_FALSE(header);
    return header.error().code();
}

std::array<std::byte, preamble_size> preamble(std::string_view text) {
    std::array<std::byte, preamble_size> bytes{};
    std::ranges::copy(std::as_bytes(std::span{text}).first(preamble_size), bytes.begin());
    return bytes;
}

} // namespace

TEST_SUITE("formats.wire_frame") {

    TEST_CASE("a header has these bytes") {
        const HeaderBytes bytes = encode(some_header());
        CHECK(load_little<std::uint32_t>(bytes, 0) == 0x52464857);
        CHECK(std::string_view{reinterpret_cast<const char*>(bytes.data()), 4} == "WHFR");
        CHECK(bytes[4] == std::byte{1});
        CHECK(bytes[5] == std::byte{2});
        CHECK(load_little<std::uint64_t>(bytes, 8) == 0x0102030405060708);
        CHECK(load_little<std::uint32_t>(bytes, 16) == 4096);
        CHECK(load_little<std::uint64_t>(bytes, 24) == 0x1122334455667788);
    }

    TEST_CASE("a header survives the way over the wire") {
        const auto back = decode_frame_header(encode(some_header()));
        REQUIRE(back);
        CHECK(*back == some_header());
    }

    TEST_CASE("every single flipped bit of a header is noticed") {
        const HeaderBytes good = encode(some_header());
        for (std::size_t at = 0; at < good.size(); ++at) {
            for (unsigned bit = 0; bit < 8; ++bit) {
                HeaderBytes bad = good;
                bad[at] ^= std::byte{1} << bit;
                CHECK_FALSE(decode_frame_header(bad));
            }
        }
    }

    TEST_CASE("a header is refused when it breaks one rule with a good checksum") {
        CHECK(fault_of(changed<std::uint32_t>(0, 0x12345678)) == ErrorCode::protocol); // magic
        CHECK(fault_of(changed<std::uint8_t>(4, 2)) == ErrorCode::protocol);           // version
        CHECK(fault_of(changed<std::uint8_t>(5, 0)) == ErrorCode::protocol);           // type
        CHECK(fault_of(changed<std::uint8_t>(5, 6)) == ErrorCode::protocol);
        CHECK(fault_of(changed<std::uint8_t>(5, 255)) == ErrorCode::protocol);
        CHECK(fault_of(changed<std::uint16_t>(6, 1)) == ErrorCode::protocol);  // flags
        CHECK(fault_of(changed<std::uint32_t>(20, 1)) == ErrorCode::protocol); // reserved
        HeaderBytes damaged = encode(some_header());
        damaged[39] ^= std::byte{1};
        CHECK(fault_of(damaged) == ErrorCode::corrupted);
    }

    TEST_CASE("a payload at the limit of its type is taken and one byte more is refused") {
        for (const auto type :
             {FrameType::control,
              FrameType::page_batch,
              FrameType::machine_state,
              FrameType::page_set,
              FrameType::probe}) {
            HeaderBytes bytes = encode(
                {.type = type,
                 .sequence = 0,
                 .payload_length = payload_limit(type),
                 .payload_digest = Digest{}});
            CHECK(decode_frame_header(bytes));
            store_little(bytes, 16, static_cast<std::uint32_t>(payload_limit(type).value() + 1));
            CHECK(fault_of(with_checksum(bytes)) == ErrorCode::protocol);
            store_little(bytes, 16, std::uint32_t{0xffffffff});
            CHECK(fault_of(with_checksum(bytes)) == ErrorCode::protocol);
        }
    }

    TEST_CASE("any bytes give a header that encodes to the same bytes, or an error") {
        std::mt19937_64 random{2};
        for (int turn = 0; turn < 20'000; ++turn) {
            HeaderBytes bytes = encode(some_header());
            for (std::uint64_t changes = random() % 4; changes > 0; --changes) {
                bytes[random() % 32] = static_cast<std::byte>(random());
            }
            bytes = with_checksum(bytes);
            if (const auto header = decode_frame_header(bytes)) {
                CHECK(encode(*header) == bytes);
            }
        }
    }

    TEST_CASE("a payload that was damaged is noticed") {
        std::vector<std::byte> payload(100, std::byte{7});
        const FrameHeader header = frame_for(FrameType::control, 5, payload);
        CHECK(header.payload_length == Bytes{100});
        CHECK(check_payload(header, payload));
        payload[50] = std::byte{8};
        CHECK(check_payload(header, payload).error().code() == ErrorCode::corrupted);
    }

    TEST_CASE("a frame that is missing, repeated or out of order is noticed") {
        FrameSequence sender;
        FrameSequence receiver;
        FrameHeader header = some_header();
        for (int i = 0; i < 3; ++i) {
            header.sequence = sender.next();
            CHECK(receiver.accept(header));
        }
        CHECK(header.sequence == 2);
        CHECK(receiver.accept(header).error().code() == ErrorCode::protocol); // again
        header.sequence = 4;
        CHECK_FALSE(receiver.accept(header)); // 3 is missing
        header.sequence = 3;
        CHECK(receiver.accept(header));
    }

    TEST_CASE("a preamble survives the way over the wire") {
        const ProtocolRange range{.minimum = 2, .maximum = 7};
        const auto bytes = encode_preamble(range);
        CHECK(std::string_view{reinterpret_cast<const char*>(bytes.data()), 8} == "WHERRYMG");
        CHECK(decode_preamble(bytes).value() == range);
    }

    TEST_CASE("what is not a wherry peer is told from one of another version") {
        for (const std::string_view garbage :
             {"GET / HTTP/1.1\r\n",
              "SSH-2.0-OpenSSH_9",
              "\x16\x03\x01\x02\xfa\x01\x01\xfc\x03\x03 TLS..."}) {
            CHECK(decode_preamble(preamble(garbage)).error().code() == ErrorCode::protocol);
        }
        const auto newer = decode_preamble(encode_preamble({.minimum = 900, .maximum = 901}));
        REQUIRE(newer);
        const auto agreed = agree_on_protocol(supported_protocol, *newer);
        REQUIRE_FALSE(agreed);
        CHECK(agreed.error().code() == ErrorCode::version_mismatch);
        CHECK(agreed.error().text().ends_with("the peer 900 to 901; upgrade this host"));
    }

    TEST_CASE("impossible versions are refused") {
        CHECK_FALSE(decode_preamble(encode_preamble({.minimum = 0, .maximum = 1})));
        CHECK_FALSE(decode_preamble(encode_preamble({.minimum = 3, .maximum = 2})));
    }

    TEST_CASE("two sides agree on the newest version that both speak") {
        CHECK(agree_on_protocol({.minimum = 1, .maximum = 5}, {.minimum = 3, .maximum = 9}) == 5U);
        CHECK(agree_on_protocol({.minimum = 3, .maximum = 9}, {.minimum = 1, .maximum = 5}) == 5U);
        CHECK(agree_on_protocol({.minimum = 1, .maximum = 1}, {.minimum = 1, .maximum = 1}) == 1U);
        const auto older =
            agree_on_protocol({.minimum = 4, .maximum = 5}, {.minimum = 1, .maximum = 3});
        CHECK(older.error().text().ends_with("upgrade the peer"));
    }

} // TEST_SUITE
