// SPDX-License-Identifier: Apache-2.0
#include "migrate/convergence.hpp"

#include <vector>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::Bytes;
using formats::PageCount;
using namespace std::chrono_literals;

namespace {

/// A round at 100 MiB/s over a second that left so many pages; 8 ms go on top of any blackout.
RoundObservation round_leaving(std::uint64_t pages) {
    RoundObservation round;
    round.wire_bytes = Bytes{std::uint64_t{100} << 20U};
    round.duration = 1s;
    round.remaining = PageCount{pages};
    round.fixed_cost = 8ms;
    return round;
}

/// What stays where it is when rounds do not get smaller.
Policy aborting() {
    Policy policy;
    policy.on_stall = OnStall::abort;
    return policy;
}

/// Slows the guest down, after a single round without gain.
Policy throttling() {
    Policy policy;
    policy.on_stall = OnStall::throttle;
    policy.stall_rounds = 1;
    return policy;
}

std::vector<Decision> decisions(Policy policy, const std::vector<std::uint64_t>& remaining) {
    Convergence convergence{policy};
    std::vector<Decision> made;
    for (const std::uint64_t pages : remaining) {
        made.push_back(convergence.after_round(round_leaving(pages)));
    }
    return made;
}

constexpr auto again = Decision::again;
constexpr auto over = Decision::switch_over;

} // namespace

TEST_SUITE("migrate.convergence") {
    TEST_CASE("the blackout is predicted from what is left, the goodput and the fixed cost") {
        Convergence convergence{{}};
        (void)convergence.after_round(round_leaving(25'600)); // 100 MiB
        CHECK(convergence.goodput() == BytesPerSecond{std::uint64_t{100} << 20U});
        CHECK(convergence.predicted_blackout() == 1s + 8ms);
    }

    TEST_CASE("nothing left to send means switching over") {
        CHECK(decisions({}, {0}) == std::vector{over});
    }

    TEST_CASE("V01 a round follows while the predicted blackout is above the goal") {
        CHECK(
            decisions({}, {100'000, 20'000, 5'000, 50}) == std::vector{again, again, again, over});
    }

    TEST_CASE("within the goal a few cheap rounds follow while each halves the blackout") {
        // 1,000 pages are 39 ms, 190 are 7.4 ms, 50 are 2 ms: not a quarter of what is fixed.
        CHECK(
            decisions({}, {100'000, 1'000, 190, 50, 10}) ==
            std::vector{again, again, again, over, over});
        // Not halved: no more of it.
        CHECK(decisions({}, {100'000, 2'000, 1'900}) == std::vector{again, again, over});
    }

    TEST_CASE("cheap rounds within the goal are at most three") {
        Policy policy;
        policy.downtime = 10s;
        CHECK(
            decisions(policy, {200'000, 90'000, 40'000, 19'000, 9'000}) ==
            std::vector{again, again, again, over, over});
    }

    TEST_CASE("a fixed cost above the goal is a stall, not an endless migration") {
        Policy policy = aborting();
        policy.downtime = 5ms;
        CHECK(decisions(policy, {10, 10, 10, 10, 10}).back() == Decision::give_up);
    }

    TEST_CASE("V02 rounds that do not get smaller end in giving up after stall_rounds of them") {
        Policy policy = aborting();
        policy.stall_rounds = 3;
        CHECK(
            decisions(policy, {100'000, 50'000, 49'000, 51'000, 50'000}) ==
            std::vector{again, again, again, again, Decision::give_up});
    }

    TEST_CASE("a gain begins the count of rounds without one anew") {
        Policy policy = aborting();
        policy.stall_rounds = 2;
        CHECK(
            decisions(policy, {100'000, 99'000, 50'000, 49'500, 20'000, 19'900, 19'800}) ==
            std::vector{again, again, again, again, again, again, Decision::give_up});
    }

    TEST_CASE("V03 a stall stops the guest where the policy says so") {
        Policy policy;
        policy.stall_rounds = 1;
        policy.on_stall = OnStall::stop;
        CHECK(
            decisions(policy, {100'000, 100'000}) ==
            std::vector{again, Decision::switch_over_late});
    }

    TEST_CASE("rounds that gain a little for ever end at max_rounds") {
        Policy policy = aborting();
        policy.max_rounds = 4;
        CHECK(
            decisions(policy, {1'000'000, 800'000, 600'000, 400'000}) ==
            std::vector{again, again, again, Decision::give_up});
    }

    TEST_CASE("a stall slows the guest down to what would halve the rounds, by a tenth at least") {
        Convergence convergence{throttling()};
        const auto stalled = [&](std::uint64_t sent, std::uint64_t left) {
            auto round = round_leaving(left);
            round.sent = PageCount{sent};
            return convergence.after_round(round);
        };
        CHECK(stalled(100'000, 100'000) == again); // the first one gains
        CHECK(convergence.throttle_percent() == 0);
        CHECK(stalled(100'000, 100'000) == again);
        CHECK(convergence.throttle_percent() == 50);
        CHECK(stalled(100'000, 100'000) == again);
        CHECK(convergence.throttle_percent() == 75);
        CHECK(stalled(400'000, 100'000) == again); // it would halve by itself, and does not
        CHECK(convergence.throttle_percent() == 85);
        CHECK(stalled(100'000, 100'000) == again);
        CHECK(convergence.throttle_percent() == 95);
        CHECK(stalled(100'000, 100'000) == again);
        CHECK(convergence.throttle_percent() == 99);
        CHECK(stalled(100'000, 100'000) == Decision::give_up);
        const auto text = convergence.explain(BytesPerSecond{1});
        CHECK(text.find("slowed down by 99 %") != std::string::npos);
    }

    TEST_CASE("a guest that is slowed down has its rounds, and goes on at once when told so") {
        Convergence convergence{throttling()};
        for (const std::uint64_t left : {100'000U, 100'000U, 40'000U, 15'000U}) {
            CHECK(convergence.after_round(round_leaving(left)) == again);
        }
        CHECK(convergence.throttle_percent() > 0);
        convergence.adopt(aborting());
        CHECK(convergence.throttle_percent() == 0);
        CHECK(convergence.after_round(round_leaving(2'000)) == again);
        CHECK(convergence.after_round(round_leaving(50)) == over);
    }

    TEST_CASE("a guest is not slowed down for a goal that no slowness reaches") {
        Policy policy = throttling();
        policy.downtime = 5ms;
        Convergence convergence{policy};
        CHECK(convergence.after_round(round_leaving(100)) == again);
        CHECK(convergence.after_round(round_leaving(100)) == Decision::give_up);
        CHECK(convergence.throttle_percent() == 0);
    }

    TEST_CASE("the deadline ends the rounds as a stall does, but for slowing down") {
        const auto late = [](OnStall on_stall) {
            Policy policy;
            policy.on_stall = on_stall;
            policy.deadline = 5s;
            Convergence convergence{policy};
            auto round = round_leaving(100'000);
            round.elapsed = 4s;
            CHECK(convergence.after_round(round) == again);
            CHECK_FALSE(convergence.is_late());
            round = round_leaving(50'000);
            round.elapsed = 5s;
            const auto decision = convergence.after_round(round);
            CHECK(convergence.is_late());
            CHECK(convergence.throttle_percent() == 0);
            return decision;
        };
        CHECK(late(OnStall::abort) == Decision::give_up);
        CHECK(late(OnStall::throttle) == Decision::give_up);
        CHECK(late(OnStall::stop) == Decision::switch_over_late);
    }

    TEST_CASE("a round that ends late and within the goal switches over all the same") {
        Policy policy;
        policy.deadline = 1s;
        Convergence convergence{policy};
        auto round = round_leaving(10);
        round.elapsed = 2s;
        CHECK(convergence.after_round(round) == over);
    }

    TEST_CASE("V05 a writer that has phases is waited for, and gets across in a calm one") {
        // A burst undoes what rounds have gained; within stall_rounds of them it is over.
        CHECK(
            decisions(
                aborting(), {100'000, 20'000, 80'000, 90'000, 60'000, 17'000, 3'000, 1'000, 50}) ==
            std::vector{again, again, again, again, again, again, again, again, over});
    }

    TEST_CASE("V05 one whose burst does not end is slowed down, and no more once it is calm") {
        Convergence convergence{throttling()};
        CHECK(convergence.after_round(round_leaving(20'000)) == again);
        CHECK(convergence.after_round(round_leaving(80'000)) == again);
        const auto slowed = convergence.throttle_percent();
        CHECK(slowed > 0);
        for (const std::uint64_t left : {15'000U, 12'000U, 9'000U, 6'000U}) {
            CHECK(convergence.after_round(round_leaving(left)) == again);
            CHECK(convergence.throttle_percent() == slowed);
        }
    }

    TEST_CASE("V06 a link that drops from 10 G to 100 M and recovers is measured as it is") {
        Convergence convergence{aborting()};
        const auto round = [&](double bits_per_second, std::uint64_t sent, std::uint64_t left) {
            RoundObservation seen;
            seen.sent = PageCount{sent};
            seen.wire_bytes = formats::bytes_of(seen.sent);
            seen.duration = std::chrono::duration_cast<Duration>(std::chrono::duration<double>{
                static_cast<double>(seen.wire_bytes.value()) * 8 / bits_per_second});
            seen.remaining = PageCount{left};
            seen.fixed_cost = 8ms;
            return convergence.after_round(seen);
        };
        CHECK(round(10e9, 1'000'000, 40'000) == again);
        CHECK(convergence.predicted_blackout() < 150ms);
        CHECK(round(100e6, 40'000, 300'000) == again);
        CHECK(convergence.predicted_blackout() > 90s);
        CHECK(round(100e6, 300'000, 400'000) == again);
        CHECK(round(10e9, 400'000, 20'000) == again); // it fits, and shrinks fast
        CHECK(convergence.predicted_blackout() < 100ms);
        CHECK(round(10e9, 20'000, 600) == over);
    }

    TEST_CASE("a tiny round does not change the measured goodput") {
        Convergence convergence{{}};
        (void)convergence.after_round(round_leaving(50'000));
        RoundObservation tiny;
        tiny.wire_bytes = Bytes{4096};
        tiny.duration = 50ms;
        tiny.remaining = PageCount{50'000};
        (void)convergence.after_round(tiny);
        CHECK(convergence.goodput() == BytesPerSecond{std::uint64_t{100} << 20U});
    }

    TEST_CASE("a round of zero pages alone measures nothing and promises nothing") {
        Convergence convergence{{}};
        RoundObservation empty;
        empty.duration = 1s;
        empty.remaining = PageCount{1};
        CHECK(convergence.after_round(empty) == Decision::again);
        CHECK(convergence.predicted_blackout() > 100ms);
    }

    TEST_CASE("giving up names the numbers and a downtime that would do") {
        Convergence convergence{{}};
        (void)convergence.after_round(round_leaving(25'600));
        const auto text = convergence.explain(BytesPerSecond{std::uint64_t{200} << 20U});
        for (const char* part :
             {"after 1 rounds",
              "100.0 MiB are left",
              "200.0 MiB/s",
              "1008 ms",
              "goal of 100 ms",
              "--downtime 1260ms"}) {
            CAPTURE(part);
            CHECK(text.find(part) != std::string::npos);
        }
    }
}
