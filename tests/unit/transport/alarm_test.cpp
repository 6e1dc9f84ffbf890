// SPDX-License-Identifier: Apache-2.0
#include "transport/alarm.hpp"

#include <optional>

#include <boost/asio/io_context.hpp>
#include <doctest/doctest.h>

using namespace wherry;
using namespace std::chrono_literals;

TEST_SUITE("transport.alarm") {
    TEST_CASE("it rings once, after the time") {
        boost::asio::io_context io;
        transport::Alarm alarm{io.get_executor()};
        int rung = 0;
        alarm.set(1ms, [&rung] { ++rung; });
        io.run();
        CHECK(rung == 1);
    }

    TEST_CASE("set anew it rings for the new one only") {
        boost::asio::io_context io;
        transport::Alarm alarm{io.get_executor()};
        std::string rung;
        alarm.set(0ms, [&rung] { rung += "a"; });
        alarm.set(1ms, [&rung] { rung += "b"; });
        io.run();
        CHECK(rung == "b");
    }

    TEST_CASE("silenced or destroyed it does not ring, though its time had passed already") {
        boost::asio::io_context io;
        std::optional<transport::Alarm> gone{io.get_executor()};
        transport::Alarm silenced{io.get_executor()};
        int rung = 0;
        gone->set(0ms, [&rung] { ++rung; });
        silenced.set(0ms, [&rung] { ++rung; });
        boost::asio::post(io, [&] {
            gone.reset();
            silenced.silence();
        });
        io.run();
        CHECK(rung == 0);
    }
}
