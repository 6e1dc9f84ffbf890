// SPDX-License-Identifier: Apache-2.0
#include "transport/task.hpp"

#include "tests/unit/transport/support.hpp"
#include "transport/notification.hpp"

#include <stdexcept>
#include <thread>

#include <boost/asio/thread_pool.hpp>
#include <doctest/doctest.h>

namespace wherry::transport::test {
namespace {

Task<int> answer() {
    co_return 42;
}
Task<int> throwing() {
    co_await yield_now();
    throw std::runtime_error{"out of cheese"};
}
Task<int> wait_for(Notification& notification) {
    auto waited = co_await notification.wait();
    if (!waited) {
        co_return formats::fail(std::move(waited).error());
    }
    co_return 7;
}
// Ignores its cancellation once, to finish what it has begun.
Task<int> finish_although_cancelled(Notification& notification) {
    co_await notification.wait();
    co_return 9;
}
Task<int> wait_twice(Notification& notification, bool& second_was_cancelled) {
    co_await notification.wait();
    auto second = co_await notification.wait();
    second_was_cancelled = !second && second.error().code() == ErrorCode::cancelled;
    co_return 0;
}
Task<int> within_after(Notification& notification) {
    co_await notification.wait();
    co_return co_await within(1h, wait_for(notification));
}
Task<int> shielded_wait(Notification& notification) {
    co_return co_await shielded(wait_for(notification));
}
Task<std::thread::id> offloaded(Executor worker, std::thread::id& resumed_on) {
    auto where = co_await offload(
        worker, [] { return Result<std::thread::id>{std::this_thread::get_id()}; });
    resumed_on = std::this_thread::get_id();
    co_return where;
}
Task<int> offloaded_throw(Executor worker) {
    auto never = co_await offload(
        worker, []() -> Result<int> { throw std::runtime_error{"worker fell over"}; });
    co_return never;
}

TEST_SUITE("transport.task") {

    TEST_CASE("spawn delivers the result of a task") {
        asio::io_context io;
        const auto result = run(io, answer());
        REQUIRE(result);
        CHECK(*result == 42);
    }

    TEST_CASE("an exception becomes an internal error that keeps its text") {
        asio::io_context io;
        const auto result = run(io, throwing());
        REQUIRE(!result);
        CHECK(result.error().code() == ErrorCode::internal);
        CHECK(has(result.error(), "out of cheese"));
    }

    TEST_CASE("within passes a result, an error and an exception through") {
        asio::io_context io;
        const auto result = run(io, within(1h, answer()));
        REQUIRE(result);
        CHECK(*result == 42);
        const auto thrown = run(io, within(1h, throwing()));
        REQUIRE(!thrown);
        CHECK(thrown.error().code() == ErrorCode::internal);
    }

    TEST_CASE("within reports a timeout once the limit has passed") {
        asio::io_context io;
        Notification never{io.get_executor()};
        const auto result = run(io, within(1ms, wait_for(never)));
        REQUIRE(!result);
        CHECK(result.error().code() == ErrorCode::timed_out);
    }

    TEST_CASE("within keeps a result that was reached although the limit had passed") {
        asio::io_context io;
        Notification never{io.get_executor()};
        const auto result = run(io, within(1ms, finish_although_cancelled(never)));
        REQUIRE(result);
        CHECK(*result == 9);
    }

    TEST_CASE("cancellation reaches what a task waits for, through within") {
        asio::io_context io;
        Notification never{io.get_executor()};
        Running<int> running{io, within(1h, wait_for(never))};
        run_ready(io);
        REQUIRE(!running.is_done());
        running.cancel();
        run_ready(io);
        REQUIRE(running.is_done());
        REQUIRE(!running.outcome());
        CHECK(running.outcome().error().code() == ErrorCode::cancelled);
    }

    TEST_CASE("cancellation is sticky: the next wait fails too, also inside within") {
        asio::io_context io;
        Notification never{io.get_executor()};
        bool second_was_cancelled = false;
        Running<int> twice{io, wait_twice(never, second_was_cancelled)};
        Running<int> nested{io, within_after(never)};
        run_ready(io);
        twice.cancel();
        nested.cancel();
        run_ready(io);
        REQUIRE(twice.is_done());
        CHECK(second_was_cancelled);
        REQUIRE(nested.is_done());
        REQUIRE(!nested.outcome());
        CHECK(nested.outcome().error().code() == ErrorCode::cancelled);
    }

    TEST_CASE("shielded work is out of reach of cancellation") {
        asio::io_context io;
        Notification notification{io.get_executor()};
        Running<int> running{io, shielded_wait(notification)};
        run_ready(io);
        running.cancel();
        run_ready(io);
        REQUIRE(!running.is_done());
        notification.notify_all();
        run_ready(io);
        REQUIRE(running.is_done());
        REQUIRE(running.outcome());
        CHECK(*running.outcome() == 7);
    }

    TEST_CASE("offload runs on the worker and resumes at home") {
        asio::io_context io;
        asio::thread_pool pool{1};
        std::thread::id resumed_on;
        const auto where = run(io, offloaded(pool.get_executor(), resumed_on));
        REQUIRE(where);
        CHECK(*where != std::this_thread::get_id());
        CHECK(resumed_on == std::this_thread::get_id());
    }

    TEST_CASE("an exception on the worker arrives at home as an internal error") {
        asio::io_context io;
        asio::thread_pool pool{1};
        const auto result = run(io, offloaded_throw(pool.get_executor()));
        REQUIRE(!result);
        CHECK(result.error().code() == ErrorCode::internal);
        CHECK(has(result.error(), "worker fell over"));
    }

} // TEST_SUITE
} // namespace
} // namespace wherry::transport::test
