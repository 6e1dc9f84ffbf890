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
        CHECK(Policy{}.on_stall == OnStall::throttle);
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

    TEST_CASE("the answer to a stall is abort, stop or throttle") {
        CHECK(on_stall_from("abort") == OnStall::abort);
        CHECK(on_stall_from("stop") == OnStall::stop);
        CHECK(on_stall_from("throttle") == OnStall::throttle);
        CHECK(on_stall_from("halt").error().text().find("'halt'") != std::string::npos);
    }
}
