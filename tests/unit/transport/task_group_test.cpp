// SPDX-License-Identifier: Apache-2.0
#include "transport/task_group.hpp"

#include "tests/unit/transport/support.hpp"
#include "transport/io_thread.hpp"

#include <optional>
#include <thread>

#include <doctest/doctest.h>

namespace wherry::transport::test {
namespace {

Task<void> wait_on(Notification& notification) {
    co_return co_await notification.wait();
}
Task<void> fail_with(ErrorCode code) {
    co_await yield_now();
    co_return formats::fail(code, "as asked");
}
Task<void> note_thread_and_wait(std::thread::id& thread, Notification& notification) {
    thread = std::this_thread::get_id();
    co_return co_await notification.wait();
}
Task<void> nothing() {
    co_return Status{};
}

TEST_SUITE("transport.task_group") {

    TEST_CASE("join waits for every child") {
        asio::io_context io;
        Notification go{io.get_executor()};
        TaskGroup group{io.get_executor()};
        REQUIRE(group.start(wait_on(go)));
        REQUIRE(group.start(wait_on(go)));
        Running<void> joined{io, group.join()};
        run_ready(io);
        CHECK(!joined.is_done());
        CHECK(group.running() == 2);
        go.notify_all();
        run_ready(io);
        REQUIRE(joined.is_done());
        CHECK(joined.outcome());
        CHECK(group.running() == 0);
    }

    TEST_CASE("a child works on another thread, is cancelled from here, and reports here") {
        asio::io_context io;
        IoThread other;
        Notification never{other.executor()};
        TaskGroup group{io.get_executor()};
        const auto here = std::this_thread::get_id();
        auto worked_on = here;
        auto reported_on = std::thread::id{};
        auto report = [&](const Status& outcome) {
            CHECK(outcome.error().code() == ErrorCode::cancelled);
            reported_on = std::this_thread::get_id();
        };
        REQUIRE(group.start_on(other.executor(), note_thread_and_wait(worked_on, never), report));
        group.cancel();
        std::optional<Status> joined;
        spawn(io.get_executor(), group.join(), [&](const Status& outcome) { joined = outcome; });
        while (!joined && io.run_one() > 0) {
        }
        REQUIRE(joined);
        CHECK(*joined);
        CHECK(worked_on != here);
        CHECK(reported_on == here);
    }

    TEST_CASE("join reports the first failure; the others go on unless told otherwise") {
        asio::io_context io;
        Notification go{io.get_executor()};
        TaskGroup group{io.get_executor()};
        group.start(wait_on(go));
        group.start(fail_with(ErrorCode::protocol));
        Running<void> joined{io, group.join()};
        run_ready(io);
        CHECK(group.running() == 1);
        go.notify_all();
        run_ready(io);
        REQUIRE(joined.is_done());
        REQUIRE(!joined.outcome());
        CHECK(joined.outcome().error().code() == ErrorCode::protocol);
    }

    TEST_CASE("the first failure cancels its siblings, and their ends do not hide it") {
        asio::io_context io;
        Notification never{io.get_executor()};
        TaskGroup group{io.get_executor(), TaskGroup::OnFailure::cancel_siblings};
        group.start(wait_on(never));
        group.start(fail_with(ErrorCode::corrupted));
        const auto joined = run(io, group.join());
        REQUIRE(!joined);
        CHECK(joined.error().code() == ErrorCode::corrupted);
        CHECK(!group.start(nothing()));
    }

    TEST_CASE("a cancelled group refuses new children, and join finds nothing wrong") {
        asio::io_context io;
        Notification never{io.get_executor()};
        TaskGroup group{io.get_executor()};
        std::optional<Status> seen;
        group.start(wait_on(never), [&](const Status& outcome) { seen = outcome; });
        run_ready(io);
        group.cancel();
        CHECK(!group.start(nothing()));
        CHECK(run(io, group.join()));
        REQUIRE(seen);
        REQUIRE(!*seen);
        CHECK(seen->error().code() == ErrorCode::cancelled);
    }

    TEST_CASE("end stops every child, waits for them, and is silent about their failures") {
        asio::io_context io;
        Notification never{io.get_executor()};
        TaskGroup group{io.get_executor()};
        REQUIRE(group.start(wait_on(never)));
        REQUIRE(group.start(fail_with(ErrorCode::protocol)));
        Running<void> ended{io, group.end()};
        run_ready(io);
        REQUIRE(ended.is_done());
        CHECK(ended.outcome());
        CHECK(group.running() == 0);
        CHECK(!group.start(nothing()));
    }

    TEST_CASE("cancelling who joins cancels the children, waits for them, and is no success") {
        asio::io_context io;
        Notification never{io.get_executor()};
        TaskGroup group{io.get_executor()};
        group.start(wait_on(never));
        Running<void> joined{io, group.join()};
        run_ready(io);
        joined.cancel();
        run_ready(io);
        REQUIRE(joined.is_done());
        CHECK(group.running() == 0);
        // Their work is not done.
        REQUIRE(!joined.outcome());
        CHECK(joined.outcome().error().code() == ErrorCode::cancelled);
    }

} // TEST_SUITE
} // namespace
} // namespace wherry::transport::test
