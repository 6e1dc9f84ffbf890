// SPDX-License-Identifier: Apache-2.0
#include "tools/quantities.hpp"

#include <string>

#include <doctest/doctest.h>

using namespace wherry::tools;
using wherry::formats::Bytes;
using namespace std::chrono_literals;

TEST_SUITE("tools.quantities") {
    TEST_CASE("a size takes binary suffixes") {
        CHECK(parse_size("4096").value() == Bytes{4096});
        CHECK(parse_size("64K").value() == Bytes{64ULL << 10U});
        CHECK(parse_size("512M").value() == Bytes{512ULL << 20U});
        CHECK(parse_size("2G").value() == Bytes{2ULL << 30U});
        CHECK(parse_size("1T").value() == Bytes{1ULL << 40U});
        CHECK(parse_size("2GiB").value() == Bytes{2ULL << 30U});
    }

    TEST_CASE("what is no size is refused, quoting it") {
        for (const std::string text :
             {"", "G", "-1", "+1", "1.5G", "1g", "1GB", "1 G", "0x10", "1GiBs", "17179869184G"}) {
            CAPTURE(text);
            const auto size = parse_size(text);
            REQUIRE_FALSE(size.has_value());
            CHECK(size.error().text().find("'" + text + "'") != std::string::npos);
        }
    }

    TEST_CASE("the largest size still fits") {
        CHECK(parse_size("16777215T").has_value());
        CHECK_FALSE(parse_size("16777216T").has_value());
    }

    TEST_CASE("a time needs its unit") {
        CHECK(parse_duration("100ms").value() == 100ms);
        CHECK(parse_duration("2s").value() == 2s);
        CHECK(parse_duration("5m").value() == 5min);
        for (const std::string text : {"", "100", "ms", "1h", "-1s", "1.5s", "99999999999m"}) {
            CAPTURE(text);
            CHECK_FALSE(parse_duration(text).has_value());
        }
    }

    TEST_CASE("an option that is not given is zero, and one that is given must be right") {
        CHECK(parse_optional_size("").value() == Bytes{0});
        CHECK(parse_optional_size("2K").value() == Bytes{2048});
        CHECK_FALSE(parse_optional_size("-1").has_value());
        CHECK(parse_optional_duration("").value() == 0ms);
        CHECK(parse_optional_duration("2s").value() == 2s);
        CHECK_FALSE(parse_optional_duration("2").has_value());
    }

    TEST_CASE("amounts are written for people") {
        CHECK(format_bytes(12) == "12 B");
        CHECK(format_bytes(1536) == "1.5 KiB");
        CHECK(format_bytes(640.0 * 1024 * 1024) == "640 MiB");
        CHECK(format_rate(1.5 * 1024 * 1024 * 1024) == "1.5 GiB/s");
        CHECK(format_duration(3200us) == "3.2 ms");
        CHECK(format_duration(1400ms) == "1.4 s");
        CHECK(format_duration(161s) == "02:41");
        CHECK(format_duration(3661s) == "1:01:01");
    }
}
