// SPDX-License-Identifier: Apache-2.0
#include "migrate/policy.hpp"

#include <doctest/doctest.h>

using namespace wherry::migrate;
using wherry::formats::ErrorCode;
using namespace std::chrono_literals;

TEST_SUITE("migrate.policy") {
    TEST_CASE("the defaults are valid, with a downtime of 100 ms") {
        CHECK(Policy{}.check());
        CHECK(Policy{}.downtime == 100ms);
        CHECK_FALSE(Policy{}.on_stall); // what both sides can do decides
        CHECK_FALSE(Policy{}.recover_timeout);
        CHECK_FALSE(Policy{}.deadline);
    }

    TEST_CASE("a value that cannot be is refused by name") {
        const auto refusal = [](auto change) {
            Policy policy;
            change(policy);
            const auto status = policy.check();
            REQUIRE_FALSE(status);
            CHECK(status.error().code() == ErrorCode::invalid_argument);
            return status.error().text();
        };
        CHECK(refusal([](Policy& p) { p.downtime = 0ms; }).find("downtime") != std::string::npos);
        CHECK(refusal([](Policy& p) { p.silence = 1ms; }).find("silence") != std::string::npos);
        CHECK(refusal([](Policy& p) { p.deadline = 1ms; }).find("deadline") != std::string::npos);
        CHECK(refusal([](Policy& p) { p.max_rounds = 0; }).find("round") != std::string::npos);
        CHECK(refusal([](Policy& p) {
                  p.bandwidth = BytesPerSecond{1};
              }).find("bandwidth") != std::string::npos);
    }

    TEST_CASE("a stall is answered by hybrid where both sides can, else by throttling") {
        CHECK(default_on_stall(HybridSupport::both_sides) == OnStall::hybrid);
        CHECK(default_on_stall(HybridSupport::none) == OnStall::throttle);
        CHECK(Policy{}.mode == Mode::precopy);
    }

    TEST_CASE("the answer to a stall is abort, stop, throttle or hybrid") {
        CHECK(on_stall_from("abort") == OnStall::abort);
        CHECK(on_stall_from("stop") == OnStall::stop);
        CHECK(on_stall_from("throttle") == OnStall::throttle);
        CHECK(on_stall_from("hybrid") == OnStall::hybrid);
        CHECK(on_stall_from("halt").error().text().find("'halt'") != std::string::npos);
    }
}
