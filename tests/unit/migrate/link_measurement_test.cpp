// SPDX-License-Identifier: Apache-2.0
#include "migrate/link_measurement.hpp"

#include <algorithm>
#include <functional>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::migrate;
using namespace std::chrono_literals;
using formats::Bytes;
using formats::ErrorCode;
using formats::operator""_MiB;

namespace {

using Time = LinkMeasurement::Time;

constexpr std::uint64_t mib = std::uint64_t{1} << 20U;

/// A link on a clock of its own, which carries so many MiB/s at each time since the beginning.
struct Link {
    std::function<double(Duration)> rate;
    Duration delay = 1ms; ///< until the destination's word is here
    std::optional<BytesPerSecond> limit{};

    Duration took{};
    std::uint64_t most_under_way = 0;

    LinkMeasurement measured() {
        const Time begun{};
        LinkMeasurement measurement{begun, limit};
        double allowed = 0;
        double carried = 0;
        std::uint64_t sent = 0;
        std::vector<std::uint64_t> words(static_cast<std::size_t>(delay / 1ms), 0);
        Time now = begun;
        while (true) {
            auto piece = measurement.next_piece(now);
            allowed += limit ? static_cast<double>(limit->value()) / 1000 : 1e12;
            while (piece.value() > 0 && measurement.has_room(piece) && allowed > 0) {
                measurement.sent(piece);
                sent += piece.value();
                allowed -= static_cast<double>(piece.value());
                piece = measurement.next_piece(now);
            }
            most_under_way = std::max(most_under_way, sent - measurement.arrived().value());
            if (piece.value() == 0 && measurement.is_all_counted()) {
                break;
            }
            now += 1ms;
            carried = std::min(
                carried + rate(now - begun) * static_cast<double>(mib) / 1000,
                static_cast<double>(sent));
            words.push_back(static_cast<std::uint64_t>(carried));
            REQUIRE(measurement.counted(Bytes{words.front()}, now));
            words.erase(words.begin());
            REQUIRE(now - begun < 1min);
        }
        took = now - begun;
        return measurement;
    }
};

std::function<double(Duration)> steady(double mib_per_second) {
    return [mib_per_second](Duration) {
        return mib_per_second;
    };
}

double in_mib(BytesPerSecond rate) {
    return static_cast<double>(rate.value()) / static_cast<double>(mib);
}

} // namespace

TEST_SUITE("migrate.link_measurement") {
    TEST_CASE("a steady link is found to carry what it does, at any rate") {
        for (const double rate : {0.1, 1.0, 10.0, 100.0, 1000.0, 5000.0}) {
            CAPTURE(rate);
            Link link{steady(rate)};
            const auto measured = link.measured();
            CHECK(in_mib(measured.rate().usual) == doctest::Approx(rate).epsilon(0.05));
            CHECK(measured.rate().low <= measured.rate().usual);
            CHECK(in_mib(measured.rate().low) > rate * 0.8);
            CHECK(measured.arrived() <= probe_limit);
            CHECK(link.took < 4s); // a slow one has little to get rid of
        }
    }

    TEST_CASE("a long way does not make a link slower, once it is filled") {
        Link link{steady(500), 20ms};
        CHECK(in_mib(link.measured().rate().usual) == doctest::Approx(500).epsilon(0.05));
    }

    TEST_CASE("how a connection finds its pace does not count") {
        Link link{[](Duration since) {
            return since < 200ms ? 20.0 : 100.0;
        }};
        CHECK(in_mib(link.measured().rate().usual) == doctest::Approx(100).epsilon(0.05));
    }

    TEST_CASE("a link that is slower for a while has a low rate that says so") {
        Link link{[](Duration since) {
            return since > 600ms && since < 700ms ? 20.0 : 100.0;
        }};
        const auto rate = link.measured().rate();
        CHECK(in_mib(rate.usual) == doctest::Approx(90).epsilon(0.05));
        CHECK(in_mib(rate.low) < 25);
    }

    TEST_CASE("no more is sent than the limits say, of bytes, of time and of what is under way") {
        Link fast{steady(10'000)};
        CHECK(fast.measured().arrived() == probe_limit);
        CHECK(fast.took < longest_probe);
        CHECK(fast.most_under_way <= window_limit.value());
        Link slow{steady(2)};
        const auto measured = slow.measured();
        CHECK(slow.took >= longest_probe);
        CHECK(slow.most_under_way <= measured.arrived().value() / 2 + mib);
        Link limited{steady(1000), 1ms, BytesPerSecond{10 * mib}};
        const auto within_limit = limited.measured();
        CHECK(within_limit.arrived() <= 11_MiB);
        CHECK(in_mib(within_limit.rate().usual) == doctest::Approx(10).epsilon(0.1));
    }

    TEST_CASE("a destination that has counted what was not sent, or less than before, is refused") {
        LinkMeasurement measurement{Time{}, {}};
        const auto piece = measurement.next_piece(Time{});
        REQUIRE(piece.value() > 0);
        measurement.sent(piece);
        CHECK(
            measurement.counted(piece + Bytes{1}, Time{} + 1ms).error().code() ==
            ErrorCode::protocol);
        CHECK(measurement.counted(piece, Time{} + 1ms));
        CHECK(
            measurement.counted(piece - Bytes{1}, Time{} + 2ms).error().code() ==
            ErrorCode::protocol);
        CHECK(measurement.is_all_counted());
    }
}
