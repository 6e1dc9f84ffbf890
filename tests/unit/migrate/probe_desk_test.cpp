// SPDX-License-Identifier: Apache-2.0
// Sources that do not keep to a probe.
#include "probe_visit.hpp"

#include <cstdint>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::tests;
using formats::ErrorCode;
using formats::FrameType;
using migrate::Control;
using migrate::SessionChannel;

TEST_SUITE("migrate.probe_desk") {
    TEST_CASE("S06: a source that does not keep to a probe is shown out") {
        const auto check_shown_out = [](ProbeVisit& visit, SessionChannel& strange) {
            auto told = visit.result_of(strange.expect(Control::kProbed));
            while (told) {
                told = visit.result_of(strange.expect(Control::kProbed));
            }
            CHECK(told.error().code() == ErrorCode::protocol);
            CHECK(strange.peer_has_failed());
            visit.check_a_migration_gets_in();
        };
        SUBCASE("bytes before the plan") {
            ProbeVisit visit;
            auto strange = visit.strange_source();
            REQUIRE(visit.send(*strange, FrameType::probe, 4096));
            check_shown_out(visit, *strange);
        }
        SUBCASE("frames of nothing") {
            ProbeVisit visit;
            auto strange = visit.strange_source();
            visit.send_plan(*strange);
            REQUIRE(visit.send(*strange, FrameType::probe, 0));
            check_shown_out(visit, *strange);
        }
        SUBCASE("pages") {
            ProbeVisit visit;
            auto strange = visit.strange_source();
            visit.send_plan(*strange);
            REQUIRE(visit.send(*strange, FrameType::page_batch, 4096));
            check_shown_out(visit, *strange);
        }
        SUBCASE("another plan") {
            ProbeVisit visit;
            auto strange = visit.strange_source();
            visit.send_plan(*strange);
            Control message;
            to_proto(visit.asked.plan, *message.mutable_plan());
            REQUIRE(visit.result_of(strange->send(message)));
            check_shown_out(visit, *strange);
        }
        SUBCASE("a plan of nothing") {
            ProbeVisit visit;
            auto strange = visit.strange_source();
            Control message;
            message.mutable_plan();
            REQUIRE(visit.result_of(strange->send(message)));
            check_shown_out(visit, *strange);
        }
        SUBCASE("more than the limit") {
            ProbeVisit visit;
            auto strange = visit.strange_source();
            visit.send_plan(*strange);
            constexpr std::size_t size = std::size_t{1} << 20U;
            for (std::uint64_t sent = 0; sent < migrate::probe_limit.value(); sent += size) {
                REQUIRE(visit.send(*strange, FrameType::probe, size));
                REQUIRE(visit.result_of(strange->expect(Control::kProbed)));
            }
            REQUIRE(visit.send(*strange, FrameType::probe, 1));
            check_shown_out(visit, *strange);
        }
    }

    TEST_CASE("S06: a source that takes too long is shown out, and so is one that says nothing") {
        for (const bool is_silent : {true, false}) {
            CAPTURE(is_silent);
            ProbeVisit visit;
            if (is_silent) {
                visit.asked.policy.silence = 200ms; // the reception's too
            } else {
                visit.desk.limit = 50ms;
            }
            auto strange = visit.strange_source();
            const auto told = visit.result_of(strange->expect(Control::kProbed));
            REQUIRE_FALSE(told);
            CHECK(told.error().code() == ErrorCode::timed_out);
            visit.check_a_migration_gets_in();
        }
    }
}
