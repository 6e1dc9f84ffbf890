// SPDX-License-Identifier: Apache-2.0
#include "migrate/cancel_gate.hpp"

#include <atomic>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <doctest/doctest.h>

using namespace wherry::migrate;

TEST_SUITE("migrate.cancel_gate") {
    TEST_CASE("X01 X02 a request before the line is honoured, one after it is too late") {
        boost::asio::io_context io;
        CancelGate early{io.get_executor()};
        CHECK(early.request_cancel() == CancelAnswer::will_cancel);
        CHECK(early.request_cancel() == CancelAnswer::will_cancel);
        CHECK_FALSE(early.close());
        CancelGate late{io.get_executor()};
        CHECK(late.close());
        CHECK(late.request_cancel() == CancelAnswer::too_late);
        CHECK(late.is_closed());
        CHECK_FALSE(late.is_requested());
    }

    TEST_CASE("X02 the session hears of a request once, also of one that came before it") {
        boost::asio::io_context io;
        CancelGate gate{io.get_executor()};
        int heard = 0;
        gate.request_cancel();
        io.run();
        gate.on_request([&] { ++heard; });
        io.restart();
        io.run();
        CHECK(heard == 1);
        gate.request_cancel();
        io.restart();
        io.run();
        CHECK(heard == 1);
    }

    TEST_CASE("a session that stopped listening is not called") {
        boost::asio::io_context io;
        CancelGate gate{io.get_executor()};
        bool heard = false;
        gate.on_request([&] { heard = true; });
        gate.request_cancel();
        gate.on_request({});
        io.run();
        CHECK_FALSE(heard);
    }

    TEST_CASE("X01 of a request and the line exactly one wins, whatever the threads do") {
        boost::asio::io_context io;
        for (int i = 0; i < 200; ++i) {
            CancelGate gate{io.get_executor()};
            std::atomic<bool> go{false};
            CancelAnswer answer{};
            std::jthread other{[&] {
                while (!go) {
                }
                answer = gate.request_cancel();
            }};
            go = true;
            const bool closed = gate.close();
            other.join();
            CHECK(closed == (answer == CancelAnswer::too_late));
        }
    }
}
