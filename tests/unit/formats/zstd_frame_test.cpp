// SPDX-License-Identifier: Apache-2.0
#include "formats/zstd_frame.hpp"

#include "formats/little_endian.hpp"

#include <vector>

#include <doctest/doctest.h>

using namespace wherry::formats;

namespace {

std::vector<std::byte> frame_of(const std::vector<std::byte>& contents) {
    ZstdCompressor compressor{1};
    const auto frame = compressor.compress(contents);
    return {frame.begin(), frame.end()};
}

} // namespace

TEST_SUITE("formats.zstd_frame") {

    TEST_CASE("contents come back from a frame as they were") {
        std::vector<std::byte> contents(300'000);
        for (std::size_t at = 0; at < contents.size(); ++at) {
            contents[at] = static_cast<std::byte>(at * at / 777);
        }
        CHECK(frame_of(contents).size() < contents.size());
        CHECK(decompress_zstd(frame_of(contents), Bytes{contents.size()}) == contents);
        CHECK(decompress_zstd(frame_of({}), Bytes{0}) == std::vector<std::byte>{});
    }

    TEST_CASE("a frame is refused that") {
        const std::vector<std::byte> contents(1U << 20U, std::byte{7});
        auto frame = frame_of(contents);
        const auto refused = [](std::span<const std::byte> bytes, Bytes limit) {
            const auto read = decompress_zstd(bytes, limit);
            return read || read.error().code() != ErrorCode::corrupted ? "" : read.error().text();
        };
        CHECK(refused(frame, 1_MiB).empty());
        SUBCASE("holds more than it may, before it takes the memory") {
            CHECK(
                refused(frame, 1_MiB - Bytes{1}) ==
                "its zstd frame says that it holds 1048576 bytes, more than the limit of 1048575");
        }
        SUBCASE("holds more than it says") {
            // The content size of a frame of this size is four bytes behind magic, descriptor and
            // window.
            REQUIRE(load_little<std::uint32_t>(frame, 6) == contents.size());
            store_little(std::span{frame}, 6, std::uint32_t{1U << 19U});
            CHECK(refused(frame, 1_MiB) == "its zstd frame is damaged");
        }
        SUBCASE("is cut off, goes on, or is none") {
            CHECK(refused(std::span{frame}.first(frame.size() - 1), 1_MiB).contains("one whole"));
            frame.push_back(std::byte{0});
            CHECK(refused(frame, 1_MiB).contains("one whole"));
            CHECK(refused(contents, 1_MiB).contains("not a zstd frame"));
            CHECK(refused({}, 1_MiB).contains("not a zstd frame"));
        }
    }
}
