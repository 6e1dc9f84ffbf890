// SPDX-License-Identifier: Apache-2.0
// When the guest goes on at the destination before all of its memory is there.
#include "migrate/convergence.hpp"

#include <string>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::bytes_of;
using formats::PageCount;
using namespace std::chrono_literals;

namespace {

/// 100 MiB/s; 8 ms go on top of any blackout.
RoundObservation round_of(std::uint64_t sent, std::uint64_t left) {
    constexpr double per_second = 25'600;
    RoundObservation round;
    round.sent = PageCount{sent};
    round.wire_bytes = bytes_of(round.sent);
    round.duration = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>{static_cast<double>(sent) / per_second});
    round.remaining = PageCount{left};
    round.fixed_cost = 8ms;
    return round;
}

Policy hybrid() {
    Policy policy;
    policy.mode = Mode::hybrid;
    return policy;
}

Policy precopy_or_hybrid() {
    Policy policy;
    policy.on_stall = OnStall::hybrid;
    policy.stall_rounds = 2;
    return policy;
}

} // namespace

TEST_SUITE("migrate.convergence.hybrid") {
    TEST_CASE("V04 a guest that dirties all it has goes on there after one pass") {
        Convergence convergence{hybrid()};
        CHECK(convergence.after_round(round_of(500'000, 260'000)) == Decision::go_hybrid);
        CHECK(convergence.predicted_blackout() == Duration{8ms});
    }

    TEST_CASE("V04 rounds are made as long as each has at most half of the last to send") {
        Convergence convergence{hybrid()};
        CHECK(convergence.after_round(round_of(500'000, 250'000)) == Decision::again);
        CHECK(convergence.after_round(round_of(250'000, 100'000)) == Decision::again);
        CHECK(convergence.after_round(round_of(100'000, 50'001)) == Decision::go_hybrid);
    }

    TEST_CASE("V04 zero pages cost nothing, and a round of them is no measure of the next") {
        Convergence convergence{hybrid()};
        auto round = round_of(500'000, 100'000);
        round.wire_bytes = bytes_of(PageCount{120'000});
        CHECK(convergence.after_round(round) == Decision::go_hybrid);
    }

    TEST_CASE("V04 what fits into the blackout is sent in it, and nothing goes missing") {
        Convergence convergence{hybrid()};
        CHECK(convergence.after_round(round_of(500'000, 50)) == Decision::switch_over);
    }

    TEST_CASE("V04 a deadline ends the rounds of hybrid mode by going on there") {
        Policy policy = hybrid();
        policy.deadline = 5s;
        Convergence convergence{policy};
        auto round = round_of(500'000, 100'000);
        round.elapsed = 20s;
        CHECK(convergence.after_round(round) == Decision::go_hybrid);
    }

    TEST_CASE("V04 hybrid mode has max_rounds too") {
        Policy policy = hybrid();
        policy.max_rounds = 1;
        Convergence convergence{policy};
        CHECK(convergence.after_round(round_of(500'000, 100'000)) == Decision::go_hybrid);
    }

    TEST_CASE("V04 as the answer to a stall it waits for one, and slows nobody down") {
        Convergence convergence{precopy_or_hybrid()};
        CHECK(convergence.after_round(round_of(500'000, 260'000)) == Decision::again);
        CHECK(convergence.after_round(round_of(260'000, 260'000)) == Decision::again);
        CHECK(convergence.after_round(round_of(260'000, 260'000)) == Decision::go_hybrid);
        CHECK(convergence.throttle_percent() == 0);
        CHECK(convergence.predicted_blackout() == Duration{8ms});
    }

    TEST_CASE("V04 as the answer to a stall it is the answer to a deadline and to max_rounds") {
        Policy late = precopy_or_hybrid();
        late.deadline = 5s;
        auto round = round_of(500'000, 100'000);
        round.elapsed = 5s;
        CHECK(Convergence{late}.after_round(round) == Decision::go_hybrid);
        Policy few = precopy_or_hybrid();
        few.max_rounds = 1;
        CHECK(Convergence{few}.after_round(round_of(500'000, 100'000)) == Decision::go_hybrid);
    }

    TEST_CASE("V04 a first pass is in vain if it leaves more than a quarter to be sent twice") {
        struct Case {
            const char* guest;
            std::uint64_t sent, dirtied_by_half, dirtied;
            bool is_in_vain;
        };
        constexpr PageCount total{524'288};
        const Case cases[]{
            {"half of its memory, at random", 50'000, 25'000, 48'000, true},
            {"all of it, one after another", 50'000, 20'000, 40'000, true},
            {"the same near the end of the pass", 420'000, 20'000, 40'000, false},
            {"an eighth of it, all of which it has written soon", 25'000, 60'000, 64'000, false},
            {"a little, quickly", 5'000, 8'000, 16'000, false},
            {"nothing in the first half, a burst in the second", 50'000, 0, 60'000, false},
            {"before anything is sent", 0, 100'000, 200'000, false},
            {"when all is sent", total.value(), 100'000, 200'000, false},
        };
        for (const Case& each : cases) {
            CAPTURE(std::string{each.guest});
            const PassObservation seen{
                .total = total,
                .sent = PageCount{each.sent},
                .dirtied_by_half = PageCount{each.dirtied_by_half},
                .dirtied = PageCount{each.dirtied}};
            CHECK(Convergence{hybrid()}.is_pass_in_vain(seen) == each.is_in_vain);
            CHECK_FALSE(Convergence{precopy_or_hybrid()}.is_pass_in_vain(seen));
        }
    }

    TEST_CASE("V04 P01 in a hurry it goes on there after whatever was sent, in any mode") {
        Policy policy;
        policy.on_stall = OnStall::abort;
        policy.deadline = 5s;
        Convergence convergence{policy};
        CHECK(convergence.after_round(round_of(500'000, 100'000)) == Decision::again);
        convergence.hurry();
        auto round = round_of(1000, 120'000); // it gets smaller, and is late
        round.elapsed = 6s;
        CHECK(convergence.after_round(round) == Decision::go_hybrid);
        CHECK(convergence.predicted_blackout() == Duration{8ms});
        CHECK_FALSE(convergence.is_late());
        Convergence without_a_page{policy};
        without_a_page.hurry();
        CHECK(without_a_page.after_round(round_of(0, 500'000)) == Decision::go_hybrid);
    }

    TEST_CASE("V04 P01 in a hurry what fits into the blackout is sent in it, without polishing") {
        CHECK(Convergence{{}}.after_round(round_of(500'000, 1000)) == Decision::again);
        Convergence convergence{{}};
        convergence.hurry();
        CHECK(convergence.after_round(round_of(500'000, 1000)) == Decision::switch_over);
    }

    TEST_CASE("V04 a guest that was slowed down is free when its stalls get this answer") {
        Policy policy;
        policy.on_stall = OnStall::throttle;
        policy.stall_rounds = 1;
        Convergence convergence{policy};
        CHECK(convergence.after_round(round_of(260'000, 260'000)) == Decision::again);
        CHECK(convergence.after_round(round_of(260'000, 260'000)) == Decision::again);
        CHECK(convergence.throttle_percent() > 0);
        convergence.adopt(precopy_or_hybrid());
        CHECK(convergence.throttle_percent() == 0);
    }
}
