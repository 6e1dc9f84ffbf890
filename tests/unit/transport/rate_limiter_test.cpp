// SPDX-License-Identifier: Apache-2.0
#include "transport/rate_limiter.hpp"

#include "tests/unit/transport/support.hpp"

#include <doctest/doctest.h>

namespace wherry::transport::test {
namespace {

using formats::Bytes;

struct Limited {
    asio::io_context io;
    std::chrono::steady_clock::time_point now{};
    RateLimiter limiter{io.get_executor(), [this] {
                            return now;
                        }};
};

TEST_SUITE("transport.rate_limiter") {

    TEST_CASE("nothing is held up until a rate is set") {
        Limited at;
        for (int i = 0; i < 100; ++i) {
            CHECK(at.limiter.try_take(Bytes{1U << 30U}) == Duration::zero());
        }
    }

    TEST_CASE("over time the rate is what was asked for") {
        Limited at;
        at.limiter.set_rate(BytesPerSecond{1'000'000});
        std::uint64_t taken = 0;
        const auto end = at.now + 10s;
        while (at.now < end) {
            const auto delay = at.limiter.try_take(Bytes{4096});
            if (delay == Duration::zero()) {
                taken += 4096;
            } else {
                at.now += delay;
            }
        }
        CHECK(taken >= 9'990'000);
        CHECK(taken <= 10'010'000);
    }

    TEST_CASE("idle time is not saved up beyond a tenth of a second") {
        Limited at;
        at.limiter.set_rate(BytesPerSecond{1000});
        at.now += 1h;
        CHECK(at.limiter.try_take(Bytes{101}) == Duration::zero());
        CHECK(at.limiter.try_take(Bytes{1}) > Duration::zero());
    }

    TEST_CASE("a taking larger than the bucket leaves a debt that time pays") {
        Limited at;
        at.limiter.set_rate(BytesPerSecond{1000});
        CHECK(at.limiter.try_take(Bytes{500}) == Duration::zero());
        CHECK(at.limiter.try_take(Bytes{1}) == 500ms);
        at.now += 499ms;
        CHECK(at.limiter.try_take(Bytes{1}) > Duration::zero());
        at.now += 1ms;
        CHECK(at.limiter.try_take(Bytes{1}) == Duration::zero());
    }

    TEST_CASE("a slower rate does not stretch a debt that exists") {
        Limited at;
        at.limiter.set_rate(BytesPerSecond{1'000'000});
        CHECK(at.limiter.try_take(Bytes{1'000'000}) == Duration::zero());
        at.limiter.set_rate(BytesPerSecond{10});
        CHECK(at.limiter.try_take(Bytes{1}) == 1s);
    }

    TEST_CASE("lifting the limit frees those who wait") {
        Limited at;
        at.limiter.set_rate(BytesPerSecond{1});
        CHECK(at.limiter.try_take(Bytes{1'000'000}) == Duration::zero());
        Running<void> waiting{at.io, at.limiter.take(Bytes{1})};
        run_ready(at.io);
        REQUIRE(!waiting.is_done());
        at.limiter.set_rate(std::nullopt);
        run_ready(at.io);
        REQUIRE(waiting.is_done());
        CHECK(waiting.outcome());
    }

    TEST_CASE("a wait for the rate can be cancelled") {
        Limited at;
        at.limiter.set_rate(BytesPerSecond{1});
        CHECK(at.limiter.try_take(Bytes{1'000'000}) == Duration::zero());
        Running<void> waiting{at.io, at.limiter.take(Bytes{1})};
        run_ready(at.io);
        waiting.cancel();
        run_ready(at.io);
        REQUIRE(waiting.is_done());
        REQUIRE(!waiting.outcome());
        CHECK(waiting.outcome().error().code() == ErrorCode::cancelled);
    }

} // TEST_SUITE
} // namespace
} // namespace wherry::transport::test
