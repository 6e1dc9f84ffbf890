// SPDX-License-Identifier: Apache-2.0
// What each side hears of what is in the other's way, over one connection and the next.
#include "migrate/control_link.hpp"

#include "transport/memory_stream.hpp"

#include <memory>
#include <string>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <doctest/doctest.h>

using namespace wherry;
using namespace std::chrono_literals;
using formats::Side;
using migrate::ControlLink;
using migrate::SessionChannel;

namespace {

/// Two sides in this process and thread.
struct Ends {
    boost::asio::io_context io;
    int changes = 0; ///< of what the source hears of the destination's way
    ControlLink source{
        Side::source,
        io.get_executor(),
        {.on_word = {},
         .on_peer_trouble = [this] { ++changes; },
         .on_missing = {},
         .on_placed = {},
         .on_lost =
             [](const formats::Error&) {
             }}};
    ControlLink destination{
        Side::destination,
        io.get_executor(),
        {.on_word = {},
         .on_peer_trouble = {},
         .on_missing = {},
         .on_placed = {},
         .on_lost = [](const formats::Error&) {
         }}};

    void connect() {
        auto pair = transport::make_memory_pair(io.get_executor());
        run(source.adopt(
            std::make_unique<SessionChannel>(std::move(pair.first), Side::source, 10s)));
        run(destination.adopt(
            std::make_unique<SessionChannel>(std::move(pair.second), Side::destination, 10s)));
    }
    void disconnect() {
        run(source.rest());
        run(destination.rest());
        source.drop();
        destination.drop();
    }
    void run(transport::Task<void> task) {
        bool is_done = false;
        transport::spawn(
            io.get_executor(), std::move(task), [&is_done](const formats::Status& ended) {
                CHECK(ended);
                is_done = true;
            });
        io.restart();
        while (!is_done && io.run_one() > 0) {
        }
    }
    void run_until_change(int count) {
        io.restart();
        while (changes < count && io.run_one() > 0) {
        }
    }
    std::string heard() { return source.with_peer_trouble("It waits"); }
};

} // namespace

TEST_SUITE("migrate.control_link") {

    TEST_CASE("F04 a side hears what is in the other's way, and that it is no more") {
        Ends ends;
        ends.connect();
        CHECK(ends.heard() == "It waits");
        ends.destination.set_trouble("the disk is\nfull");
        ends.run_until_change(1);
        CHECK(ends.heard() == "It waits (the destination says: the disk is?full)");
        ends.destination.set_trouble("the disk is\nfull"); // no news
        ends.destination.set_trouble("");
        ends.run_until_change(2);
        CHECK(ends.heard() == "It waits");
        CHECK(ends.destination.with_peer_trouble("It waits") == "It waits");
        ends.disconnect();
    }

    TEST_CASE("F04 what was in the other's way before a connection was lost is forgotten") {
        Ends ends;
        ends.connect();
        ends.destination.set_trouble("the disk is full");
        ends.run_until_change(1);
        ends.disconnect();
        CHECK(ends.heard() == "It waits (the destination says: the disk is full)");
        ends.destination.set_trouble("");
        ends.connect();
        CHECK(ends.heard() == "It waits");
        CHECK(ends.changes == 2);
        ends.disconnect();
    }
}
